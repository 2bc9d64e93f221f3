"""The calls of the service, described once for both clients.

Each function takes what a caller says and gives the :class:`Call` to make;
:mod:`~stayafrica_messaging.client` and :mod:`~stayafrica_messaging.aio` turn
each into a method of the same signature that makes it.

Arguments that cannot be written as JSON raise TypeError or ValueError before
anything is sent. All other mistakes are the service's to find, so that its
rules stand in one place: they raise
:class:`~stayafrica_messaging.errors.InvalidMessage`.
"""

from __future__ import annotations

from .call import Call
from .operation import (
    cancel_job,
    dead_letter,
    dead_letters,
    drop_dead_letter,
    health,
    job,
    jobs,
    metrics,
    openapi,
    ready,
    redrive,
    replay,
    stats,
)
from .queues import ack, clear, extend, lease, nack, peek, queue_size, take
from .sending import broadcast, send, send_batch

__all__ = [
    "Call",
    "ack",
    "broadcast",
    "cancel_job",
    "clear",
    "dead_letter",
    "dead_letters",
    "drop_dead_letter",
    "extend",
    "health",
    "job",
    "jobs",
    "lease",
    "metrics",
    "nack",
    "openapi",
    "peek",
    "queue_size",
    "ready",
    "redrive",
    "replay",
    "send",
    "send_batch",
    "stats",
    "take",
]
