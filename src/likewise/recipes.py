"""The recipes: named compositions of objective, pooling, normalisation, head, whitening and vote.

Every recipe ends alike: all examples are encoded, a head and the neighbours' vote are made from the embeddings, and
what blends them is tuned on held-out examples. They differ in what happens to the encoder before, in where the head
comes from, and in what tuning may choose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from likewise.decision.grid import OURS, Grid
from likewise.errors import SettingError, suggestion
from likewise.settings import Measure
from likewise.training.schedule import Schedule
from likewise.types import Pooling


@dataclass(frozen=True)
class Recipe:
    """One composition. `stages` train the encoder, one after the other; `few` in their place where examples are few.

    `normalise`: embeddings have length 1. `head`: closed-form, which learns with every change, or the classifier that
    the last stage trained. `grid`: what tuning chooses among, for `measure` unless the user names another.
    `frozen_too`: the frozen encoder is a candidate as well, and the better one is kept. `anew`: the encoder that is
    kept has seen all examples, the held-out ones, too. `objective`, `use` and `source` are for `likewise recipes`.
    """

    name: str
    objective: str
    use: str
    source: str
    normalise: bool = True
    pooling: Pooling = "auto"
    stages: tuple[Schedule, ...] = ()
    few: tuple[Schedule, ...] = ()
    head: Literal["closed-form", "trained"] = "closed-form"
    grid: Grid = OURS
    measure: Measure = "macro_f1"
    frozen_too: bool = False
    anew: bool = False

    @property
    def needs_source(self) -> bool:
        """Whether it learns from a second data set as well."""
        return any(stage.data != "target" for stage in self.stages)


# CEA trains on texts alike in class or not; its classifiers are fine-tuned more gently, and chosen by accuracy.
_CEA = Schedule(
    epochs=20, learning_rate=2e-5, batch_size=64, cross_entropy=0.0, alignment=1.0, select="spearman", slack=0.0,
    patience=0,
)  # fmt: skip
_SOFTMAX = Schedule(epochs=20, learning_rate=3e-6, batch_size=32, select="accuracy", slack=0.0, patience=0)
_MAJORITY = Grid(
    dimensions=(None,), ks=tuple(range(1, 101)), temperatures=(float("inf"),), lambdas=(1.0,), jointly=True
)
_HEAD_ALONE = replace(_MAJORITY, lambdas=(0.0,), jointly=False)

LIKEWISE = Recipe(
    name="likewise",
    objective="cross-entropy and class-driven alignment together, in one forward pass",
    use="the default: the best scores, minutes of training",
    source="CEA (alignment), KNN-EC (whitened neighbours, blend)",
    stages=(Schedule(epochs=4, min_steps=100, max_steps=800, cross_entropy=1.0, alignment=1.0, probe=True),),
    few=(Schedule(epochs=4, min_steps=40, batch_size=48, cross_entropy=0.0, alignment=1.0),),
    frozen_too=True,
    anew=True,
)

FROZEN = Recipe(
    name="frozen",
    objective="none: the encoder stays as it is",
    use="a usable classifier in seconds; a first look at new data",
    source="KNN-EC without fine-tuning (whitened neighbours, blend)",
)

KNN_EC = Recipe(
    name="knn-ec",
    objective="cross-entropy; whitened neighbours beside the classifier",
    use="the paper's own; a classifier as you know it, with neighbours that explain and correct it",
    source="KNN-EC",
    normalise=False,
    pooling="summary",
    stages=(Schedule(epochs=10, learning_rate=2e-5, batch_size=64, slack=0.0),),
    head="trained",
    grid=Grid(dimensions=(8, 16, 32, 64, 128, 256), ks=(4, 8, 16, 32, 64, 128), temperatures=(2.0,), jointly=True),
)

CEA = Recipe(
    name="cea",
    objective="class-driven alignment: texts of a class together, others apart",
    use="neighbours that decide alone: every answer is a count of votes",
    source="CEA, method 1",
    pooling="cls",
    stages=(_CEA,),
    grid=_MAJORITY,
    measure="accuracy",
)

CEA_SOFTMAX = Recipe(
    name="cea-softmax",
    objective="class-driven alignment, then cross-entropy",
    use="to compare; the paper's best where classes are many",
    source="CEA, method 2",
    normalise=False,
    pooling="cls",
    stages=(_CEA, _SOFTMAX),
    head="trained",
    grid=_HEAD_ALONE,
    measure="accuracy",
)

CEA_FROZEN_SOFTMAX = replace(
    CEA_SOFTMAX,
    name="cea-frozen-softmax",
    objective="class-driven alignment, then a classifier on the encoder as it is",
    use="to compare: how far aligned embeddings are separable",
    source="CEA, method 3",
    stages=(_CEA, replace(_SOFTMAX, frozen=True)),
)

SBERT_FROZEN_SOFTMAX = replace(
    CEA_SOFTMAX,
    name="sbert-frozen-softmax",
    objective="a classifier on the encoder as it is",
    use="to compare: what general embeddings are worth",
    source="CEA, baseline 4 (Sentence-BERT)",
    pooling="mean",
    stages=(replace(_SOFTMAX, frozen=True),),
)

SOFTMAX = replace(
    CEA_SOFTMAX,
    name="softmax",
    objective="cross-entropy",
    use="to compare: plain fine-tuning",
    source="CEA, baseline 5 (BERT)",
    stages=(_SOFTMAX,),
)

RETROFIT = Recipe(
    name="retrofit",
    objective="supervised contrast of projections, and preservation of what the encoder was",
    use="`likewise train-encoder`: an encoder that knows a kind of label, for other data to start from",
    source="retrofitting",
    normalise=False,
    pooling="cls",
    stages=(
        Schedule(
            epochs=5, learning_rate=2e-5, cross_entropy=0.0, contrastive=1.0, projection="mlp", preservation=1.0,
            batches="m-per-class",
        ),
    ),
)  # fmt: skip

_FINE_TUNED = Schedule(epochs=4, learning_rate=1e-4, max_steps=800)

TRANSFER = Recipe(
    name="transfer",
    objective="cross-entropy on another task, then on this one",
    use="few examples, and many of a task that is related (`--source`)",
    source="common-space transfer, Model-1; retrofitting's baseline",
    normalise=False,
    stages=(replace(_FINE_TUNED, data="source"), _FINE_TUNED),
    head="trained",
)

MULTITASK = replace(
    TRANSFER,
    name="multitask",
    objective="cross-entropy on this task and another one at once, each with a classifier of its own",
    use="to compare; the same data as transfer takes",
    source="common-space transfer, Model-2; retrofitting's baseline",
    stages=(replace(_FINE_TUNED, data="both"),),
)

# Two encoders of one base, one for each task, then layers on them that cost seconds.
_TWO = (replace(_FINE_TUNED, data="source", trains="source-encoder"), _FINE_TUNED)
_SIAMESE = Schedule(
    epochs=20, batch_size=256, cross_entropy=0.0, siamese=1.0, trains="siamese", select="spearman", slack=0.0,
    patience=0,
)  # fmt: skip
_SPACE = Schedule(epochs=20, trains="common-space", patience=0)

COMMON_SPACE_3_1 = replace(
    TRANSFER,
    name="common-space-3.1",
    objective="cross-entropy on a common space of two encoders, each trained on a task of its own",
    use="to compare; the same data as transfer takes",
    source="common-space transfer, Model-3.1",
    stages=(*_TWO, _SPACE),
)

COMMON_SPACE_3_2 = replace(
    COMMON_SPACE_3_1,
    name="common-space-3.2",
    objective="a common space of two such encoders that this task's embeddings can be told from; then a classifier",
    source="common-space transfer, Model-3.2",
    stages=(*_TWO, _SIAMESE, replace(_SPACE, cross_entropy=0.0, reconstruction=1.0), replace(_SPACE, frozen=True)),
)

COMMON_SPACE_3_3 = replace(
    COMMON_SPACE_3_1,
    name="common-space-3.3",
    objective="both at once: cross-entropy, and this task's embeddings told from the common space",
    use="the paper's best; the same data as transfer takes, and an encoder twice as large",
    source="common-space transfer, Model-3.3",
    stages=(*_TWO, _SIAMESE, replace(_SPACE, reconstruction=1.0)),
)

MULTILABEL_KNN = Recipe(
    name="multilabel-knn",
    objective="binary cross-entropy, and contrast: the more labels two texts share, the nearer",
    use="several labels a text; a classifier as you know it, with neighbours that explain and correct it",
    source="multi-label kNN",
    normalise=False,
    pooling="summary",
    stages=(
        Schedule(
            epochs=30, batch_size=128, patience=3, multilabel_contrastive=0.1, temperature=10.0, select="micro_f1",
            slack=0.0,
        ),
    ),
    head="trained",
    grid=Grid(dimensions=(None,), ks=(5, 10, 20, 40, 80), temperatures=(1.0,), jointly=True),
    measure="micro_f1",
)  # fmt: skip

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        LIKEWISE, FROZEN, KNN_EC, CEA, CEA_SOFTMAX, CEA_FROZEN_SOFTMAX, SBERT_FROZEN_SOFTMAX, SOFTMAX, RETROFIT,
        TRANSFER, MULTITASK, COMMON_SPACE_3_1, COMMON_SPACE_3_2, COMMON_SPACE_3_3, MULTILABEL_KNN,
    )
}  # fmt: skip

WRAPPED = replace(
    KNN_EC,
    name="wrapped",
    objective="none: a classifier that was trained elsewhere",
    use="`likewise wrap`: citations and teaching for a classifier that you have",
    stages=(),
)
"""What `likewise wrap` makes; not among the recipes, for it trains nothing."""


def recipe_named(name: str) -> Recipe:
    """The recipe of this name; SettingError with a suggestion when there is none."""
    if name == WRAPPED.name:
        raise SettingError(f"a wrapped classifier has no recipe to be trained by; name one of {', '.join(RECIPES)}")
    if name not in RECIPES:
        hint = suggestion(name, RECIPES) or f"; recipes are {', '.join(RECIPES)}"
        raise SettingError(f"unknown recipe {name!r}{hint}")
    return RECIPES[name]
