"""Plain fine-tuning: a linear classifier on the encoder's mean of tokens, trained by cross-entropy and nothing else.

Optimiser, schedule, batch size and precision are those of Likewise's default recipe, read from it.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, get_linear_schedule_with_warmup

from benchmarks.contestants import ENCODER_TOKENS
from benchmarks.contestants.answering import rows_of
from likewise.job import FEW
from likewise.recipes import recipe_named
from likewise.training.determinism import native_bfloat16


class Plain:
    """Fits, and scores dev rows after each epoch, off the clock."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fit(self, encoder: str, data: str) -> dict[str, Any]:
        """Seconds, what the classifier decides on dev and test rows, and on dev rows after each epoch (`curve`)."""
        (texts, labels), (dev, _), (test, _) = (rows_of(data, part) for part in ("train", "dev", "test"))
        recipe = recipe_named("likewise")
        few = len(texts) < FEW * len(set(labels))  # then more passes over the texts, as `likewise` takes them
        (schedule,) = recipe.few if few and recipe.few else recipe.stages
        started = time.perf_counter()
        torch.manual_seed(0)
        self.tokenizer = AutoTokenizer.from_pretrained(encoder)
        self.encoder = AutoModel.from_pretrained(encoder)
        self.names = sorted(set(labels))
        self.layer = nn.Linear(self.encoder.config.hidden_size, len(self.names))
        targets = torch.tensor([self.names.index(label) for label in labels])
        groups = [
            {"params": self.encoder.parameters(), "lr": schedule.learning_rate},
            {"params": self.layer.parameters(), "lr": schedule.head_learning_rate},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=schedule.weight_decay, fused=True)
        a_pass = -(-len(texts) // schedule.batch_size)
        epochs, passes = schedule.course(a_pass)
        steps = math.ceil(epochs * a_pass * passes)
        slope = get_linear_schedule_with_warmup(optimizer, round(schedule.warmup * steps), steps)
        spent, curve, done = 0.0, [], 0
        while done < steps:
            for rows in torch.randperm(len(texts)).split(schedule.batch_size)[: steps - done]:
                self.encoder.train()
                with torch.autocast("cpu", torch.bfloat16, enabled=native_bfloat16()):
                    hidden = nn.functional.dropout(self._embedded([texts[i] for i in rows]), schedule.dropout)
                    loss = nn.functional.cross_entropy(self.layer(hidden), targets[rows])
                loss.backward()
                nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 1.0)
                optimizer.step()
                slope.step()
                optimizer.zero_grad()
                done += 1
            began = time.perf_counter()
            curve.append((began - started - spent, self._said(dev)))
            spent += time.perf_counter() - began
        seconds = time.perf_counter() - started - spent
        return {"seconds": seconds, "steps": steps, "curve": curve, "dev": curve[-1][1], "test": self._said(test)}

    def _embedded(self, texts: list[str]) -> Tensor:
        fed = self.tokenizer(texts, padding=True, truncation=True, max_length=ENCODER_TOKENS, return_tensors="pt")
        hidden: Tensor = self.encoder(**fed).last_hidden_state
        mask = fed["attention_mask"].unsqueeze(-1)
        return nn.functional.normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1), dim=1)

    @torch.no_grad()
    def _said(self, texts: list[str]) -> list[str]:
        self.encoder.eval()
        said: list[str] = []
        for start in range(0, len(texts), 64):
            said += [self.names[i] for i in self.layer(self._embedded(texts[start : start + 64])).argmax(dim=1)]
        return said
