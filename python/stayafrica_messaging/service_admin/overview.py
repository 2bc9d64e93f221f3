"""Health, lag and totals of the service on one page."""

from __future__ import annotations

from datetime import timedelta
from typing import List, Tuple

from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat

from ..service_status import ServiceStatus, explain, look
from .pages import ServicePages

Row = Tuple[str, object, str]


class OverviewPage(ServicePages):
    """How the service is."""

    def overview(self, request: HttpRequest) -> HttpResponse:
        status = look()
        return self.page(
            request,
            "overview",
            "Messaging service",
            status=status,
            problems=[explain(error) for error in status.errors],
            tables=[
                ("Delivery to Django", drain_rows(status)),
                ("Queues", queue_rows(status)),
                ("Process", process_rows(status)),
            ],
        )


def drain_rows(status: ServiceStatus) -> List[Row]:
    rows: List[Row] = [
        ("Waiting", "yes" if status.waiting else "no", "whether it has stopped sending until Django takes messages again"),
        ("Lag, messages", status.lag_messages, "accepted, and not given to Django yet"),
        ("Lag, seconds", status.lag_seconds, "age of the oldest of them"),
        ("Stored by Django", status.stats.get("messages_persisted"), "messages, since the service started"),
    ]
    rows += [(f"Dead letters, {kind}", n, DEAD.get(kind, "")) for kind, n in sorted(status.dead_letters.items())]
    rows += [(f"Failures, {kind}", n, FAILURES.get(kind, "")) for kind, n in sorted(status.failures.items())]
    return rows


def queue_rows(status: ServiceStatus) -> List[Row]:
    return [
        ("Messages in queues", status.stats.get("queue_messages"), "of all users"),
        ("Under a lease", status.stats.get("leases"), "handed out, not acknowledged yet"),
        ("Readers waiting", status.stats.get("waiting_readers"), "long polls that are open"),
        ("Accepted", status.stats.get("messages_processed"), "messages, since the service started"),
        ("Evicted", status.stats.get("messages_evicted"), "left a queue that was full"),
        ("Expired", status.stats.get("messages_expired"), "not read before their time was over"),
    ]


def process_rows(status: ServiceStatus) -> List[Row]:
    memory = status.stats.get("memory") or {}
    return [
        ("Up for", timedelta(seconds=int(status.stats.get("uptime_seconds") or 0)), ""),
        ("Memory", filesizeformat(memory.get("total")), ""),
        ("Disk free", filesizeformat(status.metrics.value("messaging_disk_free_bytes")), ""),
        ("Store", filesizeformat(status.metrics.value("messaging_store_bytes")), "the log and its tables on disk"),
        ("Jobs running", int(status.metrics.value("messaging_jobs_running")), "redrives and replays"),
    ]


DEAD = {
    "refused": "Django will not store them",
    "undeliverable": "handed out again and again, never acknowledged",
}

FAILURES = {
    "message_error": "Django answered with an error for single messages",
    "mismatched": "Django's numbers did not add up",
    "rejected": "Django refused whole batches (400, 413, 422)",
    "misconfigured": "the endpoint was not found, did not let the service in, or redirected",
    "throttled": "Django wanted fewer requests (429)",
    "timed_out": "Django did not answer in time",
    "unavailable": "Django was out of order (5xx)",
    "unreached": "there was no connection to Django",
}
