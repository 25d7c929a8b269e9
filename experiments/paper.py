"""What the experiments of the papers share: their arguments, tables beside a paper's figures, plots, and the page.

    python -m experiments.PAPER --data isear --seeds 1 --folder FOLDER
    python -m experiments.PAPER --quick                       the bundled sample data, in about 20 seconds

`--data` names data sets (all of the paper's that are there, if left out), `--folder` says where they are. Each run
leaves one JSON file under experiments/results/PAPER/, and is not repeated where that is there; tables (Markdown) and
plots (PNG) are made from those files. Texts of other people's data sets are shown by their row number, not copied.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.running import commit, once
from likewise.encoding.names import DEFAULT

RESULTS = Path(__file__).parent / "results"
PAGE = "README.md"


def arguments(paper: str, description: str | None, only: Collection[str]) -> argparse.Namespace:
    """What was asked; `only` are the parts that can be named.

    Unless a folder is named, results of another encoder than the default go to one of their own, and those of a quick
    run to a temporary one.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("LIKEWISE_EXPERIMENT_DATA")
    parser.add_argument("--data", action="append", metavar="NAME", help="a data set; may be given again")
    parser.add_argument("--folder", type=Path, default=Path(folder) if folder else None, help="where the data sets are")
    parser.add_argument("--seeds", type=int, default=1, help="how many runs, with seeds 0, 1, ...")
    parser.add_argument("--encoder", default=DEFAULT, help="a folder, or a name")
    parser.add_argument("--results", type=Path, default=RESULTS / paper)
    parser.add_argument("--only", action="append", metavar="PART", help="a table or a plot; may be given again")
    parser.add_argument("--quick", action="store_true", help="the bundled sample data, trained for a moment")
    given = parser.parse_args()
    if unknown := sorted({*(given.only or ())} - {*only}):
        raise SystemExit(f"--only: found {', '.join(unknown)}, expected some of {', '.join(only)}")
    usual = given.results == RESULTS / paper
    if given.quick:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # for so little work threads only wait for each other
        given.results = Path(tempfile.mkdtemp(prefix="likewise-quick-")) if usual else given.results
    elif usual and given.encoder != DEFAULT:
        given.results = RESULTS / f"{paper}-{Path(given.encoder).name}"
    return given


def keep_page(
    given: argparse.Namespace,
    runs: Callable[[argparse.Namespace, Path], Iterable[tuple[str, Callable[[], dict[str, Any]]]]],
    write: Callable[[Path, str], None],
) -> None:
    """Do the runs that were not done before, and make the page of results anew after each; print it at the end.

    `runs` yields names and jobs, given what was asked and a folder for what they share meanwhile.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for name, job in runs(given, Path(scratch)):
            once(given.results / f"{name}.json", job)
            write(given.results, provenance(given.folder))
    page = given.results / PAGE
    if page.exists():
        print(page.read_text(encoding="utf-8"))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; floats are shown with three digits."""
    shown = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    lines = [header, ["---"] * len(header), *shown]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def mean_and_deviation(values: Sequence[float]) -> str:
    """`0.970 ± 0.005`, or the value alone where there is one."""
    middle = f"{np.mean(values):.3f}"
    return middle if len(values) < 2 else f"{middle} ± {np.std(values):.3f}"


def provenance(folder: Path | None) -> str:
    """The command and the commit, for a page of results; where the data sets are is the reader's own matter."""
    given = ["FOLDER" if folder and argument == str(folder) else argument for argument in sys.argv[1:]]
    module = Path(sys.argv[0]).stem
    return f"`python -m experiments.{' '.join([module, *given])}`, commit {commit()}"


def curves(
    path: Path, title: str, x: str, y: str, series: Mapping[str, Sequence[tuple[float, float]]], log: bool = False
) -> None:
    """A line a series, as PNG."""
    figure, axes = _figure(1)
    for name, points in series.items():
        axes[0].plot(*zip(*sorted(points), strict=True), marker="o", markersize=3, label=name)
    axes[0].set(xlabel=x, ylabel=y, title=title, xscale="log" if log else "linear")
    axes[0].grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    _save(figure, path)


def maps(
    path: Path, title: str, panels: Mapping[str, tuple[NDArray[Any], Sequence[str]]], seed: int = 0, most: int = 2000
) -> None:
    """A 2-D map (t-SNE) a panel, coloured by label, as PNG: embeddings (rows, d) and a label a row.

    Of more rows than `most` as many are drawn at random.
    """
    from sklearn.manifold import TSNE

    figure, axes = _figure(len(panels))
    for place, (name, (embeddings, labels)) in zip(axes, panels.items(), strict=True):
        rows = np.random.default_rng(seed).permutation(len(embeddings))[:most]
        flat = TSNE(random_state=seed, perplexity=min(30, max(2, len(rows) // 4))).fit_transform(embeddings[rows])
        names = np.array(labels)[rows]
        for number, label in enumerate(sorted(set(names.tolist()))):
            spots = flat[names == label]
            place.scatter(*spots.T, s=4, color=_colour(number), label=label)
        place.set(title=name, xticks=[], yticks=[])
        if len(set(labels)) <= 12:
            place.legend(fontsize=7, markerscale=2)
    figure.suptitle(title)
    _save(figure, path)


def _figure(panels: int) -> tuple[Any, list[Any]]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, panels, figsize=(6.4 * panels, 4.8), squeeze=False)
    return figure, list(axes[0])


def _colour(number: int) -> Any:
    from matplotlib import colormaps

    return colormaps["tab20"](number % 20)


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=120, metadata={"Software": None})  # the same picture gives the same file
    pyplot.close(figure)
