"""Run the code in README.md and docs/, so that what readers copy works.

    python scripts/check_snippets.py [FILE.md ...]      # without arguments: README.md and docs/**/*.md

Fenced blocks named `python`, `console`, `bash` or `sh` run from top to bottom. The blocks of one file share one
empty temporary folder and one Python namespace; nothing passes from one file to the next. In a `console` block
the lines that start with `$ ` are run, and the others are what a reader sees printed (not compared). Blocks with
another name, or none, are not run. Three comments steer this:

    <!-- not run: it takes a quarter of an hour -->     above a block skips that block; the reason is required

    <!-- in the background: http://127.0.0.1:8000/ready -->
                                                        above a shell block: it goes on running until the page ends; the
                                                        next block begins when the address answers

    <!-- setup                                          runs as bash and is not shown: it makes the files that the
    cp "$REPO/examples/reviews.csv" .                   blocks need; $REPO is the checkout
    -->

Commands find the `likewise` of the Python that runs this script. The exit status is 1 when a block fails.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

REPO = Path(__file__).resolve().parent.parent
SHELLS = ("bash", "sh", "console")
TIMEOUT = 600  # seconds a block of shell commands may take
READY = 60  # seconds until a block in the background answers, and until it has stopped

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,}) *(?P<name>[\w+-]*)")
_NOT_RUN = re.compile(r"^ *<!-- *not run *:? *(?P<reason>.*?) *-->\s*$")
_BACKGROUND = re.compile(r"^ *<!-- *in the background *:? *(?P<address>\S*?) *-->\s*$")
_SETUP = re.compile(r"^ *<!-- *setup *$")


class BadMarker(Exception):
    """A marker or a fence cannot be understood."""


@dataclass(frozen=True)
class Block:
    """A piece of code in a page: `line` is that of its first line; `skip` says why it is not run.

    `address`: it runs in the background, and answers there once it is ready.
    """

    language: str
    code: str
    line: int
    skip: str | None = None
    address: str | None = None


def blocks_of(page: str) -> Iterator[Block]:
    """The blocks of a Markdown page that are meant to run, in order, skipped ones included."""
    lines = page.splitlines()
    skip: str | None = None
    address: str | None = None
    at = 0
    while at < len(lines):
        line = lines[at]
        fence = _FENCE.match(line)
        if marker := _NOT_RUN.match(line):
            skip = marker["reason"]
            if not skip:
                raise BadMarker(f"line {at + 1}: a block is marked as not run without a reason")
        elif marker := _BACKGROUND.match(line):
            address = marker["address"]
            if not address.startswith("http://127.0.0.1:"):
                raise BadMarker(f"line {at + 1}: expected the address at which it answers, http://127.0.0.1:...")
        elif _SETUP.match(line):
            end = _closing(lines, at, re.compile(r"^ *--> *$"))
            yield Block("bash", "\n".join(lines[at + 1 : end]), at + 2)
            at = end
        elif fence:
            end = _closing(lines, at, re.compile(rf"^ *{fence['ticks'][0]}{{{len(fence['ticks'])},}} *$"))
            if fence["name"] in ("python", *SHELLS):
                if address and fence["name"] == "python":
                    raise BadMarker(f"line {at + 1}: only a shell block runs in the background")
                yield Block(fence["name"], textwrap.dedent("\n".join(lines[at + 1 : end])), at + 2, skip, address)
            elif skip is not None or address is not None:
                raise BadMarker(f"line {at + 1}: a block named {fence['name']!r} never runs; remove its marker")
            skip, address, at = None, None, end
        elif line.strip() and (skip is not None or address is not None):
            raise BadMarker(f"line {at + 1}: a block was expected right after {_marked(skip, address)}")
        at += 1
    if skip is not None or address is not None:
        raise BadMarker(f"the page ends after {_marked(skip, address)}")


def _marked(skip: str | None, address: str | None) -> str:
    return f"'not run: {skip}'" if skip is not None else f"'in the background: {address}'"


def _closing(lines: Sequence[str], opening: int, end: re.Pattern[str]) -> int:
    for at in range(opening + 1, len(lines)):
        if end.match(lines[at]):
            return at
    raise BadMarker(f"line {opening + 1}: what opens here is never closed")


def shell_code(block: Block) -> str:
    """What bash is to run: the whole block, or the commands of a console session (`> ` continues a `$ ` line)."""
    if block.language != "console":
        return block.code
    kept = []
    for line in block.code.splitlines():
        if line.startswith("$ "):
            kept.append(line[2:])
        elif kept and kept[-1].endswith("\\"):
            kept.append(line.removeprefix("> "))
    if not kept:
        raise BadMarker(f"line {block.line}: a console block without a line that starts with '$ '")
    return "\n".join(kept)


def _run_shell(block: Block) -> str | None:
    """None when every command succeeds, otherwise what was printed."""
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", shell_code(block)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"still running after {TIMEOUT} s"
    return None if done.returncode == 0 else f"{done.stdout}exit status {done.returncode}"


def _start(block: Block, log: IO[str]) -> tuple[subprocess.Popen[str] | None, str | None]:
    """A block's process in a group of its own once it answers; or what was printed, where it does not."""
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", shell_code(block)],
        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + READY
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(str(block.address), timeout=5):
                return process, None
        except urllib.error.HTTPError:
            return process, None  # it answers
        except OSError:
            time.sleep(0.2)
    _stop(process)
    log.seek(0)
    return None, f"{log.read()}no answer at {block.address}"


