"""The model card: README.md of a model directory."""

from __future__ import annotations

from collections.abc import Mapping

from likewise.bundle import Decision, Layout, Manifest
from likewise.files import write_atomically


def write_card(layout: Layout, manifest: Manifest, decision: Decision, labels: Mapping[str, int]) -> None:
    """Write the card into a model directory."""
    write_atomically(layout.card, model_card(manifest, decision, labels).encode())


def model_card(manifest: Manifest, decision: Decision, labels: Mapping[str, int]) -> str:
    """The card in Markdown: what the model is, what it was fitted on, how it did on held-out rows, how to use it."""
    tuned = decision.tuned
    several = "none to several labels a text" if manifest.task == "multi" else "one label a text"
    kind = "majority" if tuned.temperature == float("inf") else f"temperature {tuned.temperature:.3g}"
    keys = "the embedding itself" if tuned.dimensions is None else f"{tuned.dimensions} whitened dimensions"
    place = "the embedding" if tuned.head.dimensions is None else f"{tuned.head.dimensions} whitened dimensions"
    head = "trained with the encoder" if decision.head else f"closed form, on {place}"
    precision = manifest.fit.get("precision") or manifest.settings.get("precision", "fp32")  # fits of before: no fact
    scores = "\n".join(f"| {voice} | {score:.3f} |" for voice, score in tuned.scores.items())
    counts = "\n".join(f"| {label} | {count} |" for label, count in labels.items())
    return f"""# A Likewise model

It sorts texts by example: {several}, answered by a head and the vote of the nearest labelled texts, which it cites.

- Recipe: {manifest.recipe}; encoder: {manifest.encoder}; examples at the fit: {manifest.fit["examples"]}
- Encoder kept: {manifest.fit["kept"]}; it calculates in {precision}
- Keys: {keys}; vote: {tuned.k} neighbours, {kind}; lambda: {tuned.lambda_:.2f}
- Head: {head}

| voice | {tuned.measure}, {manifest.fit["judged_on"]} |
| --- | --- |
{scores}

These rows also chose the settings, so expect a little less on new texts; `likewise evaluate` tells.

| label | examples when the card was written |
| --- | --- |
{counts}

```console
likewise classify PATH-OF-THIS-FOLDER "a text"
```
"""
