"""What the server counts, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

TEXT = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    """The counts of one server.

    Args:
        waiting: says how many images wait.
        held_bytes: says how many bytes the bodies of open requests hold.
    """

    def __init__(self, waiting: Callable[[], float], held_bytes: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)  # memory, processor time and open files
        self._requests = Counter(
            "effdense_requests", "Requests for an answer, by the status of the reply.", ["status"],
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "effdense_request_seconds", "From the request's head to its answer, of those answered with 200.",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60), registry=self._registry,
        )  # fmt: skip
        self._images = Histogram(
            "effdense_batch_images", "Images that were computed together.", buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self._registry,
        )  # fmt: skip
        self._batch_seconds = Histogram(
            "effdense_batch_seconds", "What a batch took.", buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self._registry,
        )  # fmt: skip
        Gauge("effdense_waiting", "Images that wait for the network.", registry=self._registry).set_function(waiting)
        Gauge(
            "effdense_held_bytes", "Bytes of the bodies of open requests.", registry=self._registry
        ).set_function(held_bytes)  # fmt: skip

    def request(self, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(str(status)).inc()
        if status == 200:
            self._seconds.observe(seconds)

    def batch(self, images: int, seconds: float) -> None:
        """Count a batch."""
        self._images.observe(images)
        self._batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """All counts."""
        return generate_latest(self._registry)
