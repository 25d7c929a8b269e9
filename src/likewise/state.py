"""What answers: index, head statistics and label sets, derived from the ledger and following it by revision.

Nothing here is the truth. A state can be thrown away and made again from the ledger; a snapshot of it on disk only
saves that work. Between two revisions it takes in just the examples that changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from likewise.bundle import Decision
from likewise.datastore.index import Hits, Index
from likewise.datastore.ledger import Delta, Ledger, NotEmbedded
from likewise.decision.blend import blend, shares
from likewise.decision.head import LinearHead, make_head
from likewise.decision.renaming import carried, present_names
from likewise.decision.statistics import Statistics
from likewise.decision.trained import AlignedHead, align
from likewise.decision.tuning import Tuned
from likewise.decision.vote import vote, vote_weights
from likewise.encoding.sessions import multiply_bytes
from likewise.errors import LedgerError, ModelDamaged
from likewise.files import write_arrays
from likewise.machine import threads_for
from likewise.types import Task

Matrix = NDArray[np.float64]
Embed = Callable[[list[str]], NDArray[np.float32]]
LabelsAt = Callable[[int], Mapping[int, tuple[str, ...]]]
SNAPSHOT_FORMAT = 1
CHUNK = 20_000  # examples taken in at once: bounds the memory that catching up needs


@dataclass(frozen=True, eq=False)
class Voices:
    """Both voices and their blend for some texts, each (texts, labels), and all that is needed to read them.

    `lambdas` (texts,): the tuned lambda, or 1 where a text is left to the neighbours (one label a text). `hits.codes`
    stand for the label sets in `sets`. Holds nothing that a later change of the state alters.
    """

    task: Task
    tuned: Tuned
    labels: list[str]
    blend: Matrix
    head: Matrix
    vote: Matrix
    lambdas: NDArray[np.float64]
    hits: Hits
    weights: Matrix
    sets: Sequence[tuple[str, ...]]

    def decide(self, probabilities: Matrix) -> list[tuple[str, ...]]:
        """What a voice or the blend decides: a text's best label (the first of equals), or those over thresholds."""
        if self.task == "single":
            return [(self.labels[best],) for best in probabilities.argmax(axis=1)]
        thresholds = [self.tuned.thresholds.get(label, self.tuned.threshold) for label in self.labels]
        decided = probabilities >= np.array(thresholds)
        return [tuple(self.labels[i] for i in np.flatnonzero(row)) for row in decided]


