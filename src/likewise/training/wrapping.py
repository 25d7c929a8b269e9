"""A transformers sequence classifier as it is -> its representation, and the head that stands on it.

Any such network ends in a linear layer that yields its logits. What goes into that layer is the representation, an
embedding like any other; the layer's weights and bias are the head: logits = representation @ weights + bias. Nothing
is trained and nothing changed, so the original network's answers come back to the last digits. (KNN-EC, Algorithm 1 and
section 3, stores just these hidden representations of a classifier that has been trained already.)
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification

from likewise.errors import EncoderError
from likewise.training.graph import PROBES, TOLERANCE, Form, check_size, difference, pad_id, write_graph
from likewise.training.loading import position_limit, quiet, read_tokenizer, reading
from likewise.types import Task

_BATCH = 64
_EXACT = 1e-4  # of the largest logit: more than rounding in float32, less than any other formula
_FOLDER = "a transformers folder with a sequence classifier and its tokenizer"

Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]


class WrappedClassifier:
    """A sequence classifier of any family that transformers knows, read from its folder.

    `labels` are its label names in the order of its logits; `task` is "multi" where it was trained to give a text
    several labels. `weights` (dimension, labels) and `bias` (labels,), both float64, are its last linear layer, so that
    `embed(texts) @ weights + bias` are its logits.
    """

    def __init__(self, folder: Path, *, max_tokens: int) -> None:
        """Read the folder, on the CPU in float32, without network and without running any code in it.

        Texts are cut at `max_tokens` tokens, special ones included, or at the classifier's own limit if that is lower.
        EncoderError when the folder cannot be read or lacks weights or a tokenizer, when it holds a regression, when
        labels share a name, when the logits do not come out of a linear layer, and when what the network makes of a
        text depends on the texts beside it.
        """
        self._network = _read_network(folder)
        self._tokenizer = read_tokenizer(folder)
        self._tokenizer.truncation_side = "right"  # where the runtime cuts
        self.labels, self.task = _labels_and_task(folder, self._network.config)
        self._limit = _limit(self._network, self._tokenizer, max_tokens)
        self._accepted = set(inspect.signature(self._network.forward).parameters)
        with quiet(), torch.no_grad(), _running(folder):
            self._last = self._find_last(folder)
            self.weights, self.bias = _weights_and_bias(self._network.get_submodule(self._last))
            logits = self._one_by_one(PROBES)
            with self._without_last():
                alone = self._one_by_one(PROBES)
                if not difference(alone @ self.weights + self.bias, logits) < _EXACT:
                    raise self._not_linear(folder)
                self._left = self._find_side(folder, alone)

    def logits(self, texts: Sequence[str]) -> Floats:
        """The original network's logits, float32 (texts, labels), on what its own tokenizer makes of the texts."""
        size = 1 if self._tokenizer.pad_token_id is None else _BATCH
        out = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        with quiet(), torch.no_grad():
            for start in range(0, len(texts), size):
                out[start : start + size] = self._answer(texts[start : start + size])
        return out

    def embed(self, texts: Sequence[str]) -> Floats:
        """Representations of texts, float32 (texts, dimension), by torch."""
        out = np.empty((len(texts), len(self.weights)), dtype=np.float32)
        with quiet(), torch.no_grad(), self._without_last():
            rows = self._rows(texts)
            order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
            network = _Representation(self._network, self._left)
            for start in range(0, len(order), _BATCH):
                batch = order[start : start + _BATCH]
                out[batch] = network(*self._padded([rows[i] for i in batch]))
        return out

    def write(self, folder: Path) -> None:
        """Write the classifier as a transformers folder, and in it, as `onnx/`, the encoder that answers.

        `loading.load` reads the network's body out of it, for further training. EncoderError when the representation
        cannot be exported.
        """
        check_size(self._network)
        with quiet():
            with self._without_last():
                write_graph(
                    _Representation(self._network, self._left).eval(),
                    self._tokenizer,
                    folder / "onnx",
                    Form(len(self.weights), self._limit, "classifier", normalise=False),
                    architecture=type(self._network).__name__,
                    expected=self._one_by_one,
                )
            self._tokenizer.backend_tokenizer.no_truncation()  # left behind by its last call
            self._tokenizer.backend_tokenizer.no_padding()
            self._tokenizer.save_pretrained(folder)
            self._network.save_pretrained(folder)

    # The network, whole and without its last layer

    def _answer(self, texts: Sequence[str]) -> Tensor:
        """What the network says to texts that its own tokenizer has made ready, padded where there are several."""
        made = self._tokenizer(
            list(texts), truncation=True, max_length=self._limit, padding=len(texts) > 1, return_tensors="pt"
        )
        feed = {name: value for name, value in made.items() if name in self._accepted}
        return cast(Tensor, self._network(**feed, return_dict=True).logits)

    @contextmanager
    def _without_last(self) -> Iterator[None]:
        """Inside, the network ends before its last layer: its "logits" are what would go into that."""
        linear = self._network.get_submodule(self._last)
        self._network.set_submodule(self._last, nn.Identity())
        try:
            yield
        finally:
            self._network.set_submodule(self._last, linear)

    def _one_by_one(self, texts: Sequence[str]) -> Floats:
        """Representations of texts that have nothing beside them, as the network's own tokenizer feeds it."""
        with torch.no_grad():
            return cast(Floats, torch.cat([self._answer([text]) for text in texts]).numpy())

    def _rows(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._tokenizer(text, truncation=True, max_length=self._limit)["input_ids"] for text in texts]

    def _padded(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """input_ids and attention_mask of rows, padded on the right as the runtime does it."""
        pad = pad_id(self._tokenizer)
        ids = [torch.tensor(row or [pad]) for row in rows]  # a tokenizer without special tokens may yield none
        mask = [torch.tensor([1] * len(row) or [0]) for row in rows]
        return pad_sequence(ids, batch_first=True, padding_value=pad), pad_sequence(mask, batch_first=True)

    # What has to be found out

    def _find_last(self, folder: Path) -> str:
        """The name of the linear layer whose output is the logits."""
        outputs: dict[str, Tensor] = {}

        def watch(name: str, module: nn.Linear) -> Any:
            return module.register_forward_hook(lambda _module, _given, output: outputs.update({name: output}))

        linears = [(name, module) for name, module in self._network.named_modules() if isinstance(module, nn.Linear)]
        hooks = [watch(name, module) for name, module in linears if module.out_features == len(self.labels)]
        logits = self._answer(PROBES[1:2])
        for hook in hooks:
            hook.remove()
        # One that picks a token's logits out of all tokens' (GPT-2) picks that token's representation just as well.
        found = [name for name, out in outputs.items() if (out.flatten(0, -2) == logits).all(-1).any()]
        if not found:
            raise self._not_linear(folder)
        return found[-1]

    def _not_linear(self, folder: Path) -> EncoderError:
        return EncoderError(
            f"the logits of the classifier in {folder} ({type(self._network).__name__}) do not come out of a linear "
            f"layer; expected one that ends in such a layer, as BERT's, RoBERTa's or XLNet's do"
        )

    def _find_side(self, folder: Path, alone: Floats) -> bool:
        """Whether padding has to stand left of a text, so that its representation is the one it has alone."""
        padded = self._padded(self._rows(PROBES))
        own = self._tokenizer.padding_side == "left"
        for left in (own, not own):
            if difference(_Representation(self._network, left)(*padded).numpy(), alone) < TOLERANCE:
                return left
        raise EncoderError(
            f"what the classifier in {folder} ({type(self._network).__name__}) makes of a text depends on more than "
            f"the text's own tokens (on padding, or on token types); expected one that needs only token ids and an "
            f"attention mask, padded on either side: choose another classifier"
        )


class _Representation(nn.Module):
    """From token ids, padded on the right, to what goes into the last layer of a network that lacks that."""

    def __init__(self, network: nn.Module, left: bool) -> None:
        super().__init__()
        self.network = network
        self.left = left

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        if self.left:
            input_ids, attention_mask = _turned(input_ids, attention_mask)
        output = self.network(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
        return cast(Tensor, output.logits)


def _turned(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Rows padded on the right, turned round until the padding stands left."""
    lengths = attention_mask.sum(dim=1, keepdim=True)
    width = input_ids.shape[1]
    order = (torch.arange(width) + lengths) % width
    return input_ids.gather(1, order), attention_mask.gather(1, order)


def _read_network(folder: Path) -> Any:
    with reading(folder, "classifier", _FOLDER):
        network, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            weights_only=True,  # of files that are not safetensors: no code is run from them either
            dtype=torch.float32,
            attn_implementation="eager",  # what can be traced
            output_loading_info=True,
        )
    lacking = sorted({*info["missing_keys"], *(found[0] for found in info["mismatched_keys"])})
    if lacking:
        raise EncoderError(
            f"the classifier in {folder} lacks weights "
            f"({', '.join(lacking[:3])}{', ...' if len(lacking) > 3 else ''}); "
            f"expected {_FOLDER}: copy it again, whole; an encoder without a classifier has to be fitted instead"
        )
    return network.eval()


def _labels_and_task(folder: Path, config: Any) -> tuple[list[str], Task]:
    if config.num_labels < 2 or config.problem_type == "regression":
        raise EncoderError(
            f"the model in {folder} is a regression ({config.num_labels} output(s), problem_type "
            f"{config.problem_type!r}); expected a classifier with two labels or more"
        )
    labels = [str(config.id2label[i]) for i in range(config.num_labels)]
    if len(set(labels)) < len(labels):
        twice = sorted({label for label in labels if labels.count(label) > 1})
        raise EncoderError(
            f"labels of the classifier in {folder} share a name ({', '.join(map(repr, twice[:5]))}); "
            f"expected different ones: correct id2label in its config.json"
        )
    return labels, "multi" if config.problem_type == "multi_label_classification" else "single"


def _limit(network: Any, tokenizer: Any, max_tokens: int) -> int:
    """The longest text, in tokens: the least of what is asked, and what tokenizer, positions and config name."""
    with quiet():  # XLNet's config names -1, for none, and says so
        named = getattr(network.config, "max_position_embeddings", None)
    found = (tokenizer.model_max_length, position_limit(network), named)
    return min([max_tokens, *(limit for limit in found if limit is not None and limit > 0)])


def _weights_and_bias(linear: Any) -> tuple[Matrix, Matrix]:
    weights = linear.weight.detach().double().numpy().T.copy()
    bias = np.zeros(linear.out_features) if linear.bias is None else linear.bias.detach().double().numpy()
    return weights, bias


@contextmanager
def _running(folder: Path) -> Iterator[None]:
    """A network that cannot be run is the folder's fault."""
    try:
        yield
    except EncoderError:
        raise
    except Exception as error:  # the network's own code may raise anything
        raise EncoderError(
            f"the classifier in {folder} cannot be run ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}); expected one that needs only token ids and an attention mask"
        ) from error
