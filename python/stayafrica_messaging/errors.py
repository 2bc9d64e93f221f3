"""What a call of the service can fail with.

::

    MessagingError
    ├── ServiceUnreachable          there was no answer
    │   ├── ConnectionFailed
    │   └── TimedOut
    ├── ServiceError                the service refused, and said why
    │   ├── InvalidMessage          400, 413, 415
    │   ├── Unauthorized            401
    │   ├── Forbidden               403, 421
    │   ├── NotFound                404
    │   ├── IdempotencyConflict     409
    │   ├── Overloaded              429, 503
    │   ├── DiskFull                507
    │   └── ServerFault             the other 5xx
    └── BadAnswer                   what answered is not the service

All of them can be pickled, so they pass through Celery and multiprocessing.
None holds a token, or anything of what was sent.
"""

from __future__ import annotations

from typing import Dict, Optional, Type

__all__ = [
    "BadAnswer",
    "ConnectionFailed",
    "DiskFull",
    "Forbidden",
    "IdempotencyConflict",
    "InvalidMessage",
    "MessagingError",
    "NotFound",
    "Overloaded",
    "ServerFault",
    "ServiceError",
    "ServiceUnreachable",
    "TimedOut",
    "Unauthorized",
]


class MessagingError(Exception):
    """Every failure of a call; catch it where the difference does not matter."""


class ServiceUnreachable(MessagingError):
    """There was no answer.

    ``sent`` is False where the request certainly did not reach the service. Where
    it is True nobody knows whether the service did what it was asked for; a call
    with an idempotency key may be repeated with the same key to find out.
    """

    def __init__(self, message: str, sent: bool = True) -> None:
        super().__init__(message, sent)
        self.message = message
        self.sent = sent

    def __str__(self) -> str:
        return self.message


class ConnectionFailed(ServiceUnreachable):
    """No connection could be made, or it broke before the answer was there."""


class TimedOut(ServiceUnreachable):
    """The connection or the answer took longer than the time allowed."""


class ServiceError(MessagingError):
    """The service refused the call. What was refused is stored nowhere.

    ``status``
        the HTTP status.
    ``code``
        the service's word for it, for programs, such as ``"missing_field"``;
        empty where something between here and the service answered (a proxy).
    ``message``
        what is wrong and where, for a person; never what was sent.
    ``field``
        the field, parameter or header that it is about, or None.
    ``index``
        which message of a batch, from 0, or None.
    ``retry_after``
        in how many seconds to come back, or None.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        field: Optional[str] = None,
        index: Optional[int] = None,
        retry_after: Optional[float] = None,
    ) -> None:
        super().__init__(status, code, message, field, index, retry_after)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.index = index
        self.retry_after = retry_after

    def __str__(self) -> str:
        where = "" if self.index is None else f" (message {self.index}, counted from 0)"
        code = f", {self.code}" if self.code else ""
        return f"{self.message}{where} [{self.status}{code}]"


class InvalidMessage(ServiceError):
    """The service does not take what was sent, now or later (400, 413, 415)."""


class Unauthorized(ServiceError):
    """A valid token is needed: see the setting ``TOKEN`` (401)."""


class Forbidden(ServiceError):
    """The service does not talk to this caller, or not under this name (403, 421)."""


class NotFound(ServiceError):
    """There is no such dead letter, job or call (404)."""


class IdempotencyConflict(ServiceError):
    """The idempotency key was used before with another body; nothing was stored (409)."""


class Overloaded(ServiceError):
    """The service takes no more now, is starting or stopping; come back in ``retry_after`` seconds (429, 503)."""


class DiskFull(ServiceError):
    """The service's disk is full; nothing was stored (507)."""


class ServerFault(ServiceError):
    """The service failed, or a proxy could not reach it (the other 5xx)."""


class BadAnswer(MessagingError):
    """What answered is not the service, or not one that this version understands.

    Mostly the URL is wrong. ``status`` is the HTTP status of the answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message, status)
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return self.message


_BY_STATUS: Dict[int, Type[ServiceError]] = {
    400: InvalidMessage,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: IdempotencyConflict,
    413: InvalidMessage,
    415: InvalidMessage,
    421: Forbidden,
    429: Overloaded,
    503: Overloaded,
    507: DiskFull,
}


def class_for(status: int) -> Type[ServiceError]:
    """The class of a refusal with this HTTP status."""
    return _BY_STATUS.get(status, ServerFault if status >= 500 else ServiceError)
