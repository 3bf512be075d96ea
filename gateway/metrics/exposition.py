"""The ledger as Prometheus reads it. The only place that knows prometheus-client.

Everything is a counter, so that whoever reads forms rates and averages, and nothing is lost when a
worker is replaced.
"""

import socket
from collections.abc import Iterable, Iterator
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import make_wsgi_app
from prometheus_client.registry import Collector

from gateway.metrics.ledger import totals

# Name in the ledger -> what it is, and its labels in the ledger's order.
_COUNTERS = {
    "decisions": ("Decisions, each of which has a record.", ("verdict", "stage", "reason")),
    "messages_unscanned": ("Messages accepted without this filter's finding or policy.", ("source",)),
    "policy_calls": ("Calls of policies, and what they said.", ("policy", "verdict")),
    "policy_errors": ("Calls of policies that failed.", ("policy", "kind")),
    "policy_seconds": ("Seconds of CPU time that policies took.", ("policy",)),
    "worker_restarts": ("Workers that were started in the place of another.", ("cause",)),
}
# Two series of the ledger that belong together: how often, and how long in all.
_ANSWERS, _SECONDS = "filter_answers", "filter_seconds"
_SUMMARY = "sluicegate_filter_seconds"
# As Prometheus knows them.
NAMES = (*(f"sluicegate_{name}_total" for name in _COUNTERS), f"{_SUMMARY}_count", f"{_SUMMARY}_sum")
_PATH = "/metrics"
# How long a client may take over its request.
_PATIENCE = 10.0


class _Collector(Collector):
    """All families, read from shared memory whenever somebody asks."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def collect(self) -> Iterator[Metric]:
        """Each family with its samples."""
        sums = totals(self._descriptor)
        counters = {
            name: CounterMetricFamily(f"sluicegate_{name}", text, labels=labels)
            for name, (text, labels) in _COUNTERS.items()
        }
        answers = SummaryMetricFamily(
            _SUMMARY, "Seconds until filters had answered.", labels=("filter", "outcome")
        )
        for (name, labels), value in sorted(sums.items()):
            if name in counters:
                counters[name].add_metric(labels, value)
            elif name == _ANSWERS:
                answers.add_metric(labels, int(value), sums.get((_SECONDS, labels), 0.0))
        yield from (*counters.values(), answers)


class Exposition(ThreadingMixIn, WSGIServer):
    """An HTTP server on a socket that is bound already, with one page."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, descriptor: int) -> None:
        super().__init__(("", 0), _Request, bind_and_activate=False)
        self.socket.close()
        # What another process has accepted meanwhile, at a reload, is not to be waited for.
        listening.setblocking(False)
        self.socket = listening
        self.server_name, self.server_port = "", 0
        self.setup_environ()
        registry = CollectorRegistry()
        registry.register(_Collector(descriptor))
        self._page = make_wsgi_app(registry)
        self.set_app(self._answer)
        self.server_activate()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != _PATH:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [f"There is nothing here but {_PATH}.\n".encode()]
        page: Iterable[bytes] = self._page(environ, start_response)
        return page

    def get_request(self) -> tuple[socket.socket, Any]:
        """A connection and whose it is; on a Unix socket clients have no address."""
        client, address = self.socket.accept()
        return client, address or ("", 0)

    def handle_error(self, *_: Any) -> None:
        """A client that left in the middle is nobody's concern."""


class _Request(WSGIRequestHandler):
    timeout = _PATIENCE

    def log_message(self, *_: Any) -> None:
        """Who reads numbers is not news."""
