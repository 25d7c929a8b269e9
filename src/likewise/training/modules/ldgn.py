"""A network over words and labels: what a text says to each label, passed along two graphs of labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from transformers import PreTrainedTokenizerFast

from likewise.training.modules.words import WordNetwork


class LDGN(WordNetwork):
    """The label-specific dual graph network of Ma et al. 2021, for several labels a text.

    Two LSTMs, from either end, make states h_t of the text's words:
        1. a_it = softmax over t of (c_i . h_t),  u_i = sum_t a_it h_t        what the text says to label i
        2. H1, H2 = two layers LeakyReLU(N(A) H W), from H0 = u          A_ij = P(i | j) among the training rows, i != j
        3. D_ij = sigmoid((W_a H2_i) . (W_b H2_j))                            the graph made anew for each text
        4. H3, H4 = two layers LeakyReLU(N(D) H W), from H2
        5. v_i = [H2_i, H4_i],  logit_i = w_i . v_i + b_i
    c_i are vectors of the labels that start at random, and N(A) = S^-1/2 (A + I) S^-1/2, where S has the row sums of
    A + I on its diagonal (Kipf and Welling 2017, eq. 2). The embedding is the largest value of v over the labels, as
    multi-label kNN has it (its appendix A).

    The paper's text was not at hand. As published, to our knowledge: 1 to 4 and the concatenation, words of 300 values,
    LSTMs of 300 units each way, graph layers of 512. Decided here: words start at random (the paper's are GloVe's); H2
    and H4 have 256 values, so that v has 512, which fits the sizes in multi-label kNN's Table 7; w_i and b_i are each
    label's own, since a text of one word says the same to all; D gets Kipf and Welling's self-loops like A, for without
    them a label that D hardly connects would be divided by next to nothing; half of the words' values are hidden in
    training. With one label a text A is 0, and D alone connects labels.
    """

    config_keys = ("labels", "dimension", "hidden", "wide", "narrow")  # type: ignore[assignment]
    cooccurrence: Tensor

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        labels: int = 1,
        dimension: int = 300,
        hidden: int = 300,
        wide: int = 512,
        narrow: int = 256,
    ) -> None:
        super().__init__(tokenizer)
        self.labels, self.dimension, self.hidden, self.wide, self.narrow = labels, dimension, hidden, wide, narrow
        self.words = nn.Embedding(len(tokenizer), dimension, padding_idx=tokenizer.pad_token_id)
        nn.init.uniform_(self.words.weight, -0.25, 0.25)
        self.hiding = nn.Dropout(0.5)
        self.onwards = nn.LSTM(dimension, hidden, batch_first=True)
        self.backwards = nn.LSTM(dimension, hidden, batch_first=True)
        self.along_cooccurrence = nn.ModuleList([_linear(2 * hidden, wide), _linear(wide, narrow)])
        self.one_end, self.other_end = _linear(narrow, narrow), _linear(narrow, narrow)
        self.along_reconstruction = nn.ModuleList([_linear(narrow, wide), _linear(wide, narrow)])
        self._draw(None)

    def _draw(self, generator: torch.Generator | None) -> None:
        """What belongs to single labels, afresh."""
        device = self.words.weight.device

        def drawn(width: int) -> nn.Parameter:
            made = nn.init.xavier_uniform_(torch.empty(self.labels, width), generator=generator)
            return nn.Parameter(made.to(device))

        self.label_vectors, self.weights = drawn(2 * self.hidden), drawn(2 * self.narrow)
        self.bias = nn.Parameter(torch.zeros(self.labels, device=device))
        self.register_buffer("cooccurrence", torch.zeros(self.labels, self.labels, device=device))

    def meet(self, targets: Tensor, seed: int) -> None:
        """Become a network of the labels of these multi-hot targets (rows, labels); the rest stays as it is learnt."""
        self.labels = targets.shape[1]
        self._draw(torch.Generator().manual_seed(seed))
        self.cooccurrence.copy_(cooccurrence(targets))

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Adds "sentence_embedding" (texts, 2 narrow) and "logits" (texts, labels) to token ids and attention mask."""
        # Under autocast cuDNN's LSTM computes in float16, which takes a scaled loss to be trained.
        with torch.autocast(self.words.weight.device.type, enabled=False):
            present = features["attention_mask"].unsqueeze(2).to(self.words.weight.dtype)
            states = self._states(features["input_ids"], features["attention_mask"])
            vectors = self._vectors(self._components(states, present))
            logits = (vectors * self.weights).sum(dim=2) + self.bias
        return {**features, "sentence_embedding": vectors.amax(dim=1), "logits": logits}

    def _states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """States of the words from either end, (texts, tokens, 2 hidden); those of padding say nothing.

        The second LSTM reads each row's words turned round, with the padding still behind them, so that neither ever
        reads padding before a word.
        """
        places = torch.arange(ids.shape[1], device=ids.device)
        lengths = mask.sum(dim=1, keepdim=True)
        turned = torch.where(places < lengths, lengths - 1 - places, places).unsqueeze(2)
        words = self.hiding(self.words(ids))
        onwards, _ = self.onwards(words)
        backwards, _ = self.backwards(words.gather(1, turned.expand(-1, -1, self.dimension)))
        return torch.cat([onwards, backwards.gather(1, turned.expand(-1, -1, self.hidden))], dim=2)

    def _components(self, states: Tensor, present: Tensor) -> Tensor:
        """What each text says to each label (1): (texts, labels, 2 hidden), 0 for a text without words."""
        fit = (states @ self.label_vectors.T).masked_fill(present == 0, torch.finfo(states.dtype).min)
        attention = torch.softmax(fit, dim=1) * present
        return attention.transpose(1, 2) @ states

    def _vectors(self, components: Tensor) -> Tensor:
        """The vector of each label (2 to 5): (texts, labels, 2 narrow)."""
        first = _passed(components, self.cooccurrence, self.along_cooccurrence)
        reconstruction = torch.sigmoid(self.one_end(first) @ self.other_end(first).transpose(1, 2))
        second = _passed(first, reconstruction, self.along_reconstruction)
        return torch.cat([first, second], dim=2)

    def get_embedding_dimension(self) -> int:
        """Width of the embedding."""
        return 2 * self.narrow


def cooccurrence(targets: Tensor) -> Tensor:
    """P(i | j): of the rows that bear label j, the share that bears i as well; float32 (labels, labels).

    `targets` (rows, labels) are multi-hot. 0 on the diagonal, and where no row bears j.
    """
    has = (targets > 0).double()
    found = (has.T @ has) / has.sum(dim=0).clamp(min=1)
    return found.fill_diagonal_(0.0).float()


def _passed(nodes: Tensor, graph: Tensor, layers: nn.ModuleList) -> Tensor:
    """Nodes (texts, labels, d) after layers over a graph (without self-loops), one for all texts or one for each."""
    graph = graph + torch.eye(graph.shape[-1], dtype=graph.dtype, device=graph.device)
    scale = graph.sum(dim=-1).rsqrt()
    normalised = scale.unsqueeze(-1) * graph * scale.unsqueeze(-2)
    for layer in layers:
        nodes = leaky_relu(normalised @ layer(nodes))
    return nodes


def _linear(given: int, made: int) -> nn.Linear:
    layer = nn.Linear(given, made, bias=False)
    nn.init.xavier_uniform_(layer.weight)
    return layer
