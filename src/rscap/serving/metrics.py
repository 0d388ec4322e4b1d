"""What the server counts, for Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One registry a server, so that two in a process do not add up."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        named: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("rscap_requests", "Requests by route and status", ["route", "status"], **named)
        self.seconds = Histogram("rscap_request_seconds", "From a request to its answer", ["route"], **named)
        self.captions = Counter("rscap_captions", "Captions by model", ["model"], **named)
        self.tokens = Counter("rscap_tokens", "Generated tokens by model", ["model"], **named)
        self.near_ties = Counter("rscap_near_tie_captions", "Captions that hang on a near-tie", ["model"], **named)
        self.batch = Histogram(
            "rscap_batch_images", "Images captioned together", buckets=(1, 2, 4, 8, 16, 32, 64), **named
        )
        self.model_seconds = Histogram("rscap_batch_seconds", "Seconds of a batch in the model", **named)
        self.waiting = Gauge("rscap_waiting_captions", "Captions accepted and not answered", **named)
        self.refused = Counter("rscap_refused", "Requests refused because the queue was full", **named)
        self.left = Counter("rscap_clients_left", "Captions whose client left before the answer", **named)
        self.late = Counter("rscap_deadlines_passed", "Captions that were not ready in time", **named)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
