"""What `GET /metrics` says, in Prometheus's text format."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from sightline.serving.contract import Answer, Response
from sightline.serving.service import Answerer

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Upper ends of the histogram of latencies."""


class ServerMetrics:
    """The numbers of one server, in a registry of its own."""

    def __init__(self, num_waiting: Callable[[], float], num_running: Callable[[], float]) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "sightline_requests", "Requests, by route and status", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "sightline_request_seconds",
            "From a request's headers to its answer",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        waiting = Gauge("sightline_queue_length", "Requests that wait for a thread", registry=registry)
        waiting.set_function(num_waiting)
        running = Gauge("sightline_in_flight", "Requests that a thread computes", registry=registry)
        running.set_function(num_running)
        self._answers = Counter("sightline_answers", "Answers, by class", ["label"], registry=registry)
        self._unsure = Counter("sightline_unsure", "Answers below the threshold", registry=registry)
        self._captured = Counter(
            "sightline_capture",
            "Answers that were to be captured, by what became of them: written, dropped where the buffer was full, "
            "failed where the disk or S3 was",
            ["outcome"],
            registry=registry,
        )
        self._model = Gauge("sightline_model_info", "1", ["name", "version", "sha256", "precision"], registry=registry)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def count_answer(self, picture: bytes, answer: Answer) -> None:
        self._answers.labels(answer.label).inc()
        if answer.unsure:
            self._unsure.inc()

    def count_captured(self, outcome: str, number: int) -> None:
        self._captured.labels(outcome).inc(number)

    def name_model(self, answerer: Answerer) -> None:
        model, precision = answerer.model, str(answerer.describe().get("precision"))
        self._model.labels(model.name, model.version, model.sha256, precision).set(1)

    def respond(self) -> Response:
        return Response(200, generate_latest(self.registry), CONTENT_TYPE_LATEST)
