"""What the ledger's tests teach."""

from __future__ import annotations

import numpy as np

from likewise.datastore.ledger import NewExample

FINGERPRINT = "fp"


def entry(text: str, label: str = "a") -> NewExample:
    return NewExample(text, (label,), None, np.full(384, len(text), dtype=np.float32))
