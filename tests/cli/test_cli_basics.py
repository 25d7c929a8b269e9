"""What holds for every command: help, mistakes on the command line, exit status, start-up."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from likewise import __version__
from likewise.cli import cli
from likewise.settings import SETTINGS, settings_of

HEAVY = ("accelerate", "numpy", "onnxruntime", "rich", "safetensors", "sklearn", "sqlalchemy", "torch", "transformers")


@pytest.mark.parametrize("command", ["", *cli.commands])
def test_help_names_every_argument_and_option(likewise, command):
    result = likewise(*([command] if command else []), "--help")

    assert result.status == 0
    assert result.err == ""
    assert "internal" not in result.out
    for parameter in (cli.commands[command] if command else cli).params:
        if parameter.param_type_name == "option":
            assert parameter.opts[-1] in result.out, parameter.name
            assert getattr(parameter, "help", None), f"{command} {parameter.opts}: no help"


def test_the_commands_are_those_of_the_design(likewise):
    listed = re.findall(r"^  ([a-z-]+)  +\S", likewise().out.split("Commands:")[1], flags=re.MULTILINE)

    assert listed == [
        "demo", "fit", "wrap", "train-encoder", "classify", "evaluate", "teach", "forget", "relabel", "rename-label",
        "merge-labels", "history", "diff", "revert", "erase", "refit", "move", "export", "recipes", "serve",
        "token", "check",
    ]  # fmt: skip


def test_a_group_by_itself_shows_its_commands(likewise):
    told = likewise("token")

    assert (told.status, told.err) == (0, "")
    assert re.findall(r"^  ([a-z]+)  +\S", told.out.split("Commands:")[1], flags=re.MULTILINE) == [
        "add", "list", "remove",
    ]  # fmt: skip


def test_version(likewise):
    assert likewise("--version").out == f"likewise {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["clasify"], "no such command 'clasify'; did you mean 'classify'?"),
        (["frobnicate"], "no such command 'frobnicate'; commands are demo, fit,"),
        (["fit", "--recpie", "x"], "no such option --recpie; did you mean '--recipe'?"),
        (["fit", "m"], "missing argument 'DATA'"),
        (["forget", "m", "seven"], "'seven' is not a valid integer"),
        (["classify", "m"], "give either TEXT (in quotes), or --input FILE"),
        (["classify", "m", "text", "--input", "f.csv"], "give either TEXT (in quotes), or --input FILE"),
        (["classify", "m", "text", "--output", "f.csv"], "--output belongs to --input"),
        (["diff", "m", "1", "2", "--text-column", "x"], "--text-column belongs to --input"),
        (["relabel", "m", "7", "--label", "x", "--id-column", "n"], "--id-column belongs to --input"),
        (
            ["teach", "m", "text", "--label", "x", "--ref-column", "r", "--skip-invalid", "f"],
            "--ref-column and --skip-invalid belong to --input",
        ),
        (["teach", "m", "text", "--label", "x", "--ref", ""], "--ref: found an empty text"),
        (["refit", "m", "--prune", "--epochs", "3"], "--epochs belongs to a refit, and --prune trains nothing"),
        (["fit", "m", "f.csv", "--recipe", "frozen", "--epochs", "3"], "epochs: recipe 'frozen' trains nothing"),
        (["fit", "/proc/m", "f.csv"], "because /proc may not be written"),
        (
            ["classify", "m", "text", "--neighbours", "-1"],
            "--neighbours: found -1, expected a whole number, at least 0",
        ),
        (["classify", "m", "text", "--runtime", "onxruntime"], "did you mean 'onnxruntime'?"),
        (["teach", "m", "--label", "x"], "give either TEXT with --label, or --input FILE"),
        (["teach", "m", "text", "--on-conflict", "merge"], "'merge' is not one of"),
        (["relabel", "m", "7"], "give the right labels"),
        (["merge-labels", "m", "a", "b"], "missing option '--into'"),
        (["classify", "", "text"], "invalid value for 'MODEL': found an empty name"),
        (["fit", "m", ""], "invalid value for 'DATA': found an empty name"),
        (["classify", "m", "--input", "f.csv", "--output", ""], "invalid value for '--output': found an empty name"),
        (["teach", "m", "--input", "f.csv", "--skip-invalid", ""], "'--skip-invalid': found an empty name"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(likewise, arguments, expected):
    likewise(*arguments).refused(expected)


def test_a_mistake_in_the_environment_is_one_line(likewise, single):
    likewise("classify", single, "text", env={"LIKEWISE_NEIGHBOURS": "many"}).refused("LIKEWISE_NEIGHBOURS", "'many'")
    likewise("classify", single, "text", env={"LIKEWISE_NEIGHBORS": "3"}).refused("did you mean LIKEWISE_NEIGHBOURS?")


def test_every_setting_is_a_flag_of_some_command():
    flags = {option for command in cli.commands.values() for parameter in command.params for option in parameter.opts}

    assert {setting.flag for setting in SETTINGS.values()} <= flags
    assert {setting.flag for setting in settings_of("fit")} <= {o for p in cli.commands["fit"].params for o in p.opts}


def test_nothing_heavy_is_imported_before_a_command_needs_it(kit):
    code = "import sys, likewise.cli; print([name for name in sys.argv[1:] if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, env=kit.environment(), check=True
    )

    assert done.stdout == "[]\n"


def test_a_mistake_of_ours_is_status_1_and_says_so(kit):
    code = (
        "import sys, likewise.commands.answering as answering\n"
        "answering.open_model = lambda path, **_: 1 / 0\n"
        "from likewise.cli import main\n"
        "sys.exit(main(['classify', 'm', 'text', *sys.argv[1:]]))"
    )

    def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=kit.environment(**env)
        )

    quiet = run()
    assert (quiet.returncode, quiet.stdout) == (1, "")
    (line,) = quiet.stderr.splitlines()
    assert "ZeroDivisionError" in line
    assert "not yours" in line
    for loud in (run("--debug"), run(LIKEWISE_DEBUG="1")):
        assert loud.returncode == 1
        assert "Traceback (most recent call last)" in loud.stderr


def test_who_stops_reading_gets_no_traceback(kit, single, tmp_path):
    data = kit.write_jsonl(tmp_path / "texts.jsonl", kit.rows() * 20)
    command = [kit.command, "classify", str(single), "--input", str(data), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=kit.environment()) as process:
        assert json.loads(process.stdout.readline())["label"]
        process.stdout.close()
        errors = process.stderr.read()

    assert errors == b""
    assert process.returncode == 141


def test_who_stops_reading_a_drawing_gets_no_traceback(kit):
    with subprocess.Popen(
        [kit.command, "recipes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=kit.environment()
    ) as process:
        process.stdout.close()
        errors = process.stderr.read()

    assert (process.returncode, errors) == (141, b"")


@pytest.mark.parametrize(
    ("closed", "arguments", "status", "told"),
    [
        (0, ["classify", "{}", "--input", "-"], 2, "standard input: found nothing"),
        (1, ["classify", "{}", "where is my parcel", "--json"], 0, ""),
        (1, ["classify", "{}", "where is my parcel"], 0, ""),
        (2, ["clasify"], 2, ""),
    ],
)
def test_a_standard_stream_may_be_closed(likewise, single, closed, arguments, status, told):
    result = likewise(*(part.replace("{}", str(single)) for part in arguments), preexec_fn=lambda: os.close(closed))

    assert result.status == status, result
    assert result.out == ""
    assert told in result.err
    assert len(result.err.splitlines()) == bool(told)


def test_an_interrupt_is_one_line(kit, own):
    command = [kit.command, "teach", str(own), "--input", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=kit.environment(),
        preexec_fn=_heeding_interrupts,
    ) as process:  # fmt: skip
        process.stdin.write(b'{"text": "so far", "label": "praise"}\n')
        process.stdin.flush()
        _until_reading_standard_input(process.pid)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)

    assert process.returncode == 130
    assert (out, errors) == (b"", b"likewise: interrupted\n")


def test_an_interrupt_while_the_command_is_imported_is_one_line(kit):
    code = (
        "import os, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'click':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from likewise.__main__ import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=kit.environment(),
        preexec_fn=_heeding_interrupts,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "likewise: interrupted\n")


def _heeding_interrupts() -> None:
    """What a shell runs in the background is started deaf to interrupts, and so is what the tests start there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _until_reading_standard_input(pid: int) -> None:
    """Wait until a process has opened the model and taken what was in the pipe."""
    import time

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        waiting = Path(f"/proc/{pid}/wchan").read_text(encoding="utf-8")
        if "pipe_read" in waiting or "pipe_wait" in waiting:
            return
        time.sleep(0.05)
    pytest.skip("cannot see when the process waits for its input")


