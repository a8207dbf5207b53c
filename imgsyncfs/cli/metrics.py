"""What mounts say about themselves as metrics for Prometheus.

Source: Prometheus' text-based exposition format, as `prometheus_client` writes it; its rules for the names of metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

Status = dict[str, Any]

_COUNTERS: dict[str, tuple[str, Callable[[Status], float]]] = {
    "imgsyncfs_messages": ("Messages of the kernel that were answered.", lambda said: said["responders"]["requests"]),
    "imgsyncfs_renders": ("Files that were rendered.", lambda said: said["responders"]["renders"]),
    "imgsyncfs_notifications": ("Notices to the kernel of changes.", lambda said: said["responders"]["notifications"]),
    "imgsyncfs_cache_hits": ("Reads that the cache had.", lambda said: said["cache"]["hits"]),
    "imgsyncfs_cache_misses": ("Reads that had to wait for a store.", lambda said: said["cache"]["misses"]),
    "imgsyncfs_cache_damaged": ("Cached extents that were not as kept.", lambda said: said["cache"]["damaged"]),
    "imgsyncfs_store_requests": ("Requests at stores.", lambda said: said["store"]["requests"]),
    "imgsyncfs_store_bytes": ("Bytes that came from stores.", lambda said: said["store"]["bytes"]),
    "imgsyncfs_store_failures": ("Requests at stores that failed.", lambda said: said["store"]["failures"]),
    "imgsyncfs_store_uncached": ("Extents that the cache had no room for.", lambda said: said["store"]["uncached"]),
    "imgsyncfs_slow_waits": ("Requests that waited for 1 s and longer.", lambda said: said["slow"]["count"]),
    "imgsyncfs_replaced_processes": (
        "Responders and workers that ended and were replaced.",
        lambda said: said["responders"]["replaced"] + said["workers"]["replaced"],
    ),
}

_GAUGES: dict[str, tuple[str, Callable[[Status], float]]] = {
    "imgsyncfs_healthy": (
        "1 if well, 0 if offline or failing.",
        lambda said: said["health"] == "well",
    ),
    "imgsyncfs_catalog_reachable": ("1 if the catalog answered lately.", lambda said: not said["catalog"]["trouble"]),
    "imgsyncfs_stores_away": ("Stores that cannot be reached.", lambda said: len(said["store"]["away"])),
    "imgsyncfs_mounted_time_seconds": ("Unix time of the mount.", lambda said: said["mounted_at"]),
    "imgsyncfs_catalog_read_time_seconds": (
        "Unix time at which the catalog was read last.",
        lambda said: said["catalog"]["read_at"],
    ),
    "imgsyncfs_datasets": ("Datasets that are shown.", lambda said: said["catalog"]["datasets"]),
    "imgsyncfs_images": ("Images of these datasets.", lambda said: said["catalog"]["images"]),
    "imgsyncfs_cache_bytes": ("Bytes in the cache.", lambda said: said["cache"]["bytes"]),
    "imgsyncfs_cache_limit_bytes": ("Bytes that the cache may have.", lambda said: said["cache"]["size_limit"]),
    "imgsyncfs_waiting_readers": ("Requests that wait for a store.", lambda said: said["store"]["waiting"]),
    "imgsyncfs_responders": ("Processes that answer.", lambda said: len(said["responders"]["process_ids"])),
    "imgsyncfs_workers": ("Processes that fetch.", lambda said: len(said["workers"]["process_ids"])),
}

_MOUNT = "mountpoint"


class _Collector:
    """Gives metrics when `prometheus_client` asks for them."""

    def __init__(self, statuses: Sequence[Status], unanswered: int) -> None:
        self._statuses = statuses
        self._unanswered = unanswered

    def collect(self) -> Iterator[Metric]:
        for name, (help_text, value) in _COUNTERS.items():
            yield self._family(CounterMetricFamily(name, help_text, labels=[_MOUNT]), value)
        for name, (help_text, value) in _GAUGES.items():
            yield self._family(GaugeMetricFamily(name, help_text, labels=[_MOUNT]), value)
        errors = CounterMetricFamily("imgsyncfs_errors", "What went wrong, by kind.", labels=[_MOUNT, "kind"])
        for said in self._statuses:
            for kind, count in said.get("errors_by_kind", {}).items():
                errors.add_metric([said[_MOUNT], kind], count)
        yield errors
        yield GaugeMetricFamily("imgsyncfs_unanswered", "Mounts that do not answer.", value=self._unanswered)

    def _family(
        self, family: CounterMetricFamily | GaugeMetricFamily, value: Callable[[Status], float]
    ) -> CounterMetricFamily | GaugeMetricFamily:
        for said in self._statuses:
            # A mount that an earlier version has made says less.
            with suppress(KeyError):
                family.add_metric([said[_MOUNT]], float(value(said)))
        return family


def metrics_text(statuses: Iterable[Status], *, unanswered: int = 0) -> str:
    """Write metrics of mounts.

    Args:
        statuses: what each says, as in ``status.json``.
        unanswered: how many mounts said nothing.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(list(statuses), unanswered))
    return generate_latest(registry).decode()
