"""Named tokens: who may ask, and who may change.

They lie in tokens.json of the model directory, which a copy of the model does not take along, and which only its owner
may read. A token is 256 random bits and is shown once; the file holds its SHA-256, which for so many random bits needs
no salt and no slow hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from likewise.errors import ModelDamaged, ModelError, UsageError, suggestion
from likewise.files import edition, write_atomically

NAME = "tokens.json"
PREFIX = "likewise_"
"""What every token begins with, so that one that was published by mistake is recognised."""

TokenScope = Literal["read", "write"]
"""Ask only, or ask and change."""

_NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_DIGESTS = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Token:
    """A token as the file has it. `name` goes into the history of what is changed with it."""

    name: str
    scope: TokenScope
    digest: str
    made: str


class Tokens:
    """The tokens of a model directory; a change of the file counts at once, in every process."""

    def __init__(self, root: Path) -> None:
        self._path = root / NAME
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._tokens: tuple[Token, ...] = ()
        self.ever = False
        """Whether the file was there when this process looked, now or before. It stays when the last token is taken
        back, for processes that never saw one, such as a worker that takes another's place: they open nothing."""

    def listed(self) -> tuple[Token, ...]:
        """All of them, in the order in which they were made.

        ModelDamaged when the file cannot be made sense of, ModelError when it cannot be read, or when others than its
        owner may write it.
        """
        with self._lock:
            try:
                found = os.stat(self._path)
            except FileNotFoundError:
                self._seen, self._tokens = None, ()
                return ()
            except OSError as error:  # whether there are any is open
                raise ModelError(
                    f"{self._path}: found no way to look at it ({error.strerror}), expected a file or none; let this "
                    "account read the model's directory"
                ) from error
            self.ever = True
            seen = edition(found)
            if seen != self._seen:
                if os.name == "posix" and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    raise ModelError(f"{self._path}: others than its owner may write it; run: chmod 600 {self._path}")
                self._tokens = self._read()
                self._seen = seen
            return self._tokens

    def find(self, given: str) -> Token | None:
        """The token that `given` is. Takes equally long whichever it is, and whether it is one."""
        digest = _digest(given)
        match = None
        for token in self.listed():
            if hmac.compare_digest(token.digest, digest):
                match = token
        return match

    def add(self, name: str, scope: TokenScope) -> str:
        """Make a token and return it, the only time that it is to be seen. UsageError for a name that cannot be."""
        if not _NAMES.fullmatch(name):
            raise UsageError(f"token name: found {name!r}, expected up to 64 letters, digits and . _ @ -")
        with self._writing():
            tokens = self.listed()
            if name in (token.name for token in tokens):
                raise UsageError(f"there is a token {name!r} already; remove it first, or choose another name")
            secret = PREFIX + secrets.token_urlsafe(32)
            made = datetime.now(UTC).isoformat(timespec="seconds")
            self._write((*tokens, Token(name, scope, _digest(secret), made)))
        return secret

    def remove(self, name: str) -> None:
        """Take a token back. UsageError for one that is not there."""
        with self._writing():
            tokens = self.listed()
            kept = tuple(token for token in tokens if token.name != name)
            if len(kept) == len(tokens):
                hint = suggestion(name, (token.name for token in tokens))
                raise UsageError(f"there is no token {name!r}{hint}; see: likewise token list")
            self._write(kept)

    def _read(self) -> tuple[Token, ...]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            if not isinstance(found, list):
                raise TypeError("no list")
            tokens = tuple(Token(**{key: str(value) for key, value in one.items()}) for one in found)  # type: ignore[arg-type]
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ModelDamaged(
                f"{self._path}: cannot be read ({error}); restore it, or remove it and make new tokens"
            ) from error
        if any(token.scope not in get_args(TokenScope) for token in tokens):
            raise ModelDamaged(f"{self._path}: a token is neither for reading nor for writing; make it anew")
        if not all(_DIGESTS.fullmatch(token.digest) for token in tokens):
            raise ModelDamaged(f"{self._path}: a token's digest is not 64 hexadecimal digits; make it anew")
        return tokens

    def _write(self, tokens: tuple[Token, ...]) -> None:
        """For nobody else to read."""
        content = json.dumps([asdict(token) for token in tokens], indent=2) + "\n"
        write_atomically(self._path, content.encode(), mode=0o600)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Alone with the file, among all processes."""
        lock = self._path.with_name(f".{NAME}.lock")
        try:
            handle = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise UsageError(
                f"another process is changing the tokens; try again, or remove {lock} if there is none"
            ) from None
        try:
            yield
        finally:
            os.close(handle)
            lock.unlink(missing_ok=True)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def scope_of(read: bool, write: bool) -> TokenScope:
    """The scope that a command's flags ask for. UsageError unless it is one of them."""
    if read == write:
        raise UsageError(f"found {'both --read and' if read else 'neither --read nor'} --write, expected one of them")
    return "write" if write else "read"
