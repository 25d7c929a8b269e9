"""What the labels of a fit are called by now: the examples that bore a label then tell what has become of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

Labels = tuple[str, ...]
T = TypeVar("T")


def present_names(labels: Iterable[str], then: Mapping[int, Labels], now: Mapping[int, Labels]) -> dict[str, str]:
    """The present name of each of these labels, left out where its examples have gone different ways.

    `then` are the labels of examples by id at the fit, `now` as they stand. A label goes by the name that the very same
    examples bear now, its own before others. Where there is none, it goes by its own or one that its examples have
    got since: by that whose examples are most alike to those of before, another one only if more than half of them
    bear it. Where no example is left it keeps its name.
    """
    before = _bearers((number, had) for number, had in then.items() if number in now)
    after = _bearers((number, now[number]) for number in then if number in now)
    same: dict[frozenset[int], str] = {frozenset(its): name for name, its in after.items()}
    names: dict[str, str] = {}
    for label in labels:
        its = before.get(label, set())
        kept = after.get(label, set())
        if not its or its == kept:
            names[label] = label
        elif frozenset(its) in same:
            names[label] = same[frozenset(its)]
        else:
            gained = {name for number in its for name in now[number] if name not in then[number]}
            name = max({label, *gained}, key=lambda name: (_alike(its, after.get(name, set())), name == label, name))
            if name != label and 2 * len(its & after[name]) > len(its):
                names[label] = name
            elif its & kept:
                names[label] = label
    return names


def _bearers(rows: Iterable[tuple[int, Labels]]) -> dict[str, set[int]]:
    """The examples that bear each label."""
    found: dict[str, set[int]] = {}
    for number, labels in rows:
        for label in labels:
            found.setdefault(label, set()).add(number)
    return found


def _alike(some: set[int], others: set[int]) -> float:
    """The share of those in either that are in both (Jaccard's index)."""
    return len(some & others) / len(some | others)


def carried(values: Mapping[str, T], names: Mapping[str, str]) -> dict[str, T]:
    """Values by label as values by present name.

    Where several labels have become one it has the value of the one that was called so before, or else none.
    """
    bearers: dict[str, list[str]] = {}
    for label in values:
        if label in names:
            bearers.setdefault(names[label], []).append(label)
    return {
        name: values[name if name in labels else labels[0]]
        for name, labels in bearers.items()
        if name in labels or len(labels) == 1
    }
