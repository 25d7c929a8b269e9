"""Two data sets of the multi-label kNN paper, from a user's own copy in the form in which they were published.

aapd      text_train, label_train, and the same for val and test (Yang and others 2018): a text a line, and its labels
          in the same line of the other file, with spaces between them
rcv1-v2   lyrl2004_tokens_train.dat, lyrl2004_tokens_test_pt0.dat to ..._pt3.dat, rcv1-v2.topics.qrels (Lewis and others
          2004): documents of `.I` with a number, `.W`, and lines of stemmed words; and a line `TOPIC NUMBER 1` for each
          topic of a document
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

Rows = tuple[list[str], list[tuple[str, ...]]]


def aapd(folder: Path, part: str) -> Rows:
    """train, dev or test texts and their labels. ValueError where there are not as many lines of both."""
    name = {"dev": "val"}.get(part, part)
    texts, labels = ((folder / f"{kind}_{name}").read_text(encoding="utf-8").splitlines() for kind in ("text", "label"))
    if len(texts) != len(labels):
        raise ValueError(f"{folder}: found {len(texts)} texts and {len(labels)} lines of labels in {name}")
    return texts, [tuple(sorted(set(line.split()))) for line in labels]


def rcv1(folder: Path, part: str) -> Rows | None:
    """train or test texts and their topics; None for dev, which its split has not.

    ValueError for a document without a topic: every one has some.
    """
    if part == "dev":
        return None
    topics: dict[str, set[str]] = defaultdict(set)
    for line in (folder / "rcv1-v2.topics.qrels").read_text(encoding="ascii").splitlines():
        topic, number, _ = line.split()
        topics[number].add(topic)
    files = ["train"] if part == "train" else [f"test_pt{i}" for i in range(4)]
    texts, labels = [], []
    for name in files:
        for number, text in _documents(folder / f"lyrl2004_tokens_{name}.dat"):
            if number not in topics:
                raise ValueError(f"{folder}: document {number} has no topic in rcv1-v2.topics.qrels")
            texts.append(text)
            labels.append(tuple(sorted(topics[number])))
    return texts, labels


def _documents(path: Path) -> Iterator[tuple[str, str]]:
    """Each document's number and words."""
    number, words = "", []
    with path.open(encoding="ascii") as lines:
        for line in lines:
            if line.startswith(".I "):
                if number:
                    yield number, " ".join(words)
                number, words = line[3:].strip(), []
            elif not line.startswith(".W"):
                words += line.split()
    if number:
        yield number, " ".join(words)


FORMS = {"aapd": ("text_train", aapd), "rcv1-v2": ("lyrl2004_tokens_train.dat", rcv1)}
"""By data set the file that shows that it is there, and what reads it."""
