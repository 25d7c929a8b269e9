"""Who may ask, and who may change: hosts, origins, tokens."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from likewise.errors import ModelError, SettingError
from likewise.service.errors import Refusal
from likewise.service.tokens import Tokens, TokenScope

OPEN = frozenset(("/health", "/ready", "/docs", "/openapi.json"))
"""Paths that need no token: probes, and what tells how to ask."""

PROBES = frozenset(("/health", "/ready", "/metrics"))
"""Paths that are answered however much is under way: what they tell is wanted most then."""

ASKING = frozenset(("/v1/classify", "/predict"))
"""POST routes that change nothing."""

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="likewise"'}


@dataclass(frozen=True)
class Access:
    """The rules. `tokens` None: everybody may do everything; `always`: one is needed where there was none yet, too."""

    tokens: Tokens | None
    always: bool
    hosts: frozenset[str]
    origins: frozenset[str]

    def check(self, headers: Headers) -> None:
        """Refusal for a request by another name, or from another's page."""
        self._check_host(headers)
        self._check_origin(headers)

    def by(self, method: str, path: str, headers: Headers) -> str | None:
        """The name of whoever asks, None where there are no tokens. Refusal for who may not ask for this."""
        if self.tokens is None or path in OPEN:
            return None
        try:
            return self._name(self.tokens, method, path, headers)
        except ModelError as error:  # closed while it is so
            raise Refusal("unavailable", "the service's tokens cannot be read", "ask whoever runs it") from error

    def _name(self, tokens: Tokens, method: str, path: str, headers: Headers) -> str | None:
        if not (tokens.listed() or tokens.ever or self.always):
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            raise Refusal("unauthorized", "found no token, expected: Authorization: Bearer TOKEN",
                          "ask for one of whoever runs the service", CHALLENGE)  # fmt: skip
        token = tokens.find(given.strip())
        if token is None:
            raise Refusal("unauthorized", "found a token that is not known here, or no longer",
                          "ask for a new one of whoever runs the service", CHALLENGE)  # fmt: skip
        if token.scope != "write" and wanted(method, path) == "write":
            raise Refusal("forbidden", f"the token {token.name!r} is for reading, and this is a change",
                          "ask for one that may write")  # fmt: skip
        return token.name

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "")
        name = _name_of(host)
        if name not in self.hosts and not _is_address(name):
            raise Refusal("forbidden", f"found the host {host[:100]!r}, which is not a name of this service",
                          "call it by its address, or start it with --allow-hosts NAME")  # fmt: skip

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is None or origin.lower() in self.origins:
            return
        if _place_of(origin) != headers.get("host", "").lower():
            raise Refusal("forbidden", f"found a request from a page of {origin[:100]!r}",
                          "use the service from its own pages, or start it with --allow-origins ORIGIN")  # fmt: skip


def wanted(method: str, path: str) -> TokenScope:
    """What a token has to allow for this."""
    return "read" if method in ("GET", "HEAD") or path in ASKING else "write"


def hosts(bound: str, allowed: str | None) -> frozenset[str]:
    """The names by which a service that is bound to an address may be called.

    Addresses always may: a page that has a name of its own point at this machine (DNS rebinding) has a name to show.
    """
    return frozenset({"localhost", bound.lower(), *(name.lower() for name in _parts(allowed))})


def origins(allowed: str | None) -> frozenset[str]:
    """The origins whose pages may use the service. SettingError for what is none."""
    found = frozenset(origin.lower() for origin in _parts(allowed))
    for origin in found:
        scheme, _, place = origin.partition("://")
        if scheme not in ("http", "https") or not place or _place_of(origin) != place:
            raise SettingError(
                f"http_allow_origins: found {origin!r}, expected an origin such as https://tool.example.org"
            )
    return found


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parts(listed: str | None) -> Collection[str]:
    return [part.strip() for part in (listed or "").split(",") if part.strip()]


def _name_of(host: str) -> str:
    """A Host header without its port, and an IPv6 address without its brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _place_of(origin: str) -> str:
    """Host and port of an origin; empty where it has none, or is malformed."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
