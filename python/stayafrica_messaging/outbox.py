"""The transactional outbox: messages that are sent if, and only if, a transaction commits.

::

    with transaction.atomic():
        booking = Booking.objects.create(...)
        messaging.send(conversation.pk, guest.pk, host.pk, "A new booking", metadata={"booking": booking.pk})

:func:`send` and :func:`broadcast` write a row in the current transaction and call
nobody. A rollback, of the transaction or of a savepoint, takes the row with it.
When the transaction commits, the row is pushed to the service; what cannot be
pushed then, ``manage.py messaging_relay`` pushes later. The row's key goes with each
try, so the service stores the message once, however often it is tried.

Messages of one conversation are pushed in the order in which they were sent.
Broadcasts without a conversation keep the order of their sender's. A message that
waits for the service holds up those behind it there and no others; one that the
service refuses becomes ``failed``, with the reason, and holds up nobody.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Mapping, MutableMapping, Optional
from weakref import WeakValueDictionary

from django.db import connections, transaction
from django.utils import timezone

from . import conf, drafts, lanes
from .breaker import Breaker
from .client import MessagingClient
from .errors import IdempotencyConflict
from .sweep import Sweep, deliver
from .types import Identifier, Moment

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from .models import OutboxMessage

__all__ = ["Sweep", "broadcast", "purge", "relay_once", "retry", "send"]

logger = logging.getLogger("stayafrica_messaging.outbox")

#: Bounds of what a commit may cost the thread that commits, in seconds: for a
#: connection, for an answer, and after which no further message is pushed. A
#: service that does not answer costs the sum of the first two, once: after that, and
#: after answers that took longer than SLOW each, the breaker leaves everything to
#: the relay for a while.
PUSH_CONNECT_TIMEOUT = 0.5
PUSH_TIMEOUT = 1.0
PUSH_SECONDS = 1.0
SLOW = 0.5
BREAKER_SECONDS = 5.0
#: How many rows a commit claims at a time.
PUSH_ROWS = 50
#: How long a claim lasts at least: for so long rows wait whose process died.
CLAIM_SECONDS = 30.0
#: After so many lanes in a row that could not be pushed a sweep gives up.
PATIENCE = 3

_breaker = Breaker(BREAKER_SECONDS)


def _after_fork() -> None:
    """A thread that this process has not may have held the lock of the breaker."""
    global _breaker
    _breaker = Breaker(BREAKER_SECONDS)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def send(
    conversation_id: Identifier,
    sender_id: Identifier,
    receiver_id: Identifier,
    text: str,
    *,
    message_type: str = "text",
    priority: str = "normal",
    metadata: Optional[Mapping[str, Any]] = None,
    persist: bool = True,
    idempotency_key: Optional[drafts.Key] = None,
    delay_seconds: Optional[float] = None,
    deliver_at: Optional[Moment] = None,
    ttl_seconds: Optional[float] = None,
    expires_at: Optional[Moment] = None,
    extra: Optional[Mapping[str, Any]] = None,
) -> OutboxMessage:
    """Send a message when the current transaction commits; at once where there is none.

    The arguments are those of :meth:`MessagingClient.send`. ``persist=False`` says that
    Django has the message already, so that it is delivered and does not come back.
    ``delay_seconds`` and ``ttl_seconds`` count from this call. Give an
    ``idempotency_key`` of your own to send once however often this is called: while the
    row of the first call is kept, it is given again (IdempotencyConflict where its
    message is another).

    What the service would refuse raises InvalidMessage here and now, what is no JSON
    TypeError or ValueError. Gives the row; its ``state`` is ``"sent"`` once the service
    has the message, and so is that of this very object when the commit pushed it.
    """
    return _write(
        drafts.send(
            conversation_id,
            sender_id,
            receiver_id,
            text,
            message_type=message_type,
            priority=priority,
            metadata=metadata,
            persist=persist,
            idempotency_key=idempotency_key,
            delay_seconds=delay_seconds,
            deliver_at=deliver_at,
            ttl_seconds=ttl_seconds,
            expires_at=expires_at,
            extra=extra,
        )
    )


def broadcast(
    sender_id: Identifier,
    user_ids: Iterable[Identifier],
    text: str,
    *,
    message_type: str = "system",
    conversation_id: Optional[Identifier] = None,
    priority: str = "normal",
    metadata: Optional[Mapping[str, Any]] = None,
    persist: bool = True,
    idempotency_key: Optional[drafts.Key] = None,
    delay_seconds: Optional[float] = None,
    deliver_at: Optional[Moment] = None,
    ttl_seconds: Optional[float] = None,
    expires_at: Optional[Moment] = None,
    extra: Optional[Mapping[str, Any]] = None,
) -> OutboxMessage:
    """Send one message to 1 to 1,000,000 users when the current transaction commits.

    ``user_ids`` is read now: give a list, or a queryset's ``values_list("pk",
    flat=True)``. Everything else is as with :func:`send`.
    """
    return _write(
        drafts.broadcast(
            sender_id,
            user_ids,
            text,
            message_type=message_type,
            conversation_id=conversation_id,
            priority=priority,
            metadata=metadata,
            persist=persist,
            idempotency_key=idempotency_key,
            delay_seconds=delay_seconds,
            deliver_at=deliver_at,
            ttl_seconds=ttl_seconds,
            expires_at=expires_at,
            extra=extra,
        )
    )


def _write(draft: drafts.Draft) -> OutboxMessage:
    row = _insert(draft)
    if row.state == lanes.PENDING and conf.get("OUTBOX_PUSH"):
        _push_on_commit(row)
    return row


def _insert(draft: drafts.Draft) -> OutboxMessage:
    values = {"kind": draft.kind, "payload": draft.payload, "lane": draft.lane}
    if not draft.chosen:
        return lanes.rows().create(key=draft.key, **values)
    row, created = lanes.rows().get_or_create(key=draft.key, defaults=values)
    if not created and _lasting(row.payload) != _lasting(draft.payload):
        raise IdempotencyConflict(
            409,
            "idempotency_conflict",
            "the idempotency key was used before with another message: nothing was stored",
            "idempotency_key",
        )
    return row


def _lasting(payload: Mapping[str, Any]) -> Dict[str, Any]:
    """What is the same in two calls: a delay counts from each."""
    return {name: value for name, value in payload.items() if name not in ("deliver_at", "expires_at")}


# The push on commit.


class _Written(threading.local):
    """Rows that this thread has written and not pushed yet, by database and id.

    It is weak: the hook of a row holds it, so a rollback, which drops the hook,
    drops the row from here too, or leaves one that no query will find.
    """

    def __init__(self) -> None:
        self.rows: Dict[str, MutableMapping[int, OutboxMessage]] = {}


_written = _Written()


def _push_on_commit(row: OutboxMessage) -> None:
    using = lanes.database()
    connection = connections[using]
    if not connection.in_atomic_block and not connection.get_autocommit():
        return  # the project commits by hand, and Django knows no hook for that: the relay's
    _written.rows.setdefault(using, WeakValueDictionary())[row.pk] = row
    transaction.on_commit(functools.partial(_committed, using, row), using=using)


def _committed(using: str, _row: OutboxMessage) -> None:
    """The hook of a row. The first one that runs pushes the rows of all: one claim
    for a transaction instead of one for each message."""
    written = _written.rows.pop(using, None)
    if not written:
        return
    try:
        _push(dict(written))
    except Exception:
        # The transaction has committed: nothing may fail for its caller any more.
        logger.exception("outbox: messages of a transaction were not pushed; the relay will push them")


def _push(written: Mapping[int, OutboxMessage]) -> None:
    """Pushes what is due in the lanes of these rows, while that is quick."""
    client = _push_client()
    wanted = {row.lane for row in written.values()}
    ends = time.monotonic() + PUSH_SECONDS
    while time.monotonic() < ends and _breaker.allows():
        claimed = lanes.claim(PUSH_ROWS, CLAIM_SECONDS, wanted)
        if not claimed:
            return
        began = time.monotonic()
        sweep = deliver(claimed, client, lambda: time.monotonic() >= ends, patience=1)
        _copy(claimed, written)
        if not _tell_breaker(sweep, time.monotonic() - began):
            return


def _tell_breaker(sweep: Sweep, took: float) -> bool:
    """Whether it is well to go on."""
    reason, retry_after = "", 0.0
    if sweep == Sweep():
        return False  # the time was over before anything was tried
    if sweep.trouble is not None:
        reason, retry_after = sweep.trouble.reason, sweep.trouble.retry_after
    elif took > SLOW * (sweep.sent + sweep.refused):
        reason = "the service answers slowly"
    if reason:
        if _breaker.failed(retry_after):
            logger.warning("outbox: messages are left to the relay: %s", reason)
    elif _breaker.succeeded():
        logger.info("outbox: messages are pushed on commit again")
    return not reason


_OUTCOME = ("state", "attempts", "next_attempt_at", "last_error", "message_id", "sequence", "recipients", "sent_at")


def _copy(claimed: Iterable[OutboxMessage], written: Mapping[int, OutboxMessage]) -> None:
    """Tells the objects that callers have what became of their rows."""
    for row in claimed:
        mine = written.get(row.pk)
        if mine is not None:
            for name in _OUTCOME:
                setattr(mine, name, getattr(row, name))


def _push_client() -> MessagingClient:
    return _client(
        conf.get("URL"),
        conf.get("TOKEN"),
        min(PUSH_TIMEOUT, conf.get("TIMEOUT")),
        min(PUSH_CONNECT_TIMEOUT, conf.get("CONNECT_TIMEOUT")),
    )


@functools.lru_cache(maxsize=4)
def _client(url: str, token: str, timeout: float, connect_timeout: float) -> MessagingClient:
    # Retries are the relay's.
    return MessagingClient(url, token, timeout=timeout, connect_timeout=connect_timeout, retries=0)


# What the relay does.


def relay_once(limit: int = 200, *, workers: int = 1, stop: Callable[[], bool] = lambda: False) -> Sweep:
    """Push up to ``limit`` due rows (500 at the most), the oldest first.

    Any number of processes may do so at once. ``workers`` is how many threads call the
    service, each for a lane at a time; one keeps the order across lanes too. ``stop`` is
    asked before each row. Raises what the database raises; troubles of the service are
    in the answer.
    """
    client = relay_client()
    slowest = conf.get("TIMEOUT") + conf.get("CONNECT_TIMEOUT")
    seconds = max(CLAIM_SECONDS, 4 * slowest)
    ends = time.monotonic() + seconds - slowest  # no row is tried whose claim may be over before its answer
    claimed = lanes.claim(limit, seconds)
    if not claimed:
        return Sweep()
    return deliver(claimed, client, lambda: stop() or time.monotonic() >= ends, PATIENCE, workers)


def relay_client() -> MessagingClient:
    """What the relay calls the service with; ValueError where the settings make none."""
    return _client(conf.get("URL"), conf.get("TOKEN"), conf.get("TIMEOUT"), conf.get("CONNECT_TIMEOUT"))


def purge(*, stop: Callable[[], bool] = lambda: False) -> int:
    """Delete rows that were sent more than OUTBOX_KEEP_DAYS ago (None keeps them); gives how many.

    Rows that failed stay until somebody has looked at them.
    """
    days = conf.get("OUTBOX_KEEP_DAYS")
    if days is None:
        return 0
    old = lanes.rows().filter(state=lanes.SENT, sent_at__lt=timezone.now() - timedelta(days=days))
    deleted = 0
    while not stop():
        some = list(old.order_by("pk").values_list("pk", flat=True)[: lanes.MOST_ROWS])
        if not some:
            break
        deleted += lanes.rows().filter(pk__in=some).delete()[0]
    return deleted


def retry(failed: QuerySet[OutboxMessage]) -> int:
    """Have failed rows pushed again, as if for the first time; gives how many those are."""
    return failed.filter(state=lanes.FAILED).update(
        state=lanes.PENDING, attempts=0, next_attempt_at=None, last_error=""
    )
