"""The page with the service's health, lag and totals."""

from __future__ import annotations

from datetime import timedelta
from typing import List, Tuple

from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat

from ..service_status import ServiceStatus, explain, fetch_status
from .pages import ServicePages

Row = Tuple[str, object, str]


class OverviewPage(ServicePages):
    """The state of the service."""

    def overview(self, request: HttpRequest) -> HttpResponse:
        status = fetch_status()
        return self.page(
            request,
            "overview",
            "Messaging service",
            status=status,
            problems=[explain(error) for error in status.errors],
            warning=off_warning(status),
            tables=[
                ("Delivery to Django", drain_rows(status)),
                ("Queues", queue_rows(status)),
                ("Process", process_rows(status)),
            ],
        )


def off_warning(status: ServiceStatus) -> str:
    """The warning at the top of the page while the drain is off."""
    if not status.off:
        return ""
    return (
        f"The drain is off: the service runs with DJANGO_API_URL=off. Messages pending for Django: {status.lag_messages}. "
        "The service sends them after a start with this Django's address, unless they are trimmed before."
    )


def drain_rows(status: ServiceStatus) -> List[Row]:
    rows: List[Row] = [
        ("Drain", status.drain, DRAIN.get(status.drain, "")),
        ("Lag, messages", status.lag_messages, "accepted, not sent to Django yet"),
        ("Lag, seconds", status.lag_seconds, "age of the oldest one"),
        ("Stored by Django", status.stats.get("messages_persisted"), "messages, since the service started"),
    ]
    rows += [(f"Dead letters, {kind}", n, DEAD.get(kind, "")) for kind, n in sorted(status.dead_letters.items())]
    rows += [(f"Failures, {kind}", n, FAILURES.get(kind, "")) for kind, n in sorted(status.failures.items())]
    return rows


def queue_rows(status: ServiceStatus) -> List[Row]:
    return [
        ("Messages in queues", status.stats.get("queue_messages"), "of all users"),
        ("Under a lease", status.stats.get("leases"), "delivered, not acknowledged yet"),
        ("Long polls", status.stats.get("long_polls", status.stats.get("waiting_readers")), "open requests of waiting readers"),
        ("Accepted", status.stats.get("messages_processed"), "messages, since the service started"),
        ("Evicted", status.stats.get("messages_evicted"), "removed from a full queue"),
        ("Expired", status.stats.get("messages_expired"), "not read before they expired"),
    ]


def process_rows(status: ServiceStatus) -> List[Row]:
    memory = status.stats.get("memory") or {}
    return [
        ("Uptime", timedelta(seconds=int(status.stats.get("uptime_seconds") or 0)), ""),
        ("Memory", filesizeformat(memory.get("total")), ""),
        ("Disk free", filesizeformat(status.metrics.value("messaging_disk_free_bytes")), ""),
        ("Store", filesizeformat(status.metrics.value("messaging_store_bytes")), "size on disk"),
        ("Jobs running", int(status.metrics.value("messaging_jobs_running")), "redrives and replays"),
    ]


DRAIN = {
    "off": "the service runs with DJANGO_API_URL=off: Django receives nothing, and messages stay in the service",
    "running": "messages go to Django",
    "waiting": "paused until Django accepts messages again",
}

DEAD = {
    "refused": "Django refused them",
    "undeliverable": "delivered repeatedly, never acknowledged",
}

FAILURES = {
    "message_error": "Django reported errors for single messages",
    "mismatched": "the counts in Django's response did not add up",
    "rejected": "Django refused whole batches (400, 413, 422)",
    "misconfigured": "the endpoint was not found, denied access, or redirected",
    "throttled": "Django throttled the service (429)",
    "timed_out": "Django did not respond in time",
    "unavailable": "Django failed (5xx)",
    "unreached": "no connection to Django",
}
