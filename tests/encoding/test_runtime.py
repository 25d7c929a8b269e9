"""The answering side's encoder: order, batches, truncation, threads, refusals, and what it never does."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from likewise.encoding.runtime import WEIGHTS, Encoder, fingerprint, open_ahead, opened, set_precision
from likewise.encoding.sessions import check_precision, multiplies_bfloat16
from likewise.errors import DataError, EncoderError, LikewiseError, MissingExtra, SettingError
from likewise.progress import LikewiseWarning

WITH_OPENVINO = importlib.util.find_spec("openvino") is not None
needs_bfloat16 = pytest.mark.skipif(not multiplies_bfloat16(), reason="the processor does not multiply bfloat16")
needs_openvino = pytest.mark.skipif(not WITH_OPENVINO, reason="openvino is an extra")

TEXTS = [
    "where is my parcel, it should have arrived last week",
    "a",
    "thank you",
    "my password is wrong " * 60,
    "日本 zebra",
    "the screen is broken",
    "a",
    "I want my money back, and I want it now, not next month!",
]


@pytest.fixture(scope="module")
def encoder(tiny_onnx: Path) -> Encoder:
    return Encoder(tiny_onnx, threads=1)


@pytest.fixture()
def folder(tiny_onnx: Path, tmp_path: Path) -> Path:
    """A copy of the encoder folder that a test may spoil."""
    return Path(shutil.copytree(tiny_onnx, tmp_path / "onnx"))


def record(encoder: Encoder) -> list[tuple[int, int]]:
    """The shapes of the batches that the encoder runs from here on."""
    shapes: list[tuple[int, int]] = []
    run = encoder._run

    def recording(feed: Mapping[str, Any]) -> Any:
        shapes.append(feed["input_ids"].shape)
        return run(feed)

    encoder._run = recording
    return shapes


def test_results_come_in_the_callers_order_and_like_single_ones(encoder: Encoder) -> None:
    together = encoder.encode(TEXTS)
    assert together.shape == (len(TEXTS), encoder.dimension) and together.dtype == np.float32
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(row, encoder.encode([text])[0], atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1]), together[::-1], atol=1e-5)
    assert np.linalg.norm(together[0] - together[5]) > 0.1


def test_a_graph_without_logits_says_so(encoder: Encoder) -> None:
    embeddings, logits = encoder.encode_with_logits(TEXTS)
    assert encoder.labels == 0 and logits is None
    np.testing.assert_array_equal(embeddings, encoder.encode(TEXTS))


def test_no_texts(encoder: Encoder) -> None:
    found = encoder.encode([])
    assert found.shape == (0, encoder.dimension) and found.dtype == np.float32


@given(
    texts=st.lists(st.text(alphabet="abc é日\U0001f600.", max_size=90), max_size=12),
    budget=st.integers(min_value=1, max_value=200),
)
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_budget_is_kept_and_changes_nothing(tiny_onnx: Path, texts: list[str], budget: int) -> None:
    reference = Encoder(tiny_onnx, threads=1, token_budget=100_000)
    encoder = Encoder(tiny_onnx, threads=1, token_budget=budget)
    shapes = record(encoder)
    np.testing.assert_allclose(encoder.encode(texts), reference.encode(texts), atol=1e-5)
    assert all(rows * width <= budget or rows == 1 for rows, width in shapes)
    assert sum(rows for rows, _ in shapes) == len(texts)


def test_similar_lengths_share_a_batch(tiny_onnx: Path) -> None:
    encoder = Encoder(tiny_onnx, threads=1, token_budget=64)
    shapes = record(encoder)
    encoder.encode(["parcel " * 28, "a", "parcel " * 28, "b"] * 4)
    assert shapes == [(8, 3)] + [(2, 30)] * 4  # special tokens at both ends


def test_more_texts_than_are_tokenised_at_a_time(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Encoder(tiny_onnx, threads=1).encode(TEXTS)
    monkeypatch.setattr("likewise.encoding.runtime._WINDOW", 3)
    seen: list[tuple[int, int]] = []
    found = Encoder(tiny_onnx, threads=1).encode(TEXTS, lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert [total for _, total in seen] == [len(TEXTS)] * len(seen)
    assert len(seen) >= 3 and [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1][0] == len(TEXTS)


def test_truncated_texts_are_counted_and_equal_their_beginning(tiny_onnx: Path) -> None:
    encoder = Encoder(tiny_onnx, threads=1)
    exact, longer = "parcel " * 62, "parcel " * 63  # with two special tokens: 64 and 65
    encoder.encode([exact])
    assert encoder.truncated == 0
    found = encoder.encode([longer, exact, longer + "and more"])
    assert encoder.truncated == 2
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(found[2], found[1], atol=1e-5)


def test_texts_are_measured_whole_and_can_be_read_from_their_end(tiny_onnx: Path) -> None:
    encoder = Encoder(tiny_onnx, threads=1)
    exact, longer = "parcel " * 62, "bill " * 9 + "parcel " * 62
    assert [count for count, _ in encoder.measured(["parcel", exact, longer, ""])] == [3, 64, 73, 2]
    assert [text for _, text in encoder.measured([exact, longer])] == [exact, longer]
    assert [text for _, text in encoder.measured([exact, longer, "a"], from_end=True)] == [exact, exact, "a"]
    assert encoder.truncated == 0


@pytest.mark.parametrize("runtime", ["onnxruntime", pytest.param("openvino", marks=needs_openvino)])
def test_many_threads_use_one_encoder(tiny_onnx: Path, runtime: Any) -> None:
    encoder = Encoder(tiny_onnx, threads=1, token_budget=64, runtime=runtime)
    expected = encoder.encode(TEXTS)
    before = encoder.truncated
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: encoder.encode(TEXTS[i % 3 :]), range(48)))
    for i, found in enumerate(results):
        np.testing.assert_allclose(found, expected[i % 3 :], atol=1e-5)
    assert encoder.truncated == before + 48


@needs_openvino
def test_openvino_computes_what_onnxruntime_computes(tiny_onnx: Path) -> None:
    found = Encoder(tiny_onnx, runtime="openvino", threads=1)
    expected = Encoder(tiny_onnx, runtime="onnxruntime", threads=1)
    np.testing.assert_allclose(found.encode(TEXTS), expected.encode(TEXTS), atol=1e-5)
    assert found.fingerprint == expected.fingerprint


def test_all_cores(tiny_onnx: Path, encoder: Encoder) -> None:
    np.testing.assert_allclose(Encoder(tiny_onnx, threads=0).encode(TEXTS), encoder.encode(TEXTS), atol=1e-5)


def test_texts_that_are_none(encoder: Encoder) -> None:
    with pytest.raises(DataError, match="one string"):
        encoder.encode("where is it")
    with pytest.raises(DataError, match=r"text 1 .*surrogates"):
        encoder.encode(["fine", "not \ud800 fine"])
    with pytest.raises(DataError, match=r"text 0 .*int"):
        encoder.encode([3])  # type: ignore[list-item]


def test_folders_that_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    def refused(expected: str) -> None:
        with pytest.raises(EncoderError, match=expected) as caught:
            Encoder(folder)
        assert "\n" not in str(caught.value)

    description = json.loads((folder / "encoder.json").read_text())

    def describe(**changes: object) -> None:
        (folder / "encoder.json").write_text(json.dumps({**description, **changes}))

    describe(format=2)
    refused("format 2.*upgrade")
    describe(inputs=["input_ids", "pixels"])
    refused("pixels")
    describe(dimension="wide")
    refused(r"cannot read .*encoder\.json")
    (folder / "encoder.json").write_text("{")
    refused(r"cannot read .*encoder\.json")
    describe()
    graph = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(graph[: len(graph) // 2])
    refused("ONNX Runtime cannot read")
    (folder / "model.onnx").write_bytes(graph)
    (folder / "tokenizer.json").write_text("[]")
    refused(r"cannot read .*tokenizer\.json")
    (folder / "tokenizer.json").unlink()
    refused(r"no tokenizer\.json")


@pytest.mark.parametrize("runtime", ["onnxruntime", pytest.param("openvino", marks=needs_openvino)])
def test_weights_that_are_cut_off_or_missing(folder: Path, runtime: Any) -> None:
    weights = folder / WEIGHTS
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(EncoderError, match="cannot read"):
        Encoder(folder, runtime=runtime)
    weights.unlink()
    with pytest.raises(EncoderError, match="cannot read"):
        Encoder(folder, runtime=runtime)


def test_a_folder_whose_weights_stand_in_the_graph(folder: Path, encoder: Encoder) -> None:
    """As Likewise wrote them before."""
    onnx = pytest.importorskip("onnx")
    onnx.save_model(onnx.load(folder / "model.onnx"), folder / "model.onnx")
    (folder / WEIGHTS).unlink()
    np.testing.assert_array_equal(Encoder(folder, threads=1).encode(TEXTS), encoder.encode(TEXTS))
    assert fingerprint(folder, encoder.max_tokens) != encoder.fingerprint


@needs_openvino
def test_a_damaged_graph_under_openvino(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(EncoderError, match="OpenVINO cannot read"):
        Encoder(folder, runtime="openvino")


def test_runtimes_that_are_not_there(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError, match="torch"):
        Encoder(tiny_onnx, runtime="torch")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r"likewise\[openvino\]") as caught:
        Encoder(tiny_onnx, runtime="openvino")
    assert isinstance(caught.value, LikewiseError)


# Precision


@needs_bfloat16
def test_bfloat16_is_near_to_float32_and_another_embedding(folder: Path, encoder: Encoder) -> None:
    set_precision(folder, "bf16")
    found = Encoder(folder, threads=1, token_budget=64)
    assert (found.precision, encoder.precision) == ("bf16", "fp32")
    assert found.fingerprint == fingerprint(folder, found.max_tokens, "bf16") != encoder.fingerprint
    vectors, exact = found.encode(TEXTS), encoder.encode(TEXTS)
    assert 0 < np.abs(vectors - exact).max() < 0.05 * np.abs(exact).max()
    np.testing.assert_array_equal(vectors, found.encode(TEXTS))  # the same every time
    set_precision(folder, "fp32")
    assert Encoder(folder, threads=1).fingerprint == encoder.fingerprint


@pytest.mark.parametrize("runtime", ["auto", "onnxruntime", pytest.param("openvino", marks=needs_openvino)])
def test_where_there_is_no_bfloat16_it_is_float32(
    folder: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, runtime: Any
) -> None:
    monkeypatch.setattr("likewise.encoding.sessions.multiplies_bfloat16", lambda: False)
    set_precision(folder, "bf16")
    with pytest.warns(LikewiseWarning, match="made to calculate in bf16.*here it calculates in fp32"):
        found = Encoder(folder, threads=1, runtime=runtime)
    assert found.precision == "fp32"
    np.testing.assert_allclose(found.encode(TEXTS), encoder.encode(TEXTS), atol=1e-5)
    with pytest.raises(SettingError, match=r"likewise\[openvino\].*choose 'fp32'"):
        check_precision("bf16", "auto")


def test_a_precision_that_there_is_not(folder: Path) -> None:
    description = json.loads((folder / "encoder.json").read_text())
    (folder / "encoder.json").write_text(json.dumps({**description, "precision": "int4"}))
    with pytest.raises(EncoderError, match="precision 'int4'"):
        Encoder(folder)
    with pytest.raises(SettingError, match="bf16"):
        check_precision("bf16", "onnxruntime")
    with pytest.raises(SettingError, match=r"int8.*ONNX Runtime"):
        check_precision("int8", "openvino")


def test_whole_numbers_are_not_for_openvino(folder: Path) -> None:
    set_precision(folder, "int8")
    with pytest.raises(SettingError, match="choose runtime 'auto' or 'onnxruntime'"):
        Encoder(folder, runtime="openvino")


# What only a process of its own can show

_BLOCKED = "torch transformers sentence_transformers sklearn scipy pandas huggingface_hub"

_PROGRAM = """
import sys
from pathlib import Path

