"""likewise token, and what `likewise serve` says where it cannot start; tests/service has the service itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from likewise.service.tokens import Tokens


def test_a_token_is_made_listed_and_taken_back(own, likewise):
    made = likewise("token", "add", own, "ann", "--write")
    assert made.status == 0
    secret = made.out.strip()
    assert "will not be shown again" in made.err and secret not in made.err
    token = Tokens(own).find(secret)
    assert token is not None and (token.name, token.scope) == ("ann", "write")
    row = likewise("token", "add", own, "page", "--read", "--json").json()
    assert Tokens(own).find(row.pop("token")).name == "page"
    assert row == {"name": "page", "scope": "read"}
    assert [(row["name"], row["scope"]) for row in likewise("token", "list", own, "--json").json_lines()] == [
        ("ann", "write"),
        ("page", "read"),
    ]
    assert secret not in likewise("token", "list", own).out
    assert likewise("token", "remove", own, "ann", "--json").json() == {"removed": "ann"}
    likewise("token", "remove", own, "page")
    assert "no tokens" in likewise("token", "list", own).out
    assert Tokens(own).find(secret) is None


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("add", "{model}", "ann"), ["--read", "--write"]),
        (("add", "{model}", "ann", "--read", "--write"), ["--read", "--write"]),
        (("add", "{model}", "a b", "--read"), ["'a b'", "letters"]),
        (("remove", "{model}", "ann"), ["no token 'ann'", "likewise token list"]),
        (("list", "{model}-not"), ["-not"]),
        (("ad", "{model}", "ann"), ["did you mean 'add'"]),
    ],
)
def test_what_cannot_be(own, likewise, arguments, fragments):
    likewise("token", *(argument.format(model=own) for argument in arguments)).refused(*fragments)


def test_a_copy_of_a_model_has_no_tokens(own, likewise, tmp_path):
    from likewise.model import Model

    likewise("token", "add", own, "ann", "--write")
    with Model.open(own) as model:
        model.save(tmp_path / "copy")
    assert likewise("token", "list", tmp_path / "copy", "--json").json_lines() == []
    assert likewise("check", own).status == 0


def test_without_its_extra_the_service_says_what_to_install(own):
    program = (
        "import sys; sys.modules['fastapi'] = None\n"  # what import takes for "not there"
        "from likewise.cli import main; sys.exit(main(['serve', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(own)], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    assert done.returncode == 2, done.stderr
    assert (
        done.stderr
        == "likewise: the service needs fastapi, which is not installed; run: pip install 'likewise[serve]'\n"
    )