def test_bars_are_drawn_on_a_terminal_and_only_there(kit, single, tmp_path):
    data = kit.write_jsonl(tmp_path / "test.jsonl", kit.rows(4))
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [kit.command, "evaluate", str(single), str(data), "--json"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=kit.environment(TERM="xterm"),
        check=True,
    )
    os.close(theirs)
    drawn = os.read(ours, 100_000).decode()
    os.close(ours)

    assert "Classifying" in drawn
    assert json.loads(done.stdout)["n"] == 12


def test_recipes(likewise):
    told = likewise("recipes")
    assert told.status == 0
    assert "likewise" in told.out
    assert "frozen" in told.out
    for columns in ("40", "60", "80"):
        narrow = likewise("recipes", env={"COLUMNS": columns}).out
        assert "…" not in narrow
        assert max(map(len, narrow.splitlines())) <= int(columns)

    listed = likewise("recipes", "--json").json_lines()
    assert {row["recipe"] for row in listed} >= {"likewise", "frozen"}
    assert all(row.keys() == {"recipe", "objective", "use", "source"} and all(row.values()) for row in listed)


def test_check_finds_a_flipped_byte(likewise, own):
    assert likewise("check", own).out == f"{own} is sound.\n"
    assert likewise("check", own, "--json").json() == {"sound": True, "findings": []}
    weights = next(own.glob("generations/0001/**/*.onnx"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)

    result = likewise("check", own)
    assert result.status == 2
    assert weights.name in result.out
    assert len(result.err.splitlines()) == 1
    found = likewise("check", own, "--json")
    assert found.status == 2
    assert json.loads(found.out)["sound"] is False
    assert weights.name in json.loads(found.out)["findings"][0]


@pytest.mark.parametrize("command", [["classify", "{}", "text"], ["check", "{}"], ["forget", "{}", "1"]])
def test_what_is_no_model_is_said_to_be_none(likewise, tmp_path, command):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("not a model", encoding="utf-8")

    for name in ("missing", "other"):
        path = str(tmp_path / name)
        result = likewise(*(part.replace("{}", path) for part in command))
        assert result.status == 2
        assert path in result.err + result.out
        assert "Traceback" not in result.err
