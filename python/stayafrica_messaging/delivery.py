"""Pushes a row of the outbox to the service, and classifies the response.

====================================  =============================================
success                               sent
400, 413, 415 with a service code     refused: the service never accepts the message
409, the caller chose the key         refused: the key belongs to another message
409, the outbox made the key          sent: an earlier try stored the message, written
                                      differently by another version of this package
anything else                         held: an outage or a configuration error
====================================  =============================================

A 400 from a proxy is not a verdict on the message. A refusal counts only if it has one
of the service's error codes.
"""

from __future__ import annotations

import logging
import random
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Dict, Optional, Union

from . import claims
from .client import MessagingClient
from .errors import ConnectionFailed, IdempotencyConflict, InvalidMessage, MessagingError, ServiceError
from .types import BroadcastReceipt, Receipt

if TYPE_CHECKING:  # models cannot be imported before Django has loaded its apps
    from .models import OutboxMessage

logger = logging.getLogger("stayafrica_messaging.outbox")

#: Back-off after the first failed push, in seconds. It doubles with each further failure.
#: It does not grow while the service is unreachable: the relay itself slows down then,
#: and rows should not wait long after the service is back.
FIRST_PAUSE = 1.0
#: Maximum back-off, unless the service asks for more.
MAX_PAUSE = 30.0
#: Maximum delay that the service may ask for.
MAX_RETRY_AFTER = 300.0


@dataclass(frozen=True)
class Stored:
    """The service has the message."""

    message_id: str = ""
    sequence: Optional[int] = None
    recipients: Optional[int] = None
    note: str = ""


@dataclass(frozen=True)
class Refused:
    """The row failed permanently."""

    reason: str


@dataclass(frozen=True)
class Trouble:
    """The push failed for now.

    ``unreachable`` means that the service cannot be reached at all, so other rows need
    not be tried. ``retry_after`` is the delay that the service asked for, in seconds.
    """

    reason: str
    unreachable: bool = False
    retry_after: float = 0.0


Outcome = Union[Stored, Refused, Trouble]


def attempt(client: MessagingClient, row: OutboxMessage, max_attempts: int) -> Outcome:
    """Calls the service for a claimed row. It does not use the database, so any thread may call it.

    The row fails permanently after ``max_attempts`` failed tries; 0 means no limit.
    """
    try:
        receipt = _call(client, row)
    except MessagingError as error:
        return _classify(row, error, max_attempts)
    except (KeyError, TypeError, ValueError) as error:
        # The payload is not a valid message. Another version or a person wrote it.
        return Refused(f"the payload cannot be sent: {error}")
    except Exception as error:
        # A bug in this package. One such row must not stop the relay for the others.
        logger.exception("outbox: message %s could not be pushed", row.key)
        return Trouble(f"unexpected error: {type(error).__name__}")
    recipients = receipt.recipients if isinstance(receipt, BroadcastReceipt) else None
    return Stored(receipt.id, receipt.sequence, recipients)


def record(row: OutboxMessage, outcome: Outcome) -> None:
    """Writes the outcome of a push to its row."""
    if isinstance(outcome, Stored):
        claims.sent(row, **asdict(outcome))
    elif isinstance(outcome, Refused):
        claims.refused(row, outcome.reason)
        logger.error("outbox: message %s is not sent: %s", row.key, outcome.reason)
    else:
        claims.hold(row, outcome.reason, _pause(0 if outcome.unreachable else row.attempts) + outcome.retry_after)


def _call(client: MessagingClient, row: OutboxMessage) -> Union[Receipt, BroadcastReceipt]:
    arguments: Dict[str, Any] = {"idempotency_key": str(row.key), **row.payload}
    return client.broadcast(**arguments) if row.kind == "broadcast" else client.send(**arguments)


def _classify(row: OutboxMessage, error: MessagingError, max_attempts: int) -> Outcome:
    if _is_stored(row, error):
        return Stored(note="stored by an earlier try, whose receipt is unknown")
    if _is_refusal(error) or 0 < max_attempts <= row.attempts + 1:
        return Refused(str(error))
    return Trouble(str(error), isinstance(error, ConnectionFailed), _retry_after(error))


def _is_stored(row: OutboxMessage, error: MessagingError) -> bool:
    own = "idempotency_key" not in row.payload
    return own and isinstance(error, IdempotencyConflict) and bool(error.code)


def _is_refusal(error: MessagingError) -> bool:
    return isinstance(error, (InvalidMessage, IdempotencyConflict)) and bool(error.code)


def _retry_after(error: MessagingError) -> float:
    asked = error.retry_after if isinstance(error, ServiceError) else None
    return min(asked or 0.0, MAX_RETRY_AFTER)


def _pause(attempts: int) -> float:
    """Returns the seconds until the next try, drawn from the upper half of the back-off.

    The jitter spreads the retries of rows that failed together.
    """
    bound = min(MAX_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts, 16))
    return random.uniform(bound / 2, bound)
