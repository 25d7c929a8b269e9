"""What networks over words share: a vocabulary of the words of the training texts, and token ids in its terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.modules.input_module import InputModule
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import NFKC, Lowercase
from tokenizers.normalizers import Sequence as Both
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor
from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN = "[PAD]", "[UNK]"
MOST_WORDS = 30_000
FEWEST = 2
"""Times that a word must be there to be learnt: those that are there once teach what an unknown word is worth."""
LONGEST = 1_000_000  # such a network has no greatest length of its own


def word_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Words and signs, in lower case: those that are in the texts twice or more, the 30,000 most frequent ones."""
    normalizer, splitter = Both([NFKC(), Lowercase()]), Whitespace()
    counts = Counter(
        word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    )  # fmt: skip
    frequent = sorted(
        (word for word, count in counts.items() if count >= FEWEST), key=lambda word: (-counts[word], word)
    )
    vocabulary = {word: number for number, word in enumerate([PAD, UNKNOWN, *frequent[:MOST_WORDS]])}
    made = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    made.normalizer, made.pre_tokenizer = normalizer, splitter
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made, pad_token=PAD, unk_token=UNKNOWN
    )


class WordNetwork(InputModule):
    """Texts to embeddings, by words. A subclass makes "sentence_embedding" of "input_ids" and "attention_mask".

    Its folder holds tokenizer, configuration (`config_keys`) and weights, and no code.
    """

    config_file_name = "config.json"
    tokenizer: PreTrainedTokenizerFast
    labels: int = 0
    """How many labels it has logits for ("logits" beside the embedding); 0 where others classify its embeddings."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tokenizer = tokenizer
        self.max_seq_length = LONGEST

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **_: Any) -> dict[str, Tensor]:
        """Token ids and attention mask, int64 (texts, tokens), padded on the right; at least one token wide."""
        made = self.tokenizer(
            list(inputs), padding=True, truncation=True, max_length=self.max_seq_length, return_tensors="pt"
        )
        if made["input_ids"].shape[1] == 0:  # nothing but texts without words
            nothing = torch.zeros((len(inputs), 1), dtype=torch.int64)
            return {"input_ids": nothing, "attention_mask": nothing.clone()}
        return {"input_ids": made["input_ids"], "attention_mask": made["attention_mask"]}

    def meet(self, targets: Tensor, seed: int) -> None:
        """Learn from now on which of the labels of these multi-hot targets (rows, labels) a text bears.

        For a network that has something of its own for each label: that is drawn from `seed`, what it has learnt
        otherwise stays. Others have nothing to do.
        """

    def save(self, output_path: str, *_: Any, safe_serialization: bool = True, **__: Any) -> None:
        """Write tokenizer, configuration and weights."""
        self.tokenizer.save_pretrained(output_path)
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=True)

    @classmethod
    def read(cls, folder: Path) -> WordNetwork:
        """What `save` wrote."""
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        made = cls(tokenizer, **cls.load_config(str(folder)))
        cls.load_torch_weights(str(folder), model=made)
        return made
