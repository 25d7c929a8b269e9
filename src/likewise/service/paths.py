"""Which paths there are, what may be done with each, and what a query may name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from likewise.errors import suggestion
from likewise.service.errors import Refusal

_Names = frozenset[str] | None
"""The parameters of a query; None: any, which count for nothing."""


class Paths:
    """The paths of an OpenAPI document, and others that can be got."""

    def __init__(self, described: Mapping[str, Mapping[str, Any]], others: Iterable[str]) -> None:
        routes: dict[str, dict[str, _Names]] = {
            path: {method.upper(): _named(path, its) for method, its in operations.items()}
            for path, operations in described.items()
        }
        self._fixed = {path: its for path, its in routes.items() if "{" not in path}
        self._fixed.update({path: {"GET": None} for path in others})
        self._patterns = [
            (re.compile(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(path))), its)
            for path, its in routes.items()
            if "{" in path
        ]

    def check(self, method: str, path: str, query: bytes) -> None:
        """Refusal for a path that is not there, a method that is not for it, or a parameter that nothing reads.

        Whoever writes `?erased=true` means to erase, and must not hear that it was done.
        """
        found = self._fixed.get(path) or next((its for pattern, its in self._patterns if pattern.fullmatch(path)), None)
        if found is None:
            raise Refusal("not_found", "found no such path here", "see /docs")
        if method not in found:
            raise Refusal("method_not_allowed", f"found {method[:20]}, expected {' or '.join(found)} here", "see /docs",
                          {"Allow": ", ".join(found)})  # fmt: skip
        known = found[method]
        if query and known is not None:
            for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
                if name not in known:
                    expected = f"expected {' or '.join(sorted(known))}" if known else "expected none here"
                    raise Refusal("invalid", f"found the parameter {name[:50]!r}, {expected}{suggestion(name, known)}",
                                  "nothing was done; see /docs")  # fmt: skip


def _named(path: str, operation: Mapping[str, Any]) -> _Names:
    """What the query of an operation may name; anything where other people's clients and probes ask."""
    if not path.startswith("/v1/"):
        return None
    return frozenset(each["name"] for each in operation.get("parameters", ()) if each["in"] == "query")
