"""How a model answers: encoder, index and head of one generation, at the ledger's latest revision or at a past one."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from likewise.bundle import Decision, Layout, Manifest, datastore_of, read_decision, read_manifest
from likewise.datastore.ledger import Ledger, is_url
from likewise.errors import LedgerAway, LedgerMoved, ModelDamaged, ModelError
from likewise.files import edition
from likewise.following import Follower
from likewise.settings import Settings
from likewise.state import State, Voices, generation_of
from likewise.types import Neighbour, Prediction, Scores

if TYPE_CHECKING:
    from likewise.encoding.runtime import Encoder

BLOCK = 1024
"""Texts answered at once: bounds memory, and how long a change of the ledger goes unnoticed in a long run."""

FEW_CHANGES = 1000
"""As many changed examples are caught up with on opening rather than written into a new snapshot."""

RECENT = 16
"""Texts asked or taught alone whose embeddings are remembered."""


@dataclass(frozen=True, eq=False)
class Answered:
    """A block of texts and what is said of them, all of one revision; `cited` are examples' texts by id."""

    texts: list[str]
    voices: Voices
    cited: Mapping[int, str]
    revision: int
    stale: bool


class Answering:
    """Answers from a ledger. With `at`, from the examples as they stood at that revision, and no other ever."""

    def __init__(
        self, layout: Layout, manifest: Manifest, ledger: Ledger, settings: Settings, at: int | None = None
    ) -> None:
        self.at = at
        self.lock = threading.RLock()
        self._recent: dict[bytes, tuple[NDArray[np.float32], NDArray[np.float32] | None]] = {}
        self.settings = settings
        self._follower: Follower | None = None
        self._seen: tuple[int, ...] = ()  # of likewise.json, when generation and datastore were last those it names
        self._over = False  # the ledger is closed, and says so itself
        self.attach(layout, manifest, ledger)

    def attach(self, layout: Layout, manifest: Manifest, ledger: Ledger) -> None:
        """Answer from this model directory from now on; its snapshot is taken over where there is one.

        What fails leaves everything as it was, to be tried again at the next answer.
        """
        decision = read_decision(layout, manifest.generation)
        state = self._fresh_state(manifest, decision, ledger)
        if state.read(layout.snapshot):
            state.read_texts(ledger)
        elif self.at is None and not ledger.read_only and generation_of(layout.snapshot) is None:
            with contextlib.suppress(OSError):  # no one can read it: it is made again when that saves work
                layout.snapshot.unlink(missing_ok=True)
        if state.revision > ledger.revision():  # an older ledger was put in place: it is the truth
            state = self._fresh_state(manifest, decision, ledger)
            with contextlib.suppress(OSError):  # once the ledger is as far, the snapshot would look right
                layout.snapshot.unlink(missing_ok=True)
        self.manifest, self.decision, self._state = manifest, decision, state
        self._layout, self._ledger = layout, ledger
        ledger.belong(self)
        self._on_server = is_url(ledger.name)
        self.stale = False
        if self._follower is not None:
            self._follower.stop()
        self._follower = Follower(ledger, self.catch_up) if self._on_server and self.at is None else None

    def reread_decision(self) -> None:
        """Take over the tuned values as they are in the directory now, and make the state afresh."""
        with self.lock:
            self.renew()
            self.decision = read_decision(self._layout, self.manifest.generation)
            self._state = self._fresh_state(self.manifest, self.decision, self._ledger)
            self._recent.clear()

    def _fresh_state(self, manifest: Manifest, decision: Decision, ledger: Ledger) -> State:
        return State(
            decision, manifest.task, str(manifest.fit["fingerprint"]), manifest.generation, self._encode,
            is_url(ledger.name), ledger.labels_before_renaming,
        )  # fmt: skip

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        return self.encoder.encode(texts)

    @property
    def fingerprint(self) -> str:
        """Of the encoder."""
        return str(self.manifest.fit["fingerprint"])

    def present_encoder(self) -> Encoder:
        """The encoder; before it is loaded, that of the generation which answers now: an earlier one may be gone."""
        with self.lock:
            if "encoder" not in self.__dict__:
                self.current()
            return self.encoder

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder, loaded when it is first needed."""
        from likewise.encoding.runtime import opened

        return opened(self._layout.onnx(self.manifest.generation), **self.settings.encoding())

    def share_encoder(self, other: Self) -> None:
        """Use the encoder of another one, if that has loaded it and is of the same generation."""
        if "encoder" in other.__dict__ and other.manifest.generation == self.manifest.generation:
            self.__dict__["encoder"] = other.encoder

    def let_go(self) -> None:
        """Drop the encoder, and the memory that it holds; follow nothing any more."""
        self._over = True
        if self._follower is not None:
            self._follower.stop()
            self._follower = None
        self._drop_encoder()

    def _drop_encoder(self) -> None:
        self.__dict__.pop("encoder", None)
        self._recent.clear()

    @property
    def truncated(self) -> int:
        """Texts whose end the encoder did not see."""
        return self.encoder.truncated if "encoder" in self.__dict__ else 0

    def current(self) -> State:
        """The state at the revision that is to be answered from. Hold the lock while using it.

        Where the server that keeps the ledger is away, it is the last state, if there is one, and `stale` is true.
        """
        try:
            self._settle()
            last, state = self._ledger.revision(), None
            while state is not self._state:  # another one came where the datastore was moved just then
                state = self._state
                state.follow(self._ledger, self.at, last)
            self.stale = False
        except LedgerAway:
            if not self._state.labels:
                raise
            self.stale = True
        return self._state

    @property
    def ledger(self) -> Ledger:
        """The ledger, where the directory says now that it is."""
        self._settle()
        return self._ledger

    def place(self) -> str:
        """Where the directory says now that the datastore is."""
        return str(datastore_of(self._layout, read_manifest(self._layout.root)))

    def _settle(self) -> None:
        """Take up the generation and the datastore that likewise.json names now, where it is another file."""
        if not self._over and self._signature() != self._seen:
            self.renew()

    def _signature(self) -> tuple[int, ...]:
        """What tells one likewise.json from the next. LedgerMoved where there is none any more."""
        path = self._layout.manifest
        try:
            found = path.stat()
        except OSError as error:
            raise LedgerMoved(f"{path}: it was there when the model was opened and is not now ({error.strerror}); "
                              "open the model again") from error  # fmt: skip
        return edition(found)

    def catch_up(self) -> None:
        """Come to the revision that is to be answered from, before anyone asks."""
        with self.lock:
            self.current()

    def renew(self) -> None:
        """Answer from the generation and the datastore that the directory names now, if those are others.

        LedgerMoved where the datastore there is not the one that was opened, or an earlier state of it.
        """
        with self.lock:
            seen = self._signature()
            manifest = read_manifest(self._layout.root)
            place, before = datastore_of(self._layout, manifest), self.manifest.generation
            moved = not self._ledger.at(place)
            if moved:
                self._ledger.reopen(place, lock_timeout=self.settings.lock_timeout)
            if moved or manifest.generation != before:
                self.attach(self._layout, manifest, self._ledger)
            if manifest.generation != before:
                self._drop_encoder()
            self._seen = seen

    def embed(
        self, texts: list[str], progress: Callable[[int, int], None] | None = None
    ) -> tuple[NDArray[np.float32], str]:
        """Embeddings by the encoder of the generation that answered last, and its fingerprint."""
        embeddings, _, fingerprint = self.embed_with_logits(texts, progress)
        return embeddings, fingerprint

    def embed_with_logits(
        self, texts: list[str], progress: Callable[[int, int], None] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, str]:
        """The same with the network's own logits between them; None where it has none.

        A text by itself that was among the last ones is not encoded again: whoever corrects an answer on the spot asks,
        teaches and asks the same text.
        """
        alone = hashlib.blake2b(texts[0].encode(), digest_size=16).digest() if len(texts) == 1 else None
        with self.lock:
            encoder, fingerprint = self.present_encoder(), self.fingerprint
            if alone in self._recent:
                self._recent[alone] = found = self._recent.pop(alone)  # the last again
                return *found, fingerprint
        embeddings, logits = encoder.encode_with_logits(texts, progress)
        found = self._ledger.as_stored(embeddings), logits
        found[0].flags.writeable = False
        if alone is not None:
            with self.lock:
                if self.fingerprint == fingerprint:
                    self._recent[alone] = found
                    while len(self._recent) > RECENT:
                        del self._recent[next(iter(self._recent))]
        return *found, fingerprint

    @contextlib.contextmanager
    def _answerable(self, texts: list[str]) -> Iterator[tuple[State, Callable[[], Voices]]]:
        """The state to answer from, locked, and what makes its voices for the texts, by its generation's encoder."""
        embeddings, logits, fingerprint = self.embed_with_logits(texts)
        with self.lock:
            state = self.current()
            while fingerprint != self.fingerprint:  # a refit came between
                embeddings, logits, fingerprint = self.embed_with_logits(texts)
                state = self.current()
            yield state, partial(state.voices, embeddings, logits)

    def answers(self, texts: list[str], cite: int = 0) -> Iterator[Answered]:
        """What is said of the texts, block by block, citing `cite` examples. ModelError when there is no example."""
        for start in range(0, len(texts), BLOCK):
            block = texts[start : start + BLOCK]
            while (answered := self._answered(block, cite)) is None:
                pass
            yield answered

    def _answered(self, texts: list[str], cite: int) -> Answered | None:
        """None where an example that was to be cited has just been erased by another process."""
        with self._answerable(texts) as (state, voices_now):
            if not state.labels:
                if self.at is not None:
                    raise ModelError(f"no labelled example was in this model at revision {self.at}; "
                                     "look at the history and choose a later one")  # fmt: skip
                raise ModelError("no labelled example is left in this model; teach it some first")
            voices = voices_now()
            wanted = set(voices.hits.ids[:, :cite].ravel().tolist())
            cited = self._cited(wanted, state)
            if not cited.keys() >= wanted:
                if self._ledger.erased(state.seen):
                    return None
                raise ModelDamaged("texts of examples are not in the datastore; run `likewise check`")
            return Answered(texts, voices, cited, state.revision, self.stale)

    def _cited(self, ids: set[int], state: State) -> Mapping[int, str]:
        """The texts of examples, as they stood at the state's revision."""
        if not self._on_server:
            return self._ledger.texts_of(sorted(ids), at=state.revision)
        return {number: state.texts[number] for number in ids if number in state.texts}

    def predictions(self, texts: list[str], cite: int) -> Iterator[Prediction]:
        """Predictions, each citing at most `cite` examples."""
        for answered in self.answers(texts, cite):
            yield from _predictions(answered, cite)

    def undoing(self, texts: list[str], examples: Sequence[int], target: int) -> Iterator[tuple[int, Voices]]:
        """For each example: what the voices would say if it alone were what it was at revision `target`.

        An example without which there would be none is left out.
        """
        with self._answerable(texts) as (state, voices_now):
            ledger = self._ledger
            back = {delta.example_id: delta for delta in ledger.changes(state.revision, target)[1]}
            forth = {delta.example_id: delta for delta in ledger.changes(target, state.revision)[1]}
            for number in examples:
                state.take([back[number]], ledger)
                try:
                    if state.labels:
                        yield number, voices_now()
                finally:
                    state.take([forth[number]], ledger)

    def write_snapshot(self, layout: Layout) -> None:
        """Write the present state as the snapshot of a model directory."""
        with self.lock:
            self.current().write(layout.snapshot)

    def refresh_snapshot(self) -> None:
        """Write the snapshot anew where catching up from it has become work; the ledger is always up to date."""
        with self.lock:
            writable = self.at is None and not self._ledger.read_only
            if writable and self._state.unsaved > max(FEW_CHANGES, len(self._state) // 20):
                if read_manifest(self._layout.root).generation != self.manifest.generation:
                    return  # a refit elsewhere has written the snapshot of another one
                if self._ledger.erased(self._state.seen):  # a state of before must not come back to the disk
                    self._state.follow(self._ledger)
                self._state.write(self._layout.snapshot)


def _predictions(answered: Answered, cite: int) -> Iterator[Prediction]:
    voices = answered.voices
    hits, decided = voices.hits, voices.decide(voices.blend)
    ranked = zip(*(_ranked(voices.labels, table) for table in (voices.blend, voices.head, voices.vote)), strict=True)
    for row, (text, (scores, head, by_vote)) in enumerate(zip(answered.texts, ranked, strict=True)):
        yield Prediction(
            text=text,
            task=voices.task,
            labels=tuple(label for label, _ in scores if label in decided[row]),
            scores=scores,
            head=head,
            vote=by_vote,
            neighbours=tuple(
                Neighbour(number, answered.cited[number], voices.sets[code], distance, weight)
                for number, code, distance, weight in zip(
                    hits.ids[row, :cite].tolist(),
                    hits.codes[row, :cite].tolist(),
                    hits.distances[row, :cite].tolist(),
                    voices.weights[row, :cite].tolist(),
                    strict=True,
                )
            ),
            lambda_=float(voices.lambdas[row]),
            revision=answered.revision,
            stale=answered.stale,
        )


def _ranked(labels: Sequence[str], probabilities: NDArray[np.float64]) -> list[Scores]:
    """Each row of (texts, labels) as labels with their probabilities, the greatest first."""
    orders = np.argsort(-probabilities, axis=1, kind="stable")  # labels are sorted, so equals stand by name
    sorted_ = np.take_along_axis(probabilities, orders, axis=1).tolist()
    names = [[labels[i] for i in order] for order in orders.tolist()]
    return [tuple(zip(*row, strict=True)) for row in zip(names, sorted_, strict=True)]
