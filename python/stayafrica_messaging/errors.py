"""The errors of the clients.

::

    MessagingError
    ├── ServiceUnreachable          no response
    │   ├── ConnectionFailed
    │   └── TimedOut
    ├── ServiceError                the service refused the call
    │   ├── InvalidMessage          400, 413, 415
    │   ├── Unauthorized            401
    │   ├── Forbidden               403, 421
    │   ├── NotFound                404
    │   ├── IdempotencyConflict     409
    │   ├── Overloaded              429, 503
    │   ├── DiskFull                507
    │   └── ServerFault             the other 5xx
    └── BadAnswer                   the response is not the service's

All of them can be pickled, so Celery and multiprocessing can pass them on. None of
them contains a token or a part of the request.
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
    """The base class of all failures of a call."""


class ServiceUnreachable(MessagingError):
    """There was no response.

    ``sent`` is False if the request certainly did not reach the service. If it is True,
    the result is unknown. A call with an idempotency key can be repeated with the same
    key.
    """

    def __init__(self, message: str, sent: bool = True) -> None:
        super().__init__(message, sent)
        self.message = message
        self.sent = sent

    def __str__(self) -> str:
        return self.message


class ConnectionFailed(ServiceUnreachable):
    """The connection could not be opened, or it broke before the response was complete."""


class TimedOut(ServiceUnreachable):
    """The connection or the response took longer than the time-out."""


class ServiceError(MessagingError):
    """The service refused the call. Nothing was stored.

    ``status``
        The HTTP status.
    ``code``
        The service's error code, such as ``"missing_field"``. It is empty if a proxy
        sent the response.
    ``message``
        A description of the error and its place. It never quotes the request.
    ``field``
        The field, parameter or header with the error, or None.
    ``index``
        The position of the bad message in a batch, from 0, or None.
    ``retry_after``
        After how many seconds to retry, or None.
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
    """The service does not accept the request, now or later (400, 413, 415)."""


class Unauthorized(ServiceError):
    """The service needs a valid token. See the setting ``TOKEN`` (401)."""


class Forbidden(ServiceError):
    """The service refuses this caller, or the host name in the request (403, 421)."""


class NotFound(ServiceError):
    """The dead letter, job or call does not exist (404)."""


class IdempotencyConflict(ServiceError):
    """The idempotency key was used with another body. Nothing was stored (409)."""


class Overloaded(ServiceError):
    """The service is overloaded, starting or stopping. Retry after ``retry_after`` seconds (429, 503)."""


class DiskFull(ServiceError):
    """The service's disk is full. Nothing was stored (507)."""


class ServerFault(ServiceError):
    """The service failed, or a proxy could not reach it (the other 5xx)."""


class BadAnswer(MessagingError):
    """The response is not from the service, or from an incompatible version.

    The usual cause is a wrong URL. ``status`` is the HTTP status of the response.
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
    """Returns the error class for an HTTP status."""
    return _BY_STATUS.get(status, ServerFault if status >= 500 else ServiceError)
