"""LDGN: its arithmetic by loops, its graph of labels, and that padding, and torch or ONNX, make no difference."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from likewise.encoding.runtime import Encoder
from likewise.training.export import export_onnx
from likewise.training.loading import load
from likewise.training.modules.ldgn import LDGN, cooccurrence
from likewise.training.modules.words import word_tokenizer
from likewise.training.scratch import build

TEXTS = ["Where is my parcel?", "where is the bill", "The parcel, the parcel!", "my bill is lonely"]
ODD = ["parcel", "where is my parcel? " * 12, "unheard words only", "", "my bill", "the\tbill\nis", " "]
TARGETS = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 1, 1], [0, 0, 0]])
RUNTIMES = ["onnxruntime", *(["openvino"] if importlib.util.find_spec("openvino") else [])]
Row = list[float]


def tiny() -> LDGN:
    """Of three labels that it has met, its weights far from 0."""
    torch.manual_seed(0)
    network = LDGN(word_tokenizer(TEXTS), dimension=4, hidden=3, wide=5, narrow=2)
    network.meet(TARGETS, seed=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return network.eval()


# By loops


def dot(a: Row, b: Row) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def times(matrix: list[Row], vector: Row) -> Row:
    return [dot(row, vector) for row in matrix]


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def naive_lstm(lstm: nn.LSTM, words: list[Row]) -> list[Row]:
    """The states after each word; the weights hold input, forget, cell and output gates one after the other."""
    given, own = lstm.weight_ih_l0.tolist(), lstm.weight_hh_l0.tolist()
    bias = (lstm.bias_ih_l0 + lstm.bias_hh_l0).tolist()
    size = lstm.hidden_size
    state, cell, out = [0.0] * size, [0.0] * size, []
    for word in words:
        sums = [a + b + c for a, b, c in zip(times(given, word), times(own, state), bias, strict=True)]
        for k in range(size):
            enters, stays, new, leaves = sums[k], sums[size + k], sums[2 * size + k], sums[3 * size + k]
            cell[k] = logistic(stays) * cell[k] + logistic(enters) * math.tanh(new)
            sums[k] = logistic(leaves) * math.tanh(cell[k])
        state = sums[:size]
        out.append(state)
    return out


def naive_layers(nodes: list[Row], graph: list[Row], layers: nn.ModuleList) -> list[Row]:
    """LeakyReLU(N H W), twice; N joins a node with itself and others, each by the root of what both are joined with."""
    n = range(len(nodes))
    joined = [[graph[i][j] + (i == j) for j in n] for i in n]
    for layer in layers:
        sent = [times(layer.weight.tolist(), node) for node in nodes]  # type: ignore[operator, union-attr]
        nodes = []
        for i in n:
            row = [0.0] * len(sent[0])
            for j in n:
                share = joined[i][j] / math.sqrt(sum(joined[i]) * sum(joined[j]))
                row = [x + share * y for x, y in zip(row, sent[j], strict=True)]
            nodes.append([x if x > 0 else 0.01 * x for x in row])
    return nodes


def naive(network: LDGN, ids: list[int]) -> tuple[Row, Row]:
    """Embedding and logits of one text."""
    words = [network.words.weight[i].tolist() for i in ids]
    onwards = naive_lstm(network.onwards, words)
    backwards = naive_lstm(network.backwards, words[::-1])[::-1]
    states = [one + other for one, other in zip(onwards, backwards, strict=True)]
    components = []
    for label in network.label_vectors.tolist():
        fit = [math.exp(dot(label, state)) for state in states]
        weighed = [[share / sum(fit) * x for x in state] for share, state in zip(fit, states, strict=True)]
        components.append([sum(column) for column in zip(*weighed, strict=True)])
    first = naive_layers(components, network.cooccurrence.tolist(), network.along_cooccurrence)
    ends = [[times(end.weight.tolist(), h) for h in first] for end in (network.one_end, network.other_end)]
    anew = [[logistic(dot(a, b)) for b in ends[1]] for a in ends[0]]
    second = naive_layers(first, anew, network.along_reconstruction)
    vectors = [one + other for one, other in zip(first, second, strict=True)]
    logits = [
        dot(v, w) + b for v, w, b in zip(vectors, network.weights.tolist(), network.bias.tolist(), strict=True)
    ]  # fmt: skip
    return [max(column) for column in zip(*vectors, strict=True)], logits


def made(network: LDGN, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    found = network(network.preprocess(texts))
    return found["sentence_embedding"], found["logits"]


def test_embedding_and_logits_are_those_of_the_loop_and_padding_makes_no_difference() -> None:
    network = tiny().double()
    with torch.no_grad():
        embeddings, logits = made(network, ODD)
        assert embeddings.shape == (len(ODD), 4) and logits.shape == (len(ODD), 3)
        for row, text in enumerate(ODD):
            alone, said = (part[0] for part in made(network, [text]))
            assert torch.allclose(alone, embeddings[row], atol=1e-12), text
            assert torch.allclose(said, logits[row], atol=1e-12), text
            if text.strip():
                expected = naive(network, network.preprocess([text])["input_ids"][0].tolist())
                assert alone.tolist() == pytest.approx(expected[0], abs=1e-9), text
                assert said.tolist() == pytest.approx(expected[1], abs=1e-9), text
    nothing = [row for row, text in enumerate(ODD) if not text.strip()]
    assert not embeddings[nothing].any() and (logits[nothing] == network.bias).all()


def test_what_stands_in_the_padding_is_never_read() -> None:
    network = tiny()
    features = network.preprocess(ODD)
    other = {**features, "input_ids": torch.where(features["attention_mask"] > 0, features["input_ids"], 1)}
    with torch.no_grad():
        one, two = network(features), network(other)
    assert not torch.equal(features["input_ids"], other["input_ids"])
    for name in ("sentence_embedding", "logits"):
        assert torch.equal(one[name], two[name])


def test_gradients_are_those_of_finite_differences() -> None:
    network = tiny().double()
    features = network.preprocess(["my parcel is where?", "bill"])
    parameters = dict(network.named_parameters())

    def both(*values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found: Any = torch.func.functional_call(network, dict(zip(parameters, values, strict=True)), (features,))
        return found["sentence_embedding"], found["logits"]

    assert torch.autograd.gradcheck(both, tuple(parameters.values()), atol=1e-6)


def test_labels_are_joined_by_how_often_one_comes_with_the_other() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((40, 6)) < 0.3).astype(np.float32)
    targets[:, 5] = 0  # borne by no row
    found = cooccurrence(torch.tensor(targets)).tolist()
    for i in range(6):
        for j in range(6):
            with_j = [row for row in targets if row[j]]
            both = sum(row[i] for row in with_j)
            expected = 0.0 if i == j or not with_j else both / len(with_j)
            assert found[i][j] == pytest.approx(expected, abs=1e-6)


def test_in_training_words_are_hidden_in_part() -> None:
    network = tiny().train()
    features = network.preprocess(TEXTS)
    assert not torch.equal(network(features)["logits"], network(features)["logits"])
    network.eval()
    assert torch.equal(network(features)["logits"], network(features)["logits"])


def test_other_labels_leave_what_it_knows_of_words() -> None:
    network = tiny()
    state = torch.random.get_rng_state()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.meet(torch.tensor([[1, 1], [0, 1], [0, 1]]), seed=5)
    after = network.state_dict()
    changed = {name for name in before if before[name].shape != after[name].shape}
    assert changed == {"label_vectors", "weights", "bias", "cooccurrence"}
    assert all(torch.equal(before[name], after[name]) for name in before.keys() - changed)
    assert after["cooccurrence"].tolist() == pytest.approx(np.array([[0, 1 / 3], [1, 0]]))
    assert made(network, TEXTS)[1].shape == (4, 2)
    assert torch.equal(torch.random.get_rng_state(), state)  # drawn by a generator of its own
    again = tiny()
    for seed in (5, 6):
        again.meet(torch.tensor([[1, 1], [0, 1], [0, 1]]), seed=seed)
        assert torch.equal(again.label_vectors, network.label_vectors) == (seed == 5)


def test_a_folder_holds_its_labels_number_and_graph(tmp_path: Path) -> None:
    build("ldgn", TEXTS, 0, tmp_path / "new")
    model = load(tmp_path / "new")
    network: Any = model[0]
    network.meet(TARGETS, seed=3)
    model.save(str(tmp_path / "again"), create_model_card=False)
    again: Any = load(tmp_path / "again")[0]
    assert again.labels == 3 and torch.equal(again.cooccurrence, network.cooccurrence)
    with torch.no_grad():
        assert torch.equal(made(again, ODD)[1], made(network, ODD)[1])


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_graph_yields_both_as_torch_does(runtime: Any, normalise: bool, tmp_path: Path) -> None:
    build("ldgn", TEXTS, 0, tmp_path / "new")
    model = load(tmp_path / "new")
    network: Any = model[0]
    network.meet(TARGETS, seed=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)  # so that gates and graphs saturate
    export_onnx(model, tmp_path / "onnx", normalise=normalise, max_tokens=40, logits=True)
    model.max_seq_length = 40
    for budget in (1, 64, 10_000):  # alone, by length, and all together
        encoder = Encoder(tmp_path / "onnx", threads=1, token_budget=budget, runtime=runtime)
        assert (encoder.dimension, encoder.labels) == (512, 3)
        embeddings, logits = encoder.encode_with_logits(ODD)
        with torch.no_grad():
            expected, said = made(network, ODD)
        expected = nn.functional.normalize(expected, dim=-1) if normalise else expected
        assert logits is not None and np.allclose(logits, said, atol=1e-5 * float(said.abs().max()))
        assert np.allclose(embeddings, expected, atol=1e-5 * float(expected.abs().max()))
        assert np.array_equal(encoder.encode(ODD), embeddings)


def test_the_graph_has_no_logits_unless_they_are_wanted(tmp_path: Path) -> None:
    build("ldgn", TEXTS, 0, tmp_path / "new")
    export_onnx(load(tmp_path / "new"), tmp_path / "onnx", normalise=False, max_tokens=40)
    encoder = Encoder(tmp_path / "onnx", threads=1)
    assert encoder.labels == 0 and encoder.encode_with_logits(ODD)[1] is None
