"""What the benchmarks' figures are made of."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.measuring import against, in_turn, origin, per_class, ratio, scores, spread, spread_over_classes
from experiments.data import Part


def test_contestants_take_turns_in_alternating_order_and_the_first_round_does_not_count() -> None:
    turns: list[str] = []

    def turn(name: str) -> int:
        turns.append(name)
        return len(turns)

    given = in_turn({"a": "a", "b": "b"}, 2, turn)
    assert turns == ["a", "b", "b", "a", "a", "b"]
    assert given == {"a": [4, 5], "b": [3, 6]}


def test_a_ratio_is_of_medians_and_its_spread_of_the_rounds() -> None:
    ours, theirs = spread([2.0, 4.0, 6.0]), spread([1.0, 4.0, 2.0])
    assert (ours["median"], ours["low"], ours["high"]) == (4, 2, 6)
    assert ratio(ours, theirs) == {"median": 2.0, "low": 1.0, "high": 3.0}
    found = {"likewise": {"rate": ours}, "peer": {"rate": theirs}, "absent": {"missing": "left out"}}
    assert against(found, "rate") == {"peer": ratio(ours, theirs)}


def test_scores_count_labels_that_only_one_side_knows() -> None:
    truth = Part(["t"] * 4, [("a",), ("a",), ("b",), ("b",)])
    found = scores(truth, ["a", "a", "b", "c"])
    assert found["accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3, abs=1e-4)


def test_rows_of_each_class() -> None:
    part = Part([str(i) for i in range(10)], [("a",)] * 7 + [("b",)] * 3)
    assert per_class(part, 2).texts == ["0", "1", "7", "8"]
    assert per_class(part, None) is part
    assert spread_over_classes(part, 5).texts == ["0", "1", "2", "7", "8"]


def test_where_a_table_comes_from_names_all_that_differs_among_its_results() -> None:
    def result(commit: str, load: float | None, **versions: str) -> dict[str, Any]:
        around = {"instruction_sets": ["avx2"], "threads": 2, "load_at_start": load}
        return {"machine": "2 cores", "surroundings": around, "commit": commit, "found": {"a": {"versions": versions}}}

    one = result("abc", 0.5, torch="2.13", numpy="2.4")
    assert origin(one) == "2 cores (avx2); 2 threads each; load 0.5 at the start; commit abc; numpy 2.4, torch 2.13.\n"
    said = origin(one, result("def", 1.5, torch="2.12"), result("abc", None))
    assert "load 0.5 to 1.5 " in said and "commit abc and def; numpy 2.4, torch 2.12 and 2.13." in said
