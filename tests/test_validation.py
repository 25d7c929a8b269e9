from __future__ import annotations

import unicodedata
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from likewise.errors import DataError, ExampleError, LabelError, SettingError, UsageError
from likewise.progress import LikewiseWarning, Progress
from likewise.validation import (
    GREATEST,
    LONGEST_LABEL,
    check_ids,
    check_label_sets,
    check_labels,
    check_moment,
    check_number,
    check_parts,
    check_refs,
    check_string,
    check_text,
    check_texts,
    decide_task,
    normalised,
)

LIMIT = 100


def test_a_text_comes_back_as_it_is() -> None:
    assert check_text("  Grüße 👋🏽\r\n", "texts[0]", LIMIT) == "  Grüße 👋🏽\r\n"
    assert type(check_text(np.str_("a"), "texts[0]", LIMIT)) is str
    assert check_text("x" * LIMIT, "texts[0]", LIMIT) == "x" * LIMIT


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, "found a missing value"),
        (float("nan"), "found a missing value"),
        (3, "found 3 (int)"),
        (b"abc", "found b'abc' (bytes)"),
        (["a"] * 99, "... (list)"),
        ("", "found an empty text"),
        (" \t\r\n\u00a0\u3000", "nothing but whitespace"),
        ("a\x00b", "a NUL (character 2)"),
        ("ab\ud83d", "a lone surrogate (U+D83D, character 3)"),
        ("x" * (LIMIT + 1), "the text has 101 characters, at most 100"),
    ],
)
def test_what_is_no_text(text: object, found: str) -> None:
    with pytest.raises(DataError) as caught:
        check_text(text, "reviews.csv, line 17", LIMIT)
    message = str(caught.value)
    assert message.startswith("reviews.csv, line 17: ") and found in message
    assert "\n" not in message
    message.encode("utf-8")


@pytest.mark.parametrize(
    "texts", [pd.DataFrame({"text": ["a", "b"], "label": ["c", "d"]}), {"text": "a"}, {"a", "b"}, 3, b"ab"]
)
def test_what_are_no_texts(texts: object) -> None:
    with pytest.raises(DataError, match=r"expected (a string or a list of strings|a text)"):
        check_texts(texts, LIMIT)


def test_a_time_to_the_second_includes_that_second() -> None:
    second = datetime(2026, 5, 1, 12, 30, 7, tzinfo=UTC)
    assert check_moment("2026-05-01 12:30:07") == second.replace(microsecond=999_999)
    assert check_moment("2026-05-01T14:30:07+02:00") == second.replace(microsecond=999_999)
    assert check_moment("2026-05-01T12:30:07.25") == second.replace(microsecond=250_000)
    assert check_moment(second) == second


def test_labels_are_sorted_and_unique() -> None:
    assert check_labels("b", None, "w") == ("b",)
    assert check_labels(["b", "a", "b"], "multi", "w") == ("a", "b")
    assert check_labels(np.array(["b", "a"]), None, "w") == ("a", "b")
    assert check_labels((label for label in "ba"), None, "w") == ("a", "b")
    assert check_labels([], "multi", "w") == check_labels([], None, "w") == ()
    assert all(type(label) is str for label in check_labels(np.array(["b", "a"]), None, "w"))
    assert check_labels(["x" * LONGEST_LABEL], "single", "w") == ("x" * LONGEST_LABEL,)


@pytest.mark.parametrize(
    ("labels", "task", "found"),
    [
        (None, None, "found a missing value"),
        (3, None, "found 3 (int)"),
        (b"spam", None, "found b'spam' (bytes)"),
        ({"spam": 1}, None, "(dict)"),
        (["spam", 3], None, "found the label 3 (int), expected a string"),
        ([None], None, "found a missing value among the labels"),
        ([["spam"]], None, "(list), expected a string"),
        ("", None, "found an empty label"),
        (["spam", " \n"], None, "found an empty label"),
        ("a\x00", None, "a NUL (character 2)"),
        ("\udc80", None, "a lone surrogate"),
        ("x" * 1001, None, "1,001 characters"),
        ([], "single", "found no label, expected exactly one"),
        (["a", "b"], "single", "found 2 labels ('a', 'b'), expected exactly one"),
        (list("abcde"), "single", "found 5 labels ('a', 'b', 'c', ...)"),
    ],
)
def test_what_are_no_labels(labels: object, task: None, found: str) -> None:
    with pytest.raises(LabelError) as caught:
        check_labels(labels, task, "labels[3]")
    message = str(caught.value)
    assert message.startswith("labels[3]: ") and found in message
    assert "\n" not in message
    message.encode("utf-8")


