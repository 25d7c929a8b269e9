"""Model: an opened model directory that answers, learns and remembers."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, cast, overload

import numpy as np

from likewise.bundle import Layout, Manifest, read_decision, read_manifest, refuse_taken, sync, sync_all, write_manifest
from likewise.card import model_card
from likewise.datastore.ledger import Ledger, NewExample
from likewise.errors import DataError, LabelError, ModelError, UsageError
from likewise.settings import Settings
from likewise.state import State, Voices
from likewise.types import Change, Example, Neighbour, OnConflict, Prediction, Scores, Task
from likewise.validation import check_ids, check_labels, check_refs, check_text

if TYPE_CHECKING:
    from likewise.encoding.runtime import Encoder
    from likewise.evaluation.report import Evaluation

BLOCK = 1024
"""Texts answered at once: bounds memory, and how long a change of the ledger goes unnoticed in a long run."""

FEW_CHANGES = 1000
"""As many changed examples are caught up with on opening rather than written into a new snapshot."""

Labels = str | Iterable[str]


class Model:
    """A model directory, opened. Every answer is made at the ledger's latest revision, whoever wrote it.

    One instance may be used by several threads. Close it, or use it as a context manager.
    """

    def __init__(self, root: Path, settings: Settings, temporary: bool = False) -> None:
        """Not for callers: use `Model.open`, or `Classifier.fit`."""
        self.settings = settings
        self._temporary = temporary
        if temporary:  # nothing stays behind when nobody saves it, however the process goes on
            weakref.finalize(self, shutil.rmtree, root, ignore_errors=True)
        self._lock = threading.RLock()
        self._attach(root)

    @classmethod
    def open(cls, path: str | os.PathLike[str], **settings: object) -> Model:
        """Open a model directory, read-only where it may not be written.

        `settings` are those of the answering side (see `Settings`). ModelNotFound, ModelForeign, ModelNewer or
        ModelDamaged when there is no such model to be opened, SettingError for an unknown setting.
        """
        return cls(Path(path), Settings.resolve(**settings))

    def _attach(self, root: Path) -> None:
        self._layout = Layout(root)
        self._manifest: Manifest = read_manifest(root)
        self._decision = read_decision(self._layout, self._manifest.generation)
        self._ledger = Ledger.open(self._layout.datastore, lock_timeout=self.settings.lock_timeout)
        self._state = self._fresh_state()
        self._state.read(self._layout.snapshot)
        if self._state.revision > self._ledger.revision():  # an older ledger was put in place: it is the truth
            self._state = self._fresh_state()
            with contextlib.suppress(OSError):  # once the ledger is as far, the snapshot would look right
                self._layout.snapshot.unlink(missing_ok=True)

    def _fresh_state(self) -> State:
        manifest = self._manifest
        return State(self._decision, manifest.task, str(manifest.fit["fingerprint"]), manifest.generation)

    @cached_property
    def _encoder(self) -> Encoder:
        from likewise.encoding.runtime import Encoder

        settings = self.settings
        return Encoder(
            self._layout.onnx(self._manifest.generation),
            threads=settings.threads,
            token_budget=settings.token_budget,
            runtime=settings.runtime,
        )

    # What it is

    @property
    def path(self) -> Path | None:
        """The directory that `save` bound the model to; None before the first save."""
        return None if self._temporary else self._layout.root

    @property
    def task(self) -> Task:
        """ "single": one label a text; "multi": none to several."""
        return self._manifest.task

    @property
    def revision(self) -> int:
        """The ledger's latest revision."""
        return self._ledger.revision()

    @property
    def labels(self) -> dict[str, int]:
        """The labels, sorted, with the number of examples that bear each."""
        return self._ledger.labels()

    @property
    def info(self) -> Manifest:
        """Recipe, encoder, settings and what the fit measured."""
        return self._manifest

    @property
    def truncated(self) -> int:
        """Texts whose end the encoder did not see, since the model was opened."""
        return self._encoder.truncated if "_encoder" in self.__dict__ else 0

    # Answers

    @overload  # a string is a sequence of strings too, to a type checker; here it always means one text
    def classify(  # type: ignore[overload-overlap]
        self, texts: str, neighbours: int | None = None
    ) -> Prediction: ...
    @overload
    def classify(self, texts: Sequence[str], neighbours: int | None = None) -> list[Prediction]: ...
    def classify(self, texts: str | Sequence[str], neighbours: int | None = None) -> Prediction | list[Prediction]:
        """Classify one text or a list of texts; a list gives a list, a string one prediction.

        `neighbours`: how many a prediction cites at most (the setting, when None); the vote counts all k that were
        tuned. DataError for a text that is none, ModelError when every example was forgotten.
        """
        if isinstance(texts, str):
            return self.classify([texts], neighbours)[0]
        cite = self.settings.neighbours if neighbours is None else neighbours
        if cite < 0:
            raise UsageError(f"neighbours: found {cite}, expected 0 or more")
        out: list[Prediction] = []
        for block, voices, revision in self._answers(self._checked(texts)):
            out.extend(self._predictions(block, voices, revision, cite))
        return out

    def evaluate(
        self, texts: Sequence[str], labels: Sequence[Labels], progress: Callable[[int, int], None] | None = None
    ) -> Evaluation:
        """How head, neighbours and blend do on labelled texts; see `likewise.evaluation.report`."""
        from likewise.evaluation.report import Evaluation

        checked = self._checked(texts)
        truth = self._label_sets(labels, len(checked))
        parts: dict[str, list[tuple[str, ...]]] = {"blend": [], "head": [], "neighbours": []}
        done = 0
        for block, voices, _ in self._answers(checked):
            tables = (voices.blend, voices.head, voices.vote)
            for name, table in zip(parts, tables, strict=True):
                decided = self._state.decide(voices.labels, table)
                parts[name].extend(tuple(voices.labels[i] for i in np.flatnonzero(row)) for row in decided)
            done += len(block)
            if progress:
                progress(done, len(checked))
        return Evaluation.of(truth, parts, self.task, self._state.revision)

    def _answers(self, texts: list[str]) -> Iterator[tuple[list[str], Voices, int]]:
        for start in range(0, len(texts), BLOCK):
            block = texts[start : start + BLOCK]
            embeddings = self._encoder.encode(block)
            with self._lock:
                self._state.follow(self._ledger)
                if not self._state.labels:
                    raise ModelError("no labelled example is left in this model; teach it some first")
                voices, revision = self._state.voices(embeddings), self._state.revision
            yield block, voices, revision

    def _predictions(self, texts: list[str], voices: Voices, revision: int, cite: int) -> Iterator[Prediction]:
        ids = voices.hits.ids[:, :cite]
        cited = self._ledger.texts_of(np.unique(ids).tolist(), at=revision)
        decided = self._state.decide(voices.labels, voices.blend)
        for row, text in enumerate(texts):
            scores = _ranked(voices.labels, voices.blend[row])
            chosen = {voices.labels[i] for i in np.flatnonzero(decided[row])}
            yield Prediction(
                text=text,
                task=self.task,
                labels=tuple(label for label, _ in scores if label in chosen),
                scores=scores,
                head=_ranked(voices.labels, voices.head[row]),
                vote=_ranked(voices.labels, voices.vote[row]),
                neighbours=tuple(
                    Neighbour(
                        int(i),
                        cited[int(i)],
                        self._state.labels_of(int(voices.hits.codes[row, rank])),
                        float(voices.hits.distances[row, rank]),
                        float(voices.weights[row, rank]),
                    )
                    for rank, i in enumerate(ids[row])
                ),
                lambda_=self._decision.tuned.lambda_,
                revision=revision,
            )

    # Changes: each is one transaction, in force for every process at its next answer

    def teach(
        self,
        texts: str | Sequence[str],
        labels: Labels | Sequence[Labels],
        refs: str | Sequence[str | None] | None = None,
        by: str | None = None,
        note: str | None = None,
        on_conflict: OnConflict | None = None,
        source: str = "python",
        progress: Callable[[int, int], None] | None = None,
    ) -> Change:
        """Add labelled texts: one text with its label (or labels), or a list of each.

        A ref seen before updates its example. A text that is there already is a second example when its labels
        differ, and already known when they do not; `on_conflict` says otherwise: "keep" leaves it, "replace" gives it
        the new labels, "both" always adds. DataError or LabelError for what cannot be taught; nothing is written then.
        """
        if isinstance(texts, str):
            if refs is not None and not isinstance(refs, str):
                raise UsageError("refs: found a list for one text, expected one string")
            texts, labels, refs = [texts], [cast(Labels, labels)], [refs]
        if on_conflict not in (None, "keep", "replace", "both"):
            raise UsageError(f"on_conflict: found {on_conflict!r}, expected keep, replace or both")
        checked = self._checked(texts)
        label_sets = self._label_sets(labels, len(checked))
        given = check_refs(refs, len(checked))
        embeddings = self._encoder.encode(checked, progress)
        new = [
            NewExample(text, label_set, ref, embedding)
            for text, label_set, ref, embedding in zip(checked, label_sets, given, embeddings, strict=True)
        ]
        return self._ledger.teach(
            new, self._state.fingerprint, source=source, by=who(by), note=note, on_conflict=on_conflict
        )

    def forget(self, ids: int | Sequence[int], by: str | None = None, note: str | None = None) -> Change:
        """Forget examples; they no longer vote, cite or shape the head. ExampleError for an id that is not there."""
        return self._ledger.forget(check_ids(ids), by=who(by), note=note)

    def relabel(
        self,
        ids: int | Sequence[int],
        labels: Labels | Sequence[Labels],
        by: str | None = None,
        note: str | None = None,
    ) -> Change:
        """Give an example other labels, or each of a list of examples its own. ExampleError, LabelError."""
        if isinstance(ids, int | np.integer):
            labels = [cast(Labels, labels)]
        numbers = check_ids(ids)
        return self._ledger.relabel(numbers, self._label_sets(labels, len(numbers)), by=who(by), note=note)

    def rename_label(self, old: str, new: str, by: str | None = None, note: str | None = None) -> Change:
        """Give a label another name, one that is not in use. LabelError."""
        (former,) = check_labels(old, "single", "old label")
        (name,) = check_labels(new, "single", "new label")
        return self._ledger.rename_label(former, name, by=who(by), note=note)

    def merge_labels(
        self, labels: str | Sequence[str], into: str, by: str | None = None, note: str | None = None
    ) -> Change:
        """Make one label, new or there already, of several. LabelError for one that is unknown."""
        (name,) = check_labels(into, "single", "into")
        olds = check_labels(labels, None, "labels")
        return self._ledger.merge_labels(olds, name, by=who(by), note=note)

    def examples(
        self,
        ids: Sequence[int] | None = None,
        label: str | None = None,
        ref: str | None = None,
        contains: str | None = None,
        after_id: int = 0,
        limit: int | None = None,
    ) -> list[Example]:
        """The examples as they stand, in the order of their ids, as far as all the conditions given hold."""
        return self._ledger.examples(ids=ids, label=label, ref=ref, contains=contains, after_id=after_id, limit=limit)

    # The directory

    def save(self, path: str | os.PathLike[str]) -> Model:
        """Write the model to a new directory. The first save binds the model to it; a later one writes a copy.

        The directory appears whole or not at all. ModelError when something is there already: a live datastore is
        never replaced.
        """
        target = Path(path)
        if not self._temporary and target.resolve() == self._layout.root.resolve():
            self._refresh()
            return self
        refuse_taken(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        making = target.with_name(f".{target.name}.{os.getpid()}.saving")
        shutil.rmtree(making, ignore_errors=True)
        with self._lock:
            try:
                self.copy_to(making)
                sync_all(making)
                os.replace(making, target)  # an empty directory gives way; the name changes in one step
            except BaseException:
                shutil.rmtree(making, ignore_errors=True)
                raise
            sync(target.parent)
            if self._temporary:
                self.close()
                self._temporary = False
                self._attach(target)
        return self

    def copy_to(self, path: str | os.PathLike[str]) -> None:
        """Write an independent copy, with its history, into a directory that does not exist yet."""
        layout = Layout(Path(path))
        layout.root.mkdir()
        source, number = self._layout, self._manifest.generation
        layout.generation(number).parent.mkdir()
        copy = os.link if self._temporary else shutil.copyfile  # a temporary model's own files are removed right after
        _copy_tree(source.generation(number), layout.generation(number), copy)
        self._ledger.copy_to(layout.datastore)
        self._state.follow(self._ledger)
        self._state.write(layout.snapshot)
        layout.card.write_text(model_card(self._manifest, self._decision.tuned, self.labels), encoding="utf-8")
        write_manifest(layout, self._manifest)

    def _refresh(self) -> None:
        """Write the snapshot anew where catching up from it has become work; the ledger is always up to date."""
        with self._lock:
            if not self._ledger.read_only and self._state.unsaved > max(FEW_CHANGES, len(self._state) // 20):
                self._state.write(self._layout.snapshot)

    def close(self) -> None:
        """Let go of the directory; a model that was never saved is gone."""
        if not self._temporary:
            with contextlib.suppress(OSError):  # a snapshot only saves time
                self._refresh()
        self._ledger.close()
        self.__dict__.pop("_encoder", None)
        if self._temporary:
            shutil.rmtree(self._layout.root, ignore_errors=True)

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Model {self.path or 'not saved'}: {len(self.labels)} labels, revision {self.revision}>"

    # What is given, checked

    def _checked(self, texts: Sequence[str]) -> list[str]:
        if not isinstance(texts, Iterable):
            raise DataError(f"texts: found a {type(texts).__name__}, expected a string or a list of strings")
        return [check_text(text, f"texts[{i}]", self.settings.max_text) for i, text in enumerate(texts)]

    def _label_sets(self, labels: Labels | Sequence[Labels], expected: int) -> list[tuple[str, ...]]:
        if isinstance(labels, str):
            raise LabelError(f"labels: found the string {labels!r}, expected a list with one entry for each text")
        if not isinstance(labels, Iterable):
            raise LabelError(f"labels: found a {type(labels).__name__}, expected a list with one entry for each text")
        rows = list(labels)
        if len(rows) != expected:
            raise LabelError(f"labels: found {len(rows)}, expected one entry for each of {expected} texts")
        return [check_labels(row, self.task, f"labels[{i}]") for i, row in enumerate(rows)]


def _ranked(labels: Sequence[str], probabilities: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Scores:
    order = np.argsort(-probabilities, kind="stable")  # labels are sorted, so equals stand by name
    return tuple((labels[i], float(probabilities[i])) for i in order)


def who(by: str | None) -> str:
    """The name under which a change is recorded: the one given, or the system user."""
    if by:
        return by
    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):  # a container may run under a number that has no name
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "unknown"


def _copy_tree(source: Path, target: Path, place: Callable[[str, str], object]) -> None:
    def copy(a: str, b: str) -> None:
        try:
            place(a, b)
        except OSError:  # another disk has no links to this one
            shutil.copyfile(a, b)

    shutil.copytree(source, target, copy_function=copy)


def temporary_root() -> Path:
    """A new empty directory for a model that is not saved yet."""
    return Path(tempfile.mkdtemp(prefix="likewise-"))
