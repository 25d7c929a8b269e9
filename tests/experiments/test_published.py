"""Data sets that are not here are read from a user's own copy, in the form in which they were published."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiments.data import Missing, read


def test_aapd(tmp_path: Path) -> None:
    folder = tmp_path / "aapd"
    folder.mkdir()
    for part, labels in (("train", "math.ST cs.IT math.IT\ncs.LG\n"), ("val", "cs.LG\nstat.TH\n"), ("test", "a\nb\n")):
        (folder / f"text_{part}").write_text(f"the {part} paper\nanother one\n")
        (folder / f"label_{part}").write_text(labels)
    train, dev = read(tmp_path, "aapd", "train"), read(tmp_path, "aapd", "dev")
    assert train is not None and dev is not None
    assert train.texts == ["the train paper", "another one"]
    assert train.labels == [("cs.IT", "math.IT", "math.ST"), ("cs.LG",)]
    assert dev.labels == [("cs.LG",), ("stat.TH",)]
    (folder / "label_test").write_text("a\n")
    with pytest.raises(ValueError, match="found 2 texts and 1 lines of labels in test"):
        read(tmp_path, "aapd", "test")


def test_rcv1(tmp_path: Path) -> None:
    folder = tmp_path / "rcv1-v2"
    folder.mkdir()
    (folder / "lyrl2004_tokens_train.dat").write_text(".I 2286\n.W\nrecov excit\nfund bond\n\n.I 2287\n.W\nyen\n\n")
    for i in range(4):
        (folder / f"lyrl2004_tokens_test_pt{i}.dat").write_text(f".I {10 + i}\n.W\nword{i} more\n")
    topics = "E11 2286 1\nECAT 2286 1\nM11 2287 1\n" + "".join(f"M11 {10 + i} 1\n" for i in range(4))
    (folder / "rcv1-v2.topics.qrels").write_text(topics)
    train, test = read(tmp_path, "rcv1-v2", "train"), read(tmp_path, "rcv1-v2", "test")
    assert train is not None and test is not None
    assert (train.texts, train.labels) == (["recov excit fund bond", "yen"], [("E11", "ECAT"), ("M11",)])
    assert test.texts == ["word0 more", "word1 more", "word2 more", "word3 more"]
    assert read(tmp_path, "rcv1-v2", "dev") is None
    (folder / "rcv1-v2.topics.qrels").write_text("E11 2286 1\n")
    with pytest.raises(ValueError, match="document 2287 has no topic"):
        read(tmp_path, "rcv1-v2", "train")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    for name in ("aapd", "rcv1-v2"):
        with pytest.raises(Missing, match=name):
            read(tmp_path, name, "train")