class State:
    """Index and head of one generation at one revision of its ledger."""

    def __init__(
        self,
        decision: Decision,
        task: Task,
        fingerprint: str,
        generation: int,
        embed: Embed | None = None,
        keep_texts: bool = False,
        labels_at: LabelsAt | None = None,
    ) -> None:
        """`embed` encodes texts that the ledger has no embedding of; without it that is an error.

        `keep_texts`: hold the examples' texts as well, for a ledger that may be out of reach when one is to be cited.
        `labels_at` tells what labels examples had at a revision; empty where none were renamed since.
        """
        self.task: Task = task
        self._keep_texts = keep_texts
        self._embed = embed
        self._labels_at = labels_at
        self._then: Mapping[int, tuple[str, ...]] = {}  # by example: the labels at the fit, once needed
        self._made: dict[int, NDArray[np.float32]] = {}  # by text id: embeddings that a read-only ledger cannot keep
        self.fingerprint = fingerprint
        self.generation = generation
        self._decision = decision
        self._key_map = decision.whitening.first(decision.tuned.dimensions)
        self._clear()

    def _clear(self) -> None:
        """Hold nothing."""
        self.revision = 0
        self.seen = 0  # the ledger's last revision when it was last followed: later than `revision` for a past state
        self.unsaved = 0  # examples taken in since the last snapshot
        self.texts: dict[int, str] = {}  # by example, where they are kept
        self._index = Index(self._key_map.dimension, multiply_bytes)
        self._statistics = Statistics(len(self._decision.whitening.mean))
        self._held: dict[int, int] = {}  # example id -> text id: whose embedding the statistics took in
        self._sets: list[tuple[str, ...]] = []  # code -> label set
        self._codes: dict[tuple[str, ...], int] = {}
        self._of: dict[int, int] = {}  # example id -> code
        self._forget_derived()

    def _forget_derived(self) -> None:
        """Make head, memberships, names and tuned values anew when they are next asked for."""
        self._head: LinearHead | AlignedHead | None = None
        self._membership: Matrix | None = None
        self._names: Mapping[str, str] | None = None
        self._named: Tuned | None = None

    def __len__(self) -> int:
        return len(self._held)

    @property
    def labels(self) -> list[str]:
        """The labels that have examples, sorted."""
        return self._statistics.labels

    def follow(self, ledger: Ledger, upto: int | None = None, last: int | None = None) -> None:
        """Take in what changed since this state's revision; with `upto`, go to that revision, forwards or back.

        `last` is the ledger's revision where the caller has just read it. After an erasure everything is made afresh:
        what left cannot be taken out again, its embedding is gone.
        """
        if last is None:
            last = ledger.revision()
        if (self.seen, self.revision) == (last, last if upto is None else upto):
            return
        if ledger.erased(self.seen):
            self._clear()
        try:
            self._catch_up(ledger, upto)
        except ModelDamaged:
            if not ledger.erased(last):
                raise
            self._clear()  # an erasure came between
            return self.follow(ledger, upto)
        self.seen = max(last, self.revision)

    def _catch_up(self, ledger: Ledger, upto: int | None) -> None:
        revision, deltas = ledger.changes(self.revision, upto)
        for start in range(0, len(deltas), CHUNK):
            self.take(deltas[start : start + CHUNK], ledger)
        self.revision = revision

    def take(self, deltas: Sequence[Delta], ledger: Ledger) -> None:
        """Make these examples what the deltas say; the embeddings come from the ledger."""
        leaving = [delta.example_id for delta in deltas if delta.example_id in self._held]
        coming = [delta for delta in deltas if delta.labels is not None]
        # All that is to be read first: what fails leaves the state as it was.
        old = self._vectors(ledger, [self._held[i] for i in leaving])
        embeddings = self._vectors(ledger, [delta.text_id for delta in coming])
        texts = ledger.texts_by_id(delta.text_id for delta in coming) if self._keep_texts else {}
        if self._keep_texts and not texts.keys() >= {delta.text_id for delta in coming}:
            raise ModelDamaged("texts of examples are not in the datastore; run `likewise check`")  # or erased just now
        if leaving:
            self._statistics.remove(old, [self._sets[self._of[i]] for i in leaving])
            self._index.remove(np.array(leaving, dtype=np.int64))
            for i in leaving:
                del self._held[i], self._of[i]
                self.texts.pop(i, None)
        if coming:
            sets = [delta.labels or () for delta in coming]
            codes = [self._code(labels) for labels in sets]
            ids = [delta.example_id for delta in coming]
            self._statistics.add(embeddings, sets)
            self._index.add(
                np.array(ids, dtype=np.int64), self._key_map.keys(embeddings), np.array(codes, dtype=np.int32)
            )
            self._held.update((delta.example_id, delta.text_id) for delta in coming)
            self._of.update(zip(ids, codes, strict=True))
            self.texts.update((delta.example_id, texts[delta.text_id]) for delta in coming if texts)
        self.unsaved += len(deltas)
        self._forget_derived()

    def read_texts(self, ledger: Ledger) -> None:
        """Read the texts of the examples that came from a snapshot, which holds none."""
        if self._keep_texts:
            found = ledger.texts_by_id(self._held.values())
            self.texts = {number: found[text_id] for number, text_id in self._held.items() if text_id in found}

    def _vectors(self, ledger: Ledger, text_ids: list[int]) -> NDArray[np.float32]:
        """Embeddings by this generation's encoder; those that the ledger has not are made, and kept there."""
        try:
            return ledger.vectors(text_ids, self.fingerprint)
        except NotEmbedded:
            if self._embed is None:
                raise
        missing = ledger.not_embedded(set(text_ids) - self._made.keys(), self.fingerprint)
        if missing:
            made = dict(zip(missing, self._embed(list(missing.values())), strict=True))
            try:
                ledger.embed(made, self.fingerprint)
            except LedgerError:  # it may not be written, or not now: an answer does not wait for that
                self._made.update(made)
        there = iter(ledger.vectors([i for i in text_ids if i not in self._made], self.fingerprint))
        rows = [self._made[i] if i in self._made else next(there) for i in text_ids]
        return np.array(rows, dtype=np.float32)

    def _code(self, labels: tuple[str, ...]) -> int:
        if labels not in self._codes:
            self._codes[labels] = len(self._sets)
            self._sets.append(labels)
        return self._codes[labels]

    def voices(self, embeddings: NDArray[np.float32], logits: NDArray[np.float32] | None = None) -> Voices:
        """Head, vote and blend for embeddings of shape (texts, d). The state must hold at least one example.

        `logits` are the network's own, where it has some: a head that was trained takes them in place of embeddings.
        """
        with threads_for(len(embeddings) * len(self._index) * self._index.dimension):
            return self._voices(embeddings, logits)

    def _voices(self, embeddings: NDArray[np.float32], logits: NDArray[np.float32] | None) -> Voices:
        head = self.head
        tuned = self.tuned
        hits = self._index.search(self._key_map.keys(embeddings), tuned.k)
        weights = vote_weights(hits.distances, tuned.temperature)
        p_vote = vote(weights, hits.codes, self._memberships(head.labels))
        p_head = head.probabilities(embeddings if logits is None or self._decision.head is None else logits)
        known = head.known if isinstance(head, AlignedHead) else None
        share = shares(p_vote, p_head, tuned.lambda_, self.task, known)
        lambdas = share[:, 0] if self.task == "single" else np.full(len(share), tuned.lambda_)
        blended = blend(p_vote, p_head, share)
        return Voices(self.task, tuned, head.labels, blended, p_head, p_vote, lambdas, hits, weights, self._sets)

    @property
    def head(self) -> LinearHead | AlignedHead:
        """The head over the labels that there are now."""
        if self._head is None:
            trained = self._decision.head
            if trained is None:
                self._head = make_head(self._statistics, self._decision.whitening, self.tuned.head, self.task)
            else:
                self._head = align(trained, self.labels, self.names)
        return self._head

    @property
    def tuned(self) -> Tuned:
        """The tuned values; those of a label go with it when it is renamed."""
        if self._named is None:
            its = self._decision.tuned
            if self.task == "multi":
                head = replace(its.head, maps=carried(its.head.maps, self.names))
                its = replace(its, head=head, thresholds=carried(its.thresholds, self.names))
            self._named = its
        return self._named

    @property
    def names(self) -> Mapping[str, str]:
        """What the labels of the fit are called by now (`renaming`)."""
        if self._names is None:
            if not self._then and self._labels_at:
                self._then = self._labels_at(self._decision.tuned.revision)
            now = self.label_sets() if self._then else {}
            self._names = present_names(self._decision.labels, self._then, now)
        return self._names

    def _memberships(self, labels: list[str]) -> Matrix:
        if self._membership is None:
            column = {label: i for i, label in enumerate(labels)}
            table = np.zeros((len(self._sets), len(labels)))
            for code, members in enumerate(self._sets):
                for label in members:
                    if label in column:  # a set that no example has any more may name a label that is gone
                        table[code, column[label]] = 1.0
            self._membership = table
        return self._membership

    # The snapshot

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything numeric, in the order of the examples' ids."""
        ids, keys, codes = self._index.export()
        text_ids = np.array([self._held[int(i)] for i in ids], dtype=np.int64)
        return {"ids": ids, "keys": keys, "codes": codes, "text_ids": text_ids, **self._statistics.arrays()}

    def label_sets(self) -> dict[int, tuple[str, ...]]:
        """Each example's labels, by id."""
        return {example: self._sets[code] for example, code in self._of.items()}

    def write(self, path: Path) -> None:
        """Write a snapshot, whole or not at all. It holds no texts. OSError where it cannot be written."""
        header = {
            "format": SNAPSHOT_FORMAT,
            "revision": self.revision,
            "generation": self.generation,
            "fingerprint": self.fingerprint,
            "labels": self.labels,
            "sets": self._sets,
        }
        path.parent.mkdir(exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        write_arrays(beside, self.arrays(), {"state": json.dumps(header)})
        beside.replace(path)
        self.unsaved = 0

    def read(self, path: Path) -> bool:
        """Take over a snapshot; False, and nothing taken, where it is missing, unreadable or of another generation."""
        try:
            with safe_open(path, framework="np") as file:
                header = json.loads(file.metadata()["state"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if (header["format"], header["generation"], header["fingerprint"]) != (
                SNAPSHOT_FORMAT,
                self.generation,
                self.fingerprint,
            ):
                return False
            sets = [tuple(labels) for labels in header["sets"]]
            ids, codes = arrays["ids"], arrays["codes"]
            index = Index(self._key_map.dimension, multiply_bytes)
            index.add(ids, arrays["keys"], codes)
            statistics = Statistics.from_arrays(header["labels"], arrays)
            held = dict(zip(ids.tolist(), arrays["text_ids"].tolist(), strict=True))
            of = dict(zip(ids.tolist(), codes.tolist(), strict=True))
            revision = int(header["revision"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return False  # derived: what cannot be used is made again from the ledger
        self._index, self._statistics, self._held, self._of = index, statistics, held, of
        self._sets, self._codes = sets, {labels: code for code, labels in enumerate(sets)}
        self.revision = self.seen = revision
        self.unsaved = 0
        self._forget_derived()
        return True


def generation_of(path: Path) -> int | None:
    """The generation whose snapshot this is; None where it cannot be read."""
    try:
        with safe_open(path, framework="np") as file:
            return int(json.loads(file.metadata()["state"])["generation"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
