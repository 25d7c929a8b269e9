"""The checker of the documentation's code: what it runs, what it skips, and that it fails when the code does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

CHECKER = Path(__file__).resolve().parents[2] / "scripts" / "check_snippets.py"


def check(folder: Path, page: str) -> tuple[int, str]:
    path = folder / "page.md"
    path.write_text(page, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(CHECKER), str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


def test_blocks_share_a_namespace_and_an_empty_folder(tmp_path: Path) -> None:
    status, said = check(
        tmp_path,
        """
<!-- setup
test -z "$(ls -A)" && test -f "$REPO/pyproject.toml"
echo made > setup.txt
-->

```python
number = 41
```

```console
$ cat setup.txt
made
$ echo one \\
> two > out.txt
```

- in a list:

  ```python
  assert open("out.txt").read() == "one two\\n"
  assert number + 1 == 42
  ```

```json
{"never": "run"
```
""",
    )
    assert status == 0, said
    assert "4 blocks run" in said
    assert not (tmp_path / "out.txt").exists()


def test_commands_find_the_python_that_checks(tmp_path: Path) -> None:
    status, said = check(tmp_path, f'```bash\ntest "$(command -v python)" -ef "{sys.executable}"\n```\n')
    assert status == 0, said


@pytest.mark.parametrize(
    ("block", "line"),
    [
        ("```python\n1 / 0\n```", 4),
        ("```python\nraise SystemExit(0)\n```", 4),
        ("```bash\nfalse\ntrue\n```", 4),
        ("```console\n$ false | true\n```", 4),
    ],
)
def test_a_failing_block_is_named_with_its_line(tmp_path: Path, block: str, line: int) -> None:
    status, said = check(tmp_path, f"# Title\n\n{block}\n")
    assert status == 1
    assert f"page.md:{line}: this" in said


def test_a_traceback_has_the_line_of_the_page(tmp_path: Path) -> None:
    _, said = check(tmp_path, "\n\n```python\nfine = 1\n\nundefined_name\n```\n")
    assert 'page.md", line 6' in said


def test_a_marked_block_is_skipped_with_its_reason(tmp_path: Path) -> None:
    status, said = check(tmp_path, "<!-- not run: needs an hour -->\n\n```python\n1 / 0\n```\n\n```bash\ntrue\n```\n")
    assert status == 0, said
    assert "1 blocks run" in said
    assert "line 4 not run: needs an hour" in said


def test_a_block_in_the_background_runs_until_the_page_ends(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    page = f"""
<!-- in the background: {address}/ -->
```bash
echo $$ > pid
exec python -m http.server {port} --bind 127.0.0.1
```

```bash
cp pid {tmp_path}/pid
python -c "import urllib.request as r; assert r.urlopen('{address}/pid').read()"
```
"""
    status, said = check(tmp_path, page)
    assert status == 0, said
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    status, said = check(tmp_path, page.replace("exec", "echo why; exit 1; exec"))
    assert status == 1
    assert "why" in said and f"no answer at {address}/" in said


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("<!-- not run: -->\n```python\n```\n", "line 1: a block is marked as not run without a reason"),
        ("<!-- not run: slow -->\nprose\n```python\n```\n", "line 2: a block was expected"),
        ("<!-- not run: slow -->\n", "the page ends after"),
        ("<!-- in the background: https://example.org -->\n```bash\n```\n", "line 1: expected the address"),
        ("<!-- in the background: http://127.0.0.1:1/ -->\n```python\n```\n", "line 2: only a shell block"),
        ("<!-- in the background: http://127.0.0.1:1/ -->\nprose\n", "line 2: a block was expected"),
        ("<!-- in the background: http://127.0.0.1:1/ -->\n", "the page ends after 'in the background"),
        ("<!-- not run: slow -->\n```json\n```\n", "line 2: a block named 'json' never runs"),
        ("```python\n1\n", "line 1: what opens here is never closed"),
        ("```console\nlikewise demo\n```\n", "line 2: a console block without a line that starts with '$ '"),
    ],
)
def test_a_marker_that_makes_no_sense_fails(tmp_path: Path, page: str, complaint: str) -> None:
    status, said = check(tmp_path, page)
    assert status == 1
    assert complaint in said
