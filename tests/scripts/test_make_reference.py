"""The reference pages: up to date, complete, and refused when they are not."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import click
import pytest

from likewise.cli import cli
from likewise.settings import SETTINGS

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", REPO / "scripts" / "make_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_up_to_date(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--check"]) == 0, capsys.readouterr().out


def test_what_is_missing_or_changed_is_named_in_one_line_and_left_alone(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["--check"], tmp_path) == 1
    assert capsys.readouterr().out.startswith("docs/commands.md, docs/settings.md: out of date; run: ")
    assert list(tmp_path.iterdir()) == []

    assert script.main([], tmp_path) == 0
    assert script.main(["--check"], tmp_path) == 0
    page = tmp_path / "settings.md"
    page.write_text(page.read_text(encoding="utf-8").replace("`5`", "`6`"), encoding="utf-8")
    capsys.readouterr()

    assert script.main(["--check"], tmp_path) == 1
    assert capsys.readouterr().out == "docs/settings.md: out of date; run: python scripts/make_reference.py\n"
    assert "`6`" in page.read_text(encoding="utf-8")


def test_an_unknown_argument_is_refused(script: ModuleType, tmp_path: Path) -> None:
    assert script.main(["--chek"], tmp_path) == 2
    assert list(tmp_path.iterdir()) == []


def test_every_command_has_a_section_with_its_usage_and_all_its_options(script: ModuleType) -> None:
    page = script.pages()["commands.md"]
    titled = re.split(r"^## (.+)\n", page, flags=re.MULTILINE)
    sections = dict(zip(titled[1::2], titled[2::2], strict=True))
    for name, command in cli.commands.items():
        section = sections[f"likewise {name}"]
        assert f"(#likewise-{name})" in titled[0]
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                listed = section + sections["Options of every command"]
                assert re.search(rf"^- `([^`]*, )?{parameter.opts[0]}\b", listed, re.MULTILINE), (name, parameter.opts)
            else:
                assert parameter.make_metavar(click.Context(command)) in section.split("```")[1]


def test_a_new_command_puts_the_page_out_of_date(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command(help="Say nothing.\n\nA second paragraph.\n\n\b\nkept  as\n  it is")
    def hush() -> None: ...

    below = click.Group("below", commands={"hush": hush, "unseen": click.Command("unseen", hidden=True)})
    monkeypatch.setitem(cli.commands, "below", below)

    assert script.main(["--check"]) == 1
    assert capsys.readouterr().out.startswith("docs/commands.md: out of date")
    page = script.pages()["commands.md"]
    assert "## likewise below hush\n\n```text\nlikewise below hush [OPTIONS]\n```\n\nSay nothing.\n\nA second" in page
    assert "```text\nkept  as\n  it is\n```" in page
    assert "unseen" not in page


def test_every_setting_has_a_row(script: ModuleType) -> None:
    rows = [line for line in script.pages()["settings.md"].splitlines() if line.startswith("| `")]
    assert len(rows) == len(SETTINGS)
    for row, setting in zip(rows, SETTINGS.values(), strict=True):
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert cells[:3] == [f"`{setting.name}`", f"`{setting.flag}`", f"`{setting.variable}`"]
        assert cells[4] == setting.expected
        assert len(cells) == 6


def test_the_page_on_scikit_learn_has_the_checks_that_cannot_apply() -> None:
    spec = importlib.util.spec_from_file_location("checks", REPO / "tests" / "test_estimator_checks.py")
    assert spec is not None and spec.loader is not None
    checks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checks)
    page = (REPO / "docs" / "scikit-learn.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| `(check_\w+)` \| (.+) \|$", page, re.MULTILINE)) == checks.CANNOT_APPLY
