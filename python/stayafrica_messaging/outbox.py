"""The transactional outbox. A message is sent if, and only if, its transaction commits.

::

    with transaction.atomic():
        booking = Booking.objects.create(...)
        messaging.send(conversation.pk, guest.pk, host.pk, "A new booking", metadata={"booking": booking.pk})

:func:`send` and :func:`broadcast` write a row in the current transaction and make no
network call. A rollback of the transaction or savepoint removes the row. After the
commit, the row is pushed to the service. If that fails, ``manage.py messaging_relay``
pushes it later. Every try uses the row's key as its idempotency key, so the service
stores the message once.

Messages of one conversation are pushed in the order of their sends. Broadcasts without
a conversation are ordered per sender. A message that cannot be pushed yet blocks the
later messages of its conversation, and no others. A message that the service refuses
becomes ``failed``, with the reason, and blocks nothing.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Mapping, MutableMapping, Optional
from weakref import WeakValueDictionary

from django.db import connections, transaction
from django.db.models import QuerySet
from django.utils import timezone

from . import claims, conf, drafts
from .breaker import Breaker
from .client import MessagingClient
from .errors import IdempotencyConflict
from .push import PushResult, push_claimed
from .types import Identifier, Moment

if TYPE_CHECKING:  # models cannot be imported before Django has loaded its apps
    from .models import OutboxMessage

__all__ = ["PushResult", "broadcast", "prune", "relay_once", "retry", "send"]

logger = logging.getLogger("stayafrica_messaging.outbox")

#: Limits on the time that a commit costs its thread, in seconds: for a connection, for
#: a response, and for starting further pushes. If the service does not respond, a commit
#: takes up to PUSH_CONNECT_TIMEOUT + PUSH_TIMEOUT. The failure opens the breaker, and for
#: BREAKER_SECONDS all rows are left to the relay. Responses slower than SLOW_RESPONSE
#: open it, too.
PUSH_CONNECT_TIMEOUT = 0.5
PUSH_TIMEOUT = 1.0
PUSH_SECONDS = 1.0
SLOW_RESPONSE = 0.5
BREAKER_SECONDS = 5.0
#: Maximum number of rows that a commit claims at a time.
PUSH_ROWS = 50
#: Minimum duration of a claim, in seconds. Rows of a process that died wait this long.
CLAIM_SECONDS = 30.0
#: A push of claimed rows stops after this many failures in a row.
MAX_FAILURES = 3

_breaker = Breaker(BREAKER_SECONDS)


def _after_fork() -> None:
    """Replaces the breaker. A thread of the parent process may hold the lock of the old one."""
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
    """Send a message when the current transaction commits, or at once without a transaction.

    The arguments are those of :meth:`MessagingClient.send`. ``persist=False`` means that
    Django already has the message: the receiver gets it, but Django does not get it again.
    ``delay_seconds`` and ``ttl_seconds`` count from this call. With your own
    ``idempotency_key``, repeated calls send one message: while the first call's row
    exists, later calls return it. They raise IdempotencyConflict if the message differs.

    Raises InvalidMessage for a message that the service would refuse, and TypeError or
    ValueError for arguments that cannot be written as JSON. Returns the row. Its ``state``
    is ``"sent"`` once the service has the message. If the commit pushes the row, the
    returned object is updated.
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

    ``user_ids`` is read during this call. It may be a list or a queryset such as
    ``values_list("pk", flat=True)``. Everything else is as in :func:`send`.
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
    if row.state == claims.PENDING and conf.get("OUTBOX_PUSH"):
        _push_on_commit(row)
    return row


def _insert(draft: drafts.Draft) -> OutboxMessage:
    values = {"kind": draft.kind, "payload": draft.payload, "lane": draft.lane}
    if not draft.chosen:
        return claims.rows().create(key=draft.key, **values)
    row, created = claims.rows().get_or_create(key=draft.key, defaults=values)
    if not created and _comparable(row.payload) != _comparable(draft.payload):
        raise IdempotencyConflict(
            409,
            "idempotency_conflict",
            "the idempotency key was used before with another message: nothing was stored",
            "idempotency_key",
        )
    return row


def _comparable(payload: Mapping[str, Any]) -> Dict[str, Any]:
    """The part of a payload that is the same in repeated calls. Times from a delay differ."""
    return {name: value for name, value in payload.items() if name not in ("deliver_at", "expires_at")}


# The push after a commit.


class _Written(threading.local):
    """Rows that this thread has written and not pushed yet, by database and id.

    The references are weak; the on_commit hook of each row holds the strong one. A
    rollback drops the hook, and with it the row. A row that remains after a rollback is
    harmless, because no query finds it.
    """

    def __init__(self) -> None:
        self.rows: Dict[str, MutableMapping[int, OutboxMessage]] = {}


_written = _Written()


def _push_on_commit(row: OutboxMessage) -> None:
    using = claims.database()
    connection = connections[using]
    if not connection.in_atomic_block and not connection.get_autocommit():
        return  # the project commits by hand, which runs no hook: the relay pushes the row
    _written.rows.setdefault(using, WeakValueDictionary())[row.pk] = row
    transaction.on_commit(functools.partial(_committed, using, row), using=using)


