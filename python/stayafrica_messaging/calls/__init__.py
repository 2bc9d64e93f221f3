"""The calls of the service. Both clients use these descriptions.

Each function converts its arguments to a :class:`Call`.
:mod:`~stayafrica_messaging.client` and :mod:`~stayafrica_messaging.aio` turn each
function into a method with the same signature that makes the call.

Arguments that cannot be written as JSON raise TypeError or ValueError before
anything is sent. The service alone validates everything else. Its refusals raise
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
