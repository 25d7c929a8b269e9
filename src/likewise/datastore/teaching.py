"""What teaching does to the examples that are there already: the rules, free of any database.

Entries are taken one after the other, so that a repeat within one call meets what the call did before it.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from likewise.types import OnConflict

Outcome = Literal["added", "updated", "known", "kept"]


@dataclass(frozen=True, slots=True)
class State:
    """What an example says: the digest of its text, its labels (None: forgotten), its reference."""

    digest: str
    labels: tuple[str, ...] | None
    ref: str | None


@dataclass(slots=True, eq=False)
class Slot:
    """An example during one call: as it was before (None: it was not there), and as it is now.

    `example_id` is None until the ledger has given a new example its id. `entry` is the position of the last entry
    that changed it, `rank` the slot's own among the call's slots, which are in the order of their ids.
    """

    example_id: int | None
    before: State | None
    now: State
    entry: int = -1
    rank: int = -1

    @property
    def changed(self) -> bool:
        return self.now != self.before


@dataclass(slots=True)
class Teaching:
    """One call of teach: start with the live examples that share a text or a reference with its entries, by id.

    `slots` are these and the new ones, in the order of their ids; `counts` says how often each outcome was, and
    `conflicts` how often it was that of an entry that what is there contradicts.
    """

    on_conflict: OnConflict | None
    slots: list[Slot] = field(default_factory=list)
    counts: Counter[Outcome] = field(default_factory=Counter)
    conflicts: Counter[Outcome] = field(default_factory=Counter)
    _by_text: dict[str, list[Slot]] = field(default_factory=dict)
    _by_ref: dict[str, Slot] = field(default_factory=dict)

    def know(self, live: Iterable[Slot]) -> None:
        """Take up the live examples, ascending by id."""
        for slot in live:
            self._enter(slot)

    def teach(self, entry: int, new: State) -> Slot:
        """Apply one entry and return the example that it became, changed, or met.

        A reference seen on a live example means that example. Otherwise the live examples with exactly this text
        count: by default the same labels are known already and other labels make a second example that disagrees;
        "keep" leaves them alone; "replace" gives them these labels; "both" adds an example in any case. One that has
        no reference takes on a new one, so that a later correction finds it; where all have one, a new reference
        makes an example of its own, but for "keep".
        """
        conflict = self._conflicts(new)
        slot, outcome = self._decide(entry, new)
        self.counts[outcome] += 1
        if conflict:
            self.conflicts[outcome] += 1
        return slot

    def _conflicts(self, new: State) -> bool:
        """Whether the example of this reference, or else every one of this text, bears other labels."""
        holder = None if new.ref is None else self._by_ref.get(new.ref)
        met = self._by_text.get(new.digest, []) if holder is None else [holder]
        return bool(met) and all(slot.now.labels != new.labels for slot in met)

    def _decide(self, entry: int, new: State) -> tuple[Slot, Outcome]:
        holder = None if new.ref is None else self._by_ref.get(new.ref)
        if holder is not None:
            if holder.now == new:
                return holder, "known"
            if self.on_conflict == "keep":
                return holder, "kept"
            self._change(holder, new, entry)
            return holder, "updated"
        twins = self._by_text.get(new.digest, [])
        if not twins or self.on_conflict == "both":
            return self._add(new, entry), "added"
        if self.on_conflict == "replace":
            return self._replace(twins, new, entry)
        same = [twin for twin in twins if twin.now.labels == new.labels]
        if same:
            nameless = _nameless(same)
            if new.ref is None or self.on_conflict == "keep":
                return same[0], "known"
            if nameless is None:
                return self._add(new, entry), "added"
            self._change(nameless, new, entry)
            return nameless, "updated"
        if self.on_conflict == "keep":
            return twins[0], "kept"
        return self._add(new, entry), "added"

    def _replace(self, twins: list[Slot], new: State, entry: int) -> tuple[Slot, Outcome]:
        """Give all twins the new labels; all but one are then repeats, which only a reference sets apart."""
        met = (None if new.ref is None else _nameless(twins)) or twins[0]  # by id: slots are entered in that order
        outcome: Outcome = "known"
        for slot in tuple(twins):
            repeat = slot is not met and slot.now.ref is None
            ref = new.ref if slot is met and slot.now.ref is None else slot.now.ref
            after = State(slot.now.digest, None if repeat else new.labels, ref)
            if after != slot.now:
                outcome = "updated"
                self._change(slot, after, entry)
        if new.ref is not None and met.now.ref != new.ref:
            return self._add(new, entry), "added"
        return met, outcome

    def _add(self, new: State, entry: int) -> Slot:
        slot = Slot(None, None, new, entry)
        self._enter(slot)
        return slot

    def _enter(self, slot: Slot) -> None:
        slot.rank = len(self.slots)
        self.slots.append(slot)
        self._by_text.setdefault(slot.now.digest, []).append(slot)
        if slot.now.ref is not None:
            self._by_ref[slot.now.ref] = slot

    def _change(self, slot: Slot, after: State, entry: int) -> None:
        if after.labels is None:
            self._by_text[slot.now.digest].remove(slot)  # without a reference: see _replace
        elif after.digest != slot.now.digest:
            self._by_text[slot.now.digest].remove(slot)
            # The lowest id answers for a text.
            insort(self._by_text.setdefault(after.digest, []), slot, key=lambda twin: twin.rank)
        if after.ref is not None:
            self._by_ref[after.ref] = slot
        slot.now, slot.entry = after, entry


def _nameless(slots: Iterable[Slot]) -> Slot | None:
    """The first that has no reference."""
    return next((slot for slot in slots if slot.now.ref is None), None)
