"""Pushing a row of the outbox to the service, and what its answer means for the row.

====================================  =============================================
the service has it                    sent
400, 413, 415 in the service's words  refused: it will never take this message
409 to a key that a caller chose      refused: the key stands for another message
409 to a key of the outbox's own      sent: an earlier try stored it, written
                                      otherwise (by another version of this package)
anything else                         held: an outage, or something set up wrongly
====================================  =============================================

A proxy that answers 400 in the service's place says nothing about the message: a
refusal counts only with a code of the service's.
"""

from __future__ import annotations

import logging
import random
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Dict, Optional, Union

from . import lanes
from .errors import ConnectionFailed, IdempotencyConflict, InvalidMessage, MessagingError, ServiceError
from .types import BroadcastReceipt, Receipt

if TYPE_CHECKING:
    from .client import MessagingClient
    from .models import OutboxMessage

logger = logging.getLogger("stayafrica_messaging.outbox")

#: Seconds that a row waits after its first try in vain; each further one doubles them.
#: While the service cannot be reached they stay so: the relay itself comes seldom then,
#: and no row should wait long when the service is back.
FIRST_PAUSE = 1.0
#: What they grow to, unless the service asks for more.
LONGEST_PAUSE = 30.0
#: The most that the service may ask for.
LONGEST_RETRY_AFTER = 300.0


@dataclass(frozen=True)
class Stored:
    """The service has the message."""

    message_id: str = ""
    sequence: Optional[int] = None
    recipients: Optional[int] = None
    note: str = ""


@dataclass(frozen=True)
class Refused:
    """The row is given up."""

    reason: str


@dataclass(frozen=True)
class Trouble:
    """The row could not be pushed now.

    ``gone`` says that the service cannot be reached at all, so that other rows need
    not be tried; ``retry_after`` are the seconds that it asked for.
    """

    reason: str
    gone: bool = False
    retry_after: float = 0.0


Outcome = Union[Stored, Refused, Trouble]


def attempt(client: MessagingClient, row: OutboxMessage, most_attempts: int) -> Outcome:
    """Calls the service for a claimed row. It does not touch the database, so any thread may do it.

    ``most_attempts`` is after how many tries in vain the row is given up; 0 is never.
    """
    try:
        receipt = _call(client, row)
    except MessagingError as error:
        return _judge(row, error, most_attempts)
    except (KeyError, TypeError, ValueError) as error:
        # The payload, by another version's hand or a person's, is no message.
        return Refused(f"the payload cannot be sent: {error}")
    except Exception as error:
        # A fault of this package's. One row with it must not stop the relay for all.
        logger.exception("outbox: message %s could not be pushed", row.key)
        return Trouble(f"unexpected: {type(error).__name__}")
    recipients = receipt.recipients if isinstance(receipt, BroadcastReceipt) else None
    return Stored(receipt.id, receipt.sequence, recipients)


def settle(row: OutboxMessage, outcome: Outcome) -> None:
    """Writes down what came of a row."""
    if isinstance(outcome, Stored):
        lanes.sent(row, **asdict(outcome))
    elif isinstance(outcome, Refused):
        lanes.refused(row, outcome.reason)
        logger.error("outbox: message %s is not sent: %s", row.key, outcome.reason)
    else:
        lanes.hold(row, outcome.reason, _pause(0 if outcome.gone else row.attempts) + outcome.retry_after)


def _call(client: MessagingClient, row: OutboxMessage) -> Union[Receipt, BroadcastReceipt]:
    arguments: Dict[str, Any] = {"idempotency_key": str(row.key), **row.payload}
    return client.broadcast(**arguments) if row.kind == "broadcast" else client.send(**arguments)


def _judge(row: OutboxMessage, error: MessagingError, most_attempts: int) -> Outcome:
    if _is_stored(row, error):
        return Stored(note="an earlier try had stored it; its receipt is not known")
    if _is_refusal(error) or 0 < most_attempts <= row.attempts + 1:
        return Refused(str(error))
    return Trouble(str(error), isinstance(error, ConnectionFailed), _retry_after(error))


def _is_stored(row: OutboxMessage, error: MessagingError) -> bool:
    own = "idempotency_key" not in row.payload
    return own and isinstance(error, IdempotencyConflict) and bool(error.code)


def _is_refusal(error: MessagingError) -> bool:
    return isinstance(error, (InvalidMessage, IdempotencyConflict)) and bool(error.code)


def _retry_after(error: MessagingError) -> float:
    asked = error.retry_after if isinstance(error, ServiceError) else None
    return min(asked or 0.0, LONGEST_RETRY_AFTER)


def _pause(attempts: int) -> float:
    """Seconds until the next try, drawn from the upper half of what is allowed: many
    that failed together do not come back together."""
    bound = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts, 16))
    return random.uniform(bound / 2, bound)