def _stop(process: subprocess.Popen[str]) -> None:
    """Tell a block's processes to stop, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(READY)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _run_python(block: Block, page: Path, namespace: dict[str, object]) -> str | None:
    """None when the block runs through, otherwise its traceback, whose line numbers are those of the page."""
    try:
        exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), namespace)
    except (Exception, SystemExit):
        return traceback.format_exc(limit=-3)
    return None


def check_page(page: Path) -> bool:
    """Run one page's blocks in a folder of their own, say how it went, and stop at the first that fails."""
    name = page.relative_to(REPO) if page.is_relative_to(REPO) else page
    namespace: dict[str, object] = {"__name__": "__main__"}
    started, ran, skipped = time.monotonic(), 0, []
    blocks = list(blocks_of(page.read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory(prefix="likewise-snippets-") as folder, contextlib.ExitStack() as running:
        os.chdir(folder)
        try:
            for block in blocks:
                if block.skip is not None:
                    skipped.append(f"  line {block.line} not run: {block.skip}")
                    continue
                failure: str | None
                if block.address is not None:
                    log = running.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
                    process, failure = _start(block, log)
                    if process is not None:
                        running.callback(_stop, process)
                elif block.language in SHELLS:
                    failure = _run_shell(block)
                else:
                    failure = _run_python(block, page, namespace)
                if failure is not None:
                    print(f"{name}:{block.line}: this {block.language} block fails\n")
                    print(textwrap.indent(block.code, "    ") + "\n\n" + textwrap.indent(failure, "    "))
                    return False
                ran += 1
        finally:
            os.chdir(REPO)
    print(f"{name}: {ran} blocks run in {time.monotonic() - started:.0f} s", *skipped, sep="\n")
    return True


def main(arguments: Sequence[str]) -> int:
    """Check the given pages, each in a process of its own; 0 when every block of every page runs."""
    if len(arguments) == 2 and arguments[0] == "--page":
        try:
            return 0 if check_page(Path(arguments[1]).resolve()) else 1
        except BadMarker as error:
            print(f"{arguments[1]}: {error}")
            return 1
    pages = [Path(argument) for argument in arguments] or [REPO / "README.md", *sorted((REPO / "docs").rglob("*.md"))]
    scripts = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "REPO": str(REPO),
        "PATH": os.pathsep.join((scripts, os.environ.get("PATH", os.defpath))),
    }
    command = [sys.executable, __file__, "--page"]
    missing = [page for page in pages if not page.is_file()]
    for page in missing:
        print(f"{page}: no such file")
    failed = [page for page in pages if page not in missing and _fails([*command, str(page)], environment)]
    return 1 if missing or failed else 0


def _fails(command: list[str], environment: dict[str, str]) -> bool:
    return subprocess.run(command, env=environment, check=False).returncode != 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
