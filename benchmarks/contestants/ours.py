"""Likewise, as its users have it: predictions with both voices and the cited neighbours, from an opened directory."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from experiments.running import Quiet, kept_work

from benchmarks.contestants import ENCODER_TOKENS, backend_of, precision_of
from benchmarks.contestants.answering import Answering, rows_of, timed
from likewise.bundle import Layout
from likewise.datastore.ledger import Ledger, NewExample
from likewise.encoding.runtime import OUTPUT
from likewise.encoding.sessions import open_graph
from likewise.fitting import fit
from likewise.machine import cores
from likewise.model import Model
from likewise.settings import Settings
from likewise.types import Runtime

LIKEWISE = str(Path(sys.executable).with_name("likewise"))
CHUNK = 20_000
PRODUCTS = 10


class Stages(Quiet):
    """Notes when each stage of a fit began, in seconds."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.begun: list[tuple[str, float]] = []

    def stage(self, title: str) -> None:
        """A stage begins."""
        self.begun.append((title, round(time.perf_counter() - self.started, 2)))


class Likewise(Answering):
    """Recipe `frozen` where answering is measured: the encoder is everybody's, so its training changes no speed."""

    def prepare(self, encoder: str, folder: str, data: str, held: int | None = None) -> dict[str, Any]:
        """Fit to the train rows, save, open. With `held`: hold as many examples in all, the rest synthetic."""
        texts, labels = rows_of(data, "train")
        if held is not None:
            texts, labels = texts[:held], labels[:held]
        self.folder = Path(folder)
        self.config = json.loads((Path(encoder) / "config.json").read_text(encoding="utf-8"))
        path = self.folder / "model"
        _fit_frozen(path, texts, labels, encoder, precision_of(self.name))
        if held is not None:
            _fill(path, held - len(texts), sorted(set(labels)))
        self.path = path
        self.model = Model.open(path, runtime="openvino" if backend_of(self.name) == "openvino" else "auto")
        return {}

    def answer(self, texts: Sequence[str]) -> list[str]:
        """With everything that a prediction holds, citations included."""
        return [prediction.labels[0] for prediction in self.model.classify(texts)]

    def teach(self, texts: list[str], labels: list[str], ask: str) -> dict[str, Any]:
        """From the call to the changed answer, and what of it one encoding of the question takes."""

        def work() -> str:
            self.model.teach(texts, labels)
            return self.answer_one(ask)

        seconds, label = timed(work)
        encoding, _ = timed(lambda: self.model._answering.encoder.encode([ask]))
        return {"seconds": seconds, "label": label, "encoding": encoding}

    def command(self, text: str) -> dict[str, Any]:
        """The command line that answers one text in a process of its own."""
        self.model.close()
        given = ["--runtime", "openvino"] if backend_of(self.name) == "openvino" else []
        return {"command": [LIKEWISE, "classify", str(self.path), text, "--json", *given]}

    def encode(self, data: str, part: str = "test") -> dict[str, Any]:
        """Seconds for the embeddings alone."""
        texts, _ = rows_of(data, part)
        return {"seconds": timed(lambda: self.model._answering.embed(texts))[0]}

    def texts_of_lengths(self, data: str, short: tuple[int, int], long: tuple[int, int], count: int) -> dict[str, Any]:
        """Keep texts of the pool with so many tokens, short ones and long ones; their mean lengths."""
        pool, _ = rows_of(data, "pool")
        lengths = [len(row) for row in self.model._answering.encoder._tokenise(pool, 0)]
        self.kept: dict[str, tuple[list[str], list[int]]] = {}
        for name, (least, most) in (("short", short), ("long", long)):
            rows = [i for i, length in enumerate(lengths) if least <= length <= most]
            rows = (rows * (count // max(1, len(rows)) + 1))[:count]
            self.kept[name] = [pool[i] for i in rows], [lengths[i] for i in rows]
        return {"tokens": {name: float(np.mean(kept)) for name, (_, kept) in self.kept.items()}}

    def rates(self) -> dict[str, Any]:
        """Floating-point operations a second of the product and over the texts kept (`benchmarks/limit.py`)."""
        product = self._product()
        return {"product": product, **{which: self._rate(*kept) for which, kept in self.kept.items()}}

    def _rate(self, texts: list[str], lengths: list[int]) -> float:
        seconds, _ = timed(lambda: self.model._answering.encoder.encode(texts))
        h, f, layers = (self.config[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
        operations = sum(layers * (n * (8 * h * h + 4 * h * f) + 4 * n * n * h) for n in lengths)
        return float(operations / seconds)

    def _product(self, size: int = 2048) -> float:
        """Of two square matrices, in the encoder's runtime; the best of some."""
        if not hasattr(self, "multiply"):
            self.multiply = _product_graph(size, self.folder / "product.onnx", self.name)
        a = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
        return float(2 * size**3 / min(timed(lambda: self.multiply(a))[0] for _ in range(PRODUCTS)))

    def fit(self, encoder: str, data: str, recipe: str) -> dict[str, Any]:
        """A whole fit with named dev rows: seconds, and what the model decides on dev and test rows."""
        (texts, labels), dev, test = (rows_of(data, part) for part in ("train", "dev", "test"))
        watch = Stages()
        settings = Settings(max_tokens=ENCODER_TOKENS)
        seconds, model = timed(
            lambda: fit(texts, labels, dev=dev, recipe=recipe, encoder=encoder, settings=settings, progress=watch)
        )
        with model:
            said = {
                part: [p.labels[0] for p in model.classify(rows[0])] for part, rows in (("dev", dev), ("test", test))
            }
            kept = model.info.fit["kept"]
        return {"seconds": seconds, "kept": kept, "stages": watch.begun, **said}


def _fit_frozen(path: Path, texts: Sequence[str], labels: Sequence[str], encoder: str, precision: str) -> None:
    """Fit and save, in a process of its own, so that what answers has nothing of it in memory.

    Models are kept in the folder LIKEWISE_EXPERIMENT_WORK, where that is set, and copied from there when they are
    wanted again; remove them to fit anew.
    """
    rows = path.with_name("rows.jsonl")
    lines = (json.dumps({"text": text, "label": label}) for text, label in zip(texts, labels, strict=True))
    rows.write_text("\n".join(lines) + "\n", encoding="utf-8")
    given = ["--recipe", "frozen", "--encoder", encoder, "--max-tokens", str(ENCODER_TOKENS), "--precision", precision]
    name = hashlib.sha256(rows.read_bytes() + json.dumps(given).encode()).hexdigest()[:16]
    work = kept_work()
    kept = work / "frozen" / name if work else path
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [LIKEWISE, "fit", str(kept), str(rows), *given], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
    if kept != path:
        shutil.copytree(kept, path)


def _product_graph(size: int, path: Path, name: str) -> Callable[[Any], Any]:
    """A product with a fixed matrix, as the encoder's are, opened as the encoder is."""
    import onnx

    fixed = np.random.default_rng(1).normal(size=(size, size)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["input_ids", "fixed"], [OUTPUT])],
        "product",
        [onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.FLOAT, [size, size])],
        [onnx.helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, [size, size])],
        [onnx.numpy_helper.from_array(fixed, "fixed")],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, path)
    runtime: Runtime = "openvino" if backend_of(name) == "openvino" else "auto"
    run, _ = open_graph(path, [OUTPUT], cores(), runtime, precision_of(name))
    return lambda matrix: run({"input_ids": matrix})


def _fill(path: Path, count: int, labels: list[str]) -> None:
    """Teach synthetic examples, around as many centres as there are labels, without encoding anything."""
    with Model.open(path) as model:
        fingerprint = str(model.info.fit["fingerprint"])
        dimension = model._answering.embed(["a"])[0].shape[1]
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(len(labels), dimension))
    with Ledger.open(Layout(path).datastore) as ledger:
        for start in range(0, count, CHUNK):
            rows = min(CHUNK, count - start)
            which = rng.integers(len(labels), size=rows)
            vectors = centres[which] + rng.normal(size=(rows, dimension))
            vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
            new = [NewExample(f"synthetic {start + i}", (labels[which[i]],), None, vectors[i]) for i in range(rows)]
            ledger.teach(new, fingerprint, on_conflict="both")
    with Model.open(path) as model:  # the first answer catches up, and closing writes the snapshot
        model.classify("a")
