"""A lane's figures as Prometheus metrics. The names are a promise: dashboards and alerts are built on them.

Labels are the dataset, the lane, and codes from closed lists (outcome, reason, state): never a shard, never an address.
"""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from caprl_core.telemetry.figures import COMMIT_BUCKETS_S, Figures

COUNTERS: Mapping[str, tuple[str, Callable[[Figures], float]]] = {
    "caprl_request_seconds": ("Seconds requests spent in the engine, summed.", lambda f: f.request_seconds),
    "caprl_prompt_tokens": ("Prompt tokens of replies.", lambda f: f.prompt_tokens),
    "caprl_completion_tokens": ("Completion tokens of replies.", lambda f: f.completion_tokens),
    "caprl_engine_busy_seconds": ("Seconds with a request in the engine.", lambda f: f.busy_seconds),
    "caprl_engine_starved_seconds": (
        "Seconds with a free slot and no sample ready, though samples are left.",
        lambda f: f.starved_seconds,
    ),
    "caprl_engine_free_slot_seconds": (
        "The same, times the slots that were free: slot-seconds.",
        lambda f: f.free_slot_seconds,
    ),
    "caprl_slot_wait_seconds": ("Seconds samples waited for a slot, summed.", lambda f: f.slot_wait_seconds),
    "caprl_resumed_samples": ("Samples of committed shards taken from earlier logs.", lambda f: f.resumed_samples),
    "caprl_engine_starts": ("Engines loaded.", lambda f: f.engine_starts),
    "caprl_engine_deaths": ("Engines found dead, or that did not start.", lambda f: f.engine_deaths),
}
"""Name without `_total` -> help text, value."""
GAUGES: Mapping[str, tuple[str, Callable[[Figures], float]]] = {
    "caprl_requests_in_flight": ("Requests in the engine now.", lambda f: f.requests_in_flight),
    "caprl_request_slots": ("Requests the engine wants in flight; 0 without an engine.", lambda f: f.request_slots),
    "caprl_waiting_samples": ("Samples that are ready and wait for a slot.", lambda f: f.waiting_samples),
    "caprl_log_lag_samples": ("Rows made but not yet in the log.", lambda f: f.lag_samples),
    "caprl_log_lag_seconds": ("Age of the oldest row not yet in the log.", lambda f: f.lag_seconds),
    "caprl_engine_load_seconds": ("Seconds the last engine took to load.", lambda f: f.engine_load_seconds),
}
LABELS = ("dataset", "lane")


class LaneCollector(Collector):
    """Reads the figures once a scrape, so all values are of one moment."""

    def __init__(self, read: Callable[[], Figures], dataset: str, lane: str) -> None:
        self._read = read
        self._labels = (dataset, lane)

    def describe(self) -> list[Metric]:
        """Nothing, so that registering does not read."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric."""
        now = self._read()
        for name, (text, value) in COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=LABELS)
            counter.add_metric(self._labels, value(now))
            yield counter
        for name, (text, value) in GAUGES.items():
            gauge = GaugeMetricFamily(name, text, labels=LABELS)
            gauge.add_metric(self._labels, value(now))
            yield gauge
        requests = {"answered": now.answered_requests, "failed": now.failed_requests}
        requests["cancelled"] = now.cancelled_requests
        yield self._counters("caprl_requests", "Requests by how they ended.", "outcome", requests)
        samples = {"row": now.row_samples, "rejected": now.rejected_samples}
        yield self._counters("caprl_samples", "Samples logged by this lane.", "outcome", samples)
        yield self._counters(
            "caprl_rejected_samples", "Rejected samples of the shards this lane committed.", "reason", now.reasons
        )
        shards = GaugeMetricFamily("caprl_shards", "Shards of this run by state.", labels=(*LABELS, "state"))
        for state, count in now.shards.items():
            shards.add_metric((*self._labels, state), count)
        yield shards
        yield self._commits(now)

    def _counters(self, name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
        family = CounterMetricFamily(name, text, labels=(*LABELS, label))
        for key, value in values.items():
            family.add_metric((*self._labels, key), value)
        return family

    def _commits(self, now: Figures) -> Metric:
        family = HistogramMetricFamily(
            "caprl_commit_seconds", "Seconds from a shard's last sample in the log to its commit.", labels=LABELS
        )
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*map(str, COMMIT_BUCKETS_S), "+Inf"), now.commit_counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric(self._labels, buckets, now.commit_seconds)
        return family
