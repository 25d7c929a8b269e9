"""The file of tokens: what it holds, who may read it, and what is refused."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from likewise.errors import ModelDamaged, ModelError, UsageError
from likewise.service.tokens import NAME, Tokens, scope_of


def test_a_token_is_kept_as_its_hash_and_readable_for_its_owner_alone(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    assert tokens.listed() == ()
    secrets = [tokens.add("ann", "write"), tokens.add("page", "read")]
    file = tmp_path / NAME
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not any(secret in file.read_text() for secret in secrets)
    assert [(token.name, token.scope) for token in tokens.listed()] == [("ann", "write"), ("page", "read")]
    assert len(set(secrets)) == 2 and all(len(secret) > 40 for secret in secrets)
    assert os.listdir(tmp_path) == [NAME]


def test_only_the_whole_token_is_one(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    secret = tokens.add("ann", "write")
    other = Tokens(tmp_path)
    found = other.find(secret)
    assert found is not None and found.name == "ann"
    for wrong in ("", secret[:-1], secret + "x", secret.upper(), "\ud800", found.digest):
        assert other.find(wrong) is None


def test_what_cannot_be(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    tokens.add("ann", "read")
    with pytest.raises(UsageError, match="'ann' already"):
        tokens.add("ann", "write")
    for name in ("", "a b", "-x", "é", "a" * 65, "../x"):
        with pytest.raises(UsageError, match="expected up to 64 letters"):
            tokens.add(name, "read")
    with pytest.raises(UsageError, match="did you mean 'ann'"):
        tokens.remove("anna")
    for flags in ((False, False), (True, True)):
        with pytest.raises(UsageError, match="expected one of them"):
            scope_of(*flags)
    assert [token.name for token in tokens.listed()] == ["ann"]


def test_a_file_that_others_may_write_or_that_is_damaged_opens_nothing(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    secret = tokens.add("ann", "read")
    file = tmp_path / NAME
    file.chmod(0o622)
    with pytest.raises(ModelError, match="chmod 600"):
        Tokens(tmp_path).find(secret)
    file.chmod(0o600)
    for content in (
        "{",
        "{}x",
        "{}",
        '"x"',
        '[{"name": "ann"}]',
        *(json.dumps([{"name": "a", "scope": "read", "digest": it, "made": ""}]) for it in ("", "é" * 64, "a" * 65)),
        json.dumps([{"name": "a", "scope": "all", "digest": "", "made": ""}]),
    ):
        file.write_text(content)
        with pytest.raises(ModelDamaged):
            tokens.find(secret)


def test_a_file_that_cannot_be_looked_at_is_told(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("")  # a file: there is no looking into it, whoever asks
    with pytest.raises(ModelError, match="let this account read"):
        Tokens(tmp_path / "model").listed()