def test_a_set_is_one_text_s_labels_and_never_a_list() -> None:
    assert check_label_sets([{"b", "a"}, frozenset("a")], 2, "multi") == [("a", "b"), ("a",)]
    for unordered in ({"a", "b"}, frozenset("ab")):
        with pytest.raises(LabelError, match=r"^labels: found a (frozen)?set, expected a list with one entry"):
            check_label_sets(unordered, 2, None)
        with pytest.raises(DataError, match=r"^refs: found .*set\), expected a list with one for each"):
            check_refs(unordered, 2)
        with pytest.raises(DataError, match=r"^texts: found a (frozen)?set, expected .* a list of strings"):
            check_texts(unordered, LIMIT)


@pytest.mark.parametrize(
    ("ids", "checked"),
    [(3, [3]), ([3, 1], [3, 1]), ({3}, [3]), (range(2), [0, 1]), (np.array([2, 2]), [2, 2]), (np.int64(5), [5])],
)
def test_ids(ids: object, checked: list[int]) -> None:
    assert check_ids(ids) == checked
    assert all(type(number) is int for number in check_ids(ids))


@pytest.mark.parametrize("ids", ["12", ["a"], [1.5], True, None, [None], np.array(5), 2.0])
def test_what_are_no_ids(ids: object) -> None:
    with pytest.raises(ExampleError, match=r"^ids: found .*, expected the number of an example, or a list of them$"):
        check_ids(ids)
    with pytest.raises(ExampleError, match=r"^ids: found \{1\} \(set\), expected"):
        check_ids({1}, paired=True)


def test_a_number_a_string_and_parts_come_back_as_they_are() -> None:
    for number in (0, GREATEST, np.int32(7), None):
        assert check_number(number, "limit") == number
    assert type(check_number(np.int32(7), "limit")) is int
    for string in ("a", "", None):
        assert check_string(string, "note") == string
    assert check_parts("a b") == ["a b"]
    assert check_parts(("a", "b")) == ["a", "b"]
    assert check_parts(None) == check_parts([]) == []


@pytest.mark.parametrize("number", [-1, GREATEST + 1, 2**70, "5", 2.5, True, [1]])
def test_what_is_no_number(number: object) -> None:
    with pytest.raises(UsageError, match=r"^seen: found .*, expected a whole number from 0 to 9,223,372,036,854,775"):
        check_number(number, "seen")


@pytest.mark.parametrize(
    ("string", "found"),
    [
        (Path("x.csv"), "found PosixPath('x.csv') (PosixPath), expected a string"),
        (["x"], "(list), expected a string"),
        (5, "found 5 (int), expected a string"),
        (b"x", "(bytes), expected a string"),
        ("a\x00", "found a NUL (character 2), expected Unicode text"),
        ("\udc80", "found a lone surrogate"),
    ],
)
def test_what_is_no_string(string: object, found: str) -> None:
    with pytest.raises(DataError) as caught:
        check_string(string, "note")
    assert str(caught.value).startswith("note: ") and found in str(caught.value)
    if not isinstance(string, str):
        with pytest.raises(DataError, match=r"^contains: found .*, expected a part of the text"):
            check_parts([string])


def test_the_task() -> None:
    assert decide_task([("a",), ("b",)], "auto") == "single"
    assert decide_task([("a",), ()], "auto") == "multi"
    assert decide_task([("a",), ("a", "b")], "auto") == "multi"
    assert decide_task([("a",), ("b",)], "multi") == "multi"
    with pytest.raises(LabelError, match=r"^labels\[1\]: found no label.* choose the task multi"):
        decide_task([("a",), ()], "single")
    with pytest.raises(LabelError, match=r"^a\.csv, line 3: found 2 labels"):
        decide_task([("a",), ("a", "b")], "single", lambda i: f"a.csv, line {i + 2}")
    with pytest.raises(LabelError, match="no rows"):
        decide_task([], "auto")
    with pytest.raises(SettingError, match="did you mean 'single'"):
        decide_task([("a",)], "singel")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Where is  my\torder?\n", "where is my order?"),
        ("STRASSE", "straße"),
        ("ﬁne", "Fine"),
        ("cafe\u0301", "CAFÉ"),
        ("\uff28\uff29\u3000there", "hi there"),
        ("ς", "Σ"),
    ],
)
def test_equal_after_normalisation(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


def test_words_stay_apart() -> None:
    assert normalised("a b") != normalised("ab")
    assert normalised("résumé") != normalised("resume")


@settings(deadline=None, max_examples=300)
@given(st.text())
@example("\u0345\u0301ᾳ")
@example("ß\u0345")
def test_normalised_is_a_normal_form(text: str) -> None:
    form = normalised(text)
    assert normalised(form) == form
    assert form == form.strip()
    assert normalised(unicodedata.normalize("NFD", text)) == form
    if text.isascii():
        assert form == " ".join(text.casefold().split())


def test_progress_is_silent_but_for_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.stage("Training")
    progress.update(1, 2, "loss 0.4")
    progress.tell("task: single")
    progress.done()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        progress.warn("a class with one example")
    assert [(w.category, str(w.message), w.filename) for w in caught] == [
        (LikewiseWarning, "a class with one example", __file__)
    ]
    assert capsys.readouterr() == ("", "")