class Blocker:
    tried = []
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}.split():
            self.tried.append(name)
            raise ImportError(name + " is blocked")

def audit(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        print("network:", event, arguments, flush=True)

sys.meta_path.insert(0, Blocker())
sys.addaudithook(audit)
from likewise.encoding.runtime import Encoder
encoder = Encoder(Path(sys.argv[1]), threads=1, runtime=sys.argv[2])
print(encoder.encode(["where is my parcel", "a"]).shape)
print("imported:", sorted(name for name in {blocked!r}.split() if name in sys.modules))
print("telemetry:", sorted(name for name in sys.modules if name.startswith("openvino_telemetry")))
if sys.argv[2] == "openvino":
    import openvino.tools.ovc.telemetry_utils as used
    print("stand-in:", used.tm.__name__)
"""


@pytest.mark.parametrize("runtime", ["onnxruntime", pytest.param("openvino", marks=needs_openvino)])
def test_no_heavy_import_and_no_telemetry(tiny_onnx: Path, tmp_path: Path, runtime: str) -> None:
    """Neither runtime imports the training side, opens a connection, or leaves anything in the user's home.

    ONNX Runtime's telemetry keeps a device id and a database under the home, OpenVINO's a consent file; both
    stay away under continuous integration by themselves, so its marks are taken from the environment.
    """
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
    program = _PROGRAM.format(blocked=_BLOCKED)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tiny_onnx), runtime],
        env={**kept, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "LOCALAPPDATA": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    expected = ["(2, 32)", "imported: []", "telemetry: []"]
    if runtime == "openvino":
        expected.append("stand-in: openvino.tools.ovc.telemetry_stub")
    assert done.stdout.splitlines() == expected
    assert done.stderr == ""
    assert list(tmp_path.rglob("*")) == []


@needs_openvino
def test_a_callers_own_openvino_telemetry_is_left_alone(tiny_onnx: Path) -> None:
    program = (
        "import sys; import openvino_telemetry as before; from pathlib import Path;"
        "from likewise.encoding.runtime import Encoder;"
        "Encoder(Path(sys.argv[1]), runtime='openvino');"
        "assert sys.modules['openvino_telemetry'] is before"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tiny_onnx)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_what_was_begun_ahead_is_taken_once_and_only_for_the_same_arguments(tiny_onnx: Path) -> None:
    open_ahead(tiny_onnx, threads=1, token_budget=64)
    other = opened(tiny_onnx, threads=1, token_budget=32)
    first, second = (opened(tiny_onnx, token_budget=64, threads=1) for _ in range(2))
    assert len({id(one) for one in (other, first, second)}) == 3
    for one in (other, first, second):
        assert one.encode(TEXTS) == pytest.approx(Encoder(tiny_onnx, threads=1).encode(TEXTS), abs=1e-5)


def test_what_went_wrong_ahead_is_told_to_whoever_takes_it(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"damaged")
    open_ahead(folder, threads=1)
    with pytest.raises(EncoderError, match="cannot read"):
        opened(folder, threads=1)