def _committed(using: str, _row: OutboxMessage) -> None:
    """The on_commit hook of a row. The first hook of a transaction pushes the rows of all
    its hooks, which takes one claim for all messages.
    """
    written = _written.rows.pop(using, None)
    if not written:
        return
    try:
        _push(dict(written))
    except Exception:
        # The transaction has committed, so its caller must not get an error.
        logger.exception("outbox: messages of a transaction were not pushed; the relay pushes them")


def _push(written: Mapping[int, OutboxMessage]) -> None:
    """Pushes the due rows in the lanes of these rows, within PUSH_SECONDS."""
    client = _push_client()
    wanted = {row.lane for row in written.values()}
    ends = time.monotonic() + PUSH_SECONDS
    while time.monotonic() < ends and _breaker.allows():
        claimed = claims.claim(PUSH_ROWS, CLAIM_SECONDS, wanted)
        if not claimed:
            return
        began = time.monotonic()
        result = push_claimed(claimed, client, lambda: time.monotonic() >= ends, max_failures=1)
        _copy_results(claimed, written)
        if not _update_breaker(result, time.monotonic() - began):
            return


def _update_breaker(result: PushResult, took: float) -> bool:
    """Reports the result of a push to the breaker. Returns whether to push more."""
    reason, retry_after = "", 0.0
    if result == PushResult():
        return False  # out of time before the first try
    if result.trouble is not None:
        reason, retry_after = result.trouble.reason, result.trouble.retry_after
    elif took > SLOW_RESPONSE * (result.sent + result.refused):
        reason = "the service responds slowly"
    if reason:
        if _breaker.failed(retry_after):
            logger.warning("outbox: messages are left to the relay: %s", reason)
    elif _breaker.succeeded():
        logger.info("outbox: messages are pushed on commit again")
    return not reason


_RESULT_FIELDS = ("state", "attempts", "next_attempt_at", "last_error", "message_id", "sequence", "recipients", "sent_at")


def _copy_results(claimed: Iterable[OutboxMessage], written: Mapping[int, OutboxMessage]) -> None:
    """Copies the results to the row objects that callers hold."""
    for row in claimed:
        mine = written.get(row.pk)
        if mine is not None:
            for name in _RESULT_FIELDS:
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
    # No retries here: the relay retries.
    return MessagingClient(url, token, timeout=timeout, connect_timeout=connect_timeout, retries=0)


# The relay.


def relay_once(limit: int = 200, *, workers: int = 1, stop: Callable[[], bool] = lambda: False) -> PushResult:
    """Push up to ``limit`` due rows (at most 500), oldest first.

    Any number of processes may call this concurrently. ``workers`` is the number of
    threads that call the service. Each thread pushes one lane at a time; one thread keeps
    the order across lanes, too. ``stop`` is called before each row. Raises database
    errors. Errors of the service are in the result.
    """
    client = relay_client()
    slowest = conf.get("TIMEOUT") + conf.get("CONNECT_TIMEOUT")
    seconds = max(CLAIM_SECONDS, 4 * slowest)
    ends = time.monotonic() + seconds - slowest  # no try may outlast the claim
    claimed = claims.claim(limit, seconds)
    if not claimed:
        return PushResult()
    return push_claimed(claimed, client, lambda: stop() or time.monotonic() >= ends, MAX_FAILURES, workers)


def relay_client() -> MessagingClient:
    """Returns the relay's client. Raises ValueError for unusable settings."""
    return _client(conf.get("URL"), conf.get("TOKEN"), conf.get("TIMEOUT"), conf.get("CONNECT_TIMEOUT"))


def prune(*, stop: Callable[[], bool] = lambda: False) -> int:
    """Delete rows that were sent more than OUTBOX_KEEP_DAYS ago. Returns their number.

    With None as the setting, nothing is deleted. Failed rows are never deleted here.
    """
    days = conf.get("OUTBOX_KEEP_DAYS")
    if days is None:
        return 0
    old = claims.rows().filter(state=claims.SENT, sent_at__lt=timezone.now() - timedelta(days=days))
    deleted = 0
    while not stop():
        some = list(old.order_by("pk").values_list("pk", flat=True)[: claims.MAX_ROWS])
        if not some:
            break
        deleted += claims.rows().filter(pk__in=some).delete()[0]
    return deleted


def retry(failed: QuerySet[OutboxMessage]) -> int:
    """Make failed rows due again and reset their attempts. Returns their number."""
    return failed.filter(state=claims.FAILED).update(
        state=claims.PENDING, attempts=0, next_attempt_at=None, last_error=""
    )


# Deprecated names, kept for one release.

_RENAMED = {"Sweep": "PushResult", "purge": "prune"}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        warnings.warn(
            f"stayafrica_messaging.outbox.{name} is deprecated: use {_RENAMED[name]}", DeprecationWarning, stacklevel=2
        )
        return globals()[_RENAMED[name]]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
