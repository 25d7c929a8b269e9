"""What the service says of our errors: what went wrong and what to do, and nothing of the machine."""

from __future__ import annotations

import pytest

from likewise.errors import LedgerAway, LedgerError, LedgerMoved, LedgerUnsure, LikewiseError, ModelDamaged
from likewise.service.errors import refusal_of


@pytest.mark.parametrize(
    ("error", "said", "hint"),
    [
        (LedgerUnsure, "it may be there or not", "history"),
        (LedgerAway, "cannot be reached", "again soon"),
        (LedgerMoved, "nothing was changed", "start it anew"),
        (LedgerError, "cannot be used", "likewise check"),
        (ModelDamaged, "cannot be used", "likewise check"),
    ],
)
def test_a_datastore_in_trouble_is_told_by_kind_alone(error: type[LikewiseError], said: str, hint: str) -> None:
    refusal = refusal_of(error("/srv/model/datastore.db: a trouble; do something"))
    assert (refusal.kind, refusal.status) == ("unavailable", 503)
    assert said in refusal.message
    assert hint in refusal.hint
    assert "/srv" not in refusal.message + refusal.hint
