"""A thread that brings a model up to date as soon as a server announces a change, so that no answer has to wait for it.

A hint and no more: the rule is that every answer reads the ledger's revision first.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable

from likewise.datastore.ledger import Ledger
from likewise.errors import LikewiseError

PAUSE = 1.0
"""Seconds until a server that was away is listened to again."""


class Follower:
    """Calls `catch_up`, a method of an object that it does not keep alive, after each announcement."""

    def __init__(self, ledger: Ledger, catch_up: Callable[[], object]) -> None:
        self._ledger = ledger
        self._catch_up = weakref.WeakMethod(catch_up)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="likewise follower", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread soon; does not wait for it."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(LikewiseError):  # an answer will say what is wrong
                for _ in self._ledger.announcements(self._stop):
                    catch_up = self._catch_up()
                    if catch_up is None:
                        return
                    catch_up()
                    del catch_up
            if self._catch_up() is None:
                return
            self._stop.wait(PAUSE)
