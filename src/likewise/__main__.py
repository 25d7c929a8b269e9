"""Where the command begins: whoever interrupts it, however early, gets a status and no traceback."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the process's own command line and return its exit status."""
    try:
        from likewise.cli import main as run  # most of a start is this import

        return run()
    except KeyboardInterrupt:  # while there was nobody yet to say it, or once more while that was said
        if sys.stderr is not None:
            print("likewise: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
