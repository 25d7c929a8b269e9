"""Which paths there are, and what may be done with each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from likewise.service.errors import Refusal


class Paths:
    """The paths of an OpenAPI document, and others that can be got."""

    def __init__(self, described: Mapping[str, Mapping[str, Any]], others: Iterable[str]) -> None:
        methods = {path: [method.upper() for method in its] for path, its in described.items()}
        self._fixed = {path: its for path, its in methods.items() if "{" not in path} | {
            path: ["GET"] for path in others
        }
        self._patterns = [
            (re.compile(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(path))), its)
            for path, its in methods.items()
            if "{" in path
        ]

    def check(self, method: str, path: str) -> None:
        """Refusal for a path that is not there, or a method that is not for it."""
        found = self._fixed.get(path) or next((its for pattern, its in self._patterns if pattern.fullmatch(path)), None)
        if found is None:
            raise Refusal("not_found", "found no such path here", "see /docs")
        if method not in found:
            raise Refusal("method_not_allowed", f"found {method[:20]}, expected {' or '.join(found)} here", "see /docs",
                          {"Allow": ", ".join(found)})  # fmt: skip
