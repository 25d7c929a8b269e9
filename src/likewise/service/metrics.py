"""What the service counts, for Prometheus. With several processes, any of them tells the sum of all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from likewise.errors import LikewiseError

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable with the folder in which processes put what they count together; read on import."""

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "likewise_requests", "Requests answered", ("route", "method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "likewise_request_seconds", "How long requests took", ("route",), buckets=_SECONDS, registry=self._registry
        )
        self._batches = Histogram(
            "likewise_batch_texts", "Texts encoded together", buckets=_TEXTS, registry=self._registry
        )
        self._queue = Gauge(
            "likewise_queue_texts",
            "Texts that wait to be encoded",
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self._stale = Counter(
            "likewise_stale_answers", "Answers from an older revision, the ledger being away", registry=self._registry
        )

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, texts: int, queued: int) -> None:
        """Count a batch, and say what still waits."""
        self._batches.observe(texts)
        self._queue.set(queued)

    def stale(self, answers: int) -> None:
        """Count stale answers."""
        if answers:
            self._stale.inc(answers)

    def page(self, revision: Callable[[], int], examples: Callable[[], int]) -> bytes:
        """All that is counted, and the ledger's revision and size, which are asked for now."""
        registry = self._registry
        if folder := os.environ.get(SHARED):
            registry = CollectorRegistry()
            _bury(Path(folder))
            MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        return generate_latest(registry) + generate_latest(_Ledger(revision, examples))


class _Ledger(CollectorRegistry):
    """What the ledger says, read when it is asked for."""

    def __init__(self, revision: Callable[[], int], examples: Callable[[], int]) -> None:
        super().__init__()
        self.register(_Asked(revision, examples))


class _Asked(Collector):
    def __init__(self, revision: Callable[[], int], examples: Callable[[], int]) -> None:
        self._revision, self._examples = revision, examples

    def collect(self) -> Iterable[Metric]:
        with contextlib.suppress(LikewiseError):  # while the ledger is away, what this process counts is told without
            yield GaugeMetricFamily("likewise_revision", "The ledger's revision", self._revision())
            yield GaugeMetricFamily("likewise_examples", "Examples in the datastore", self._examples())


def _bury(folder: Path) -> None:
    """Forget the gauges of processes that have ended."""
    for file in folder.glob("gauge_live*_*.db"):
        number = int(file.stem.rpartition("_")[2])
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            mark_process_dead(number, str(folder))  # type: ignore[no-untyped-call]
        except PermissionError:
            continue
