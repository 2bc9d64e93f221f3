"""The synchronous client."""

from __future__ import annotations

import functools
import math
import os
import sys
import time
from dataclasses import replace
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Mapping, Optional, TypeVar

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from . import calls
from .responses import Response, read
from .calls import Call
from .errors import ConnectionFailed, MessagingError, ServiceUnreachable, TimedOut
from .options import Options, checked_headers
from .retry import Retry
from .signatures import as_method
from .types import DeadLetter
from .version import __version__

if TYPE_CHECKING:  # typing_extensions is not a dependency of the package
    from typing_extensions import Concatenate, ParamSpec

    P = ParamSpec("P")

__all__ = ["MessagingClient"]

T = TypeVar("T")


def _method(describe: Callable[P, Call[T]]) -> Callable[Concatenate[MessagingClient, P], T]:
    """Makes a method from a call description, with the same signature."""

    @functools.wraps(describe)
    def method(self: MessagingClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.perform(describe(*args, **kwargs))

    return as_method(method, describe)


class MessagingClient:
    """Calls the service. Raises the errors of :mod:`~stayafrica_messaging.errors`.

    ``url``, ``token``, ``timeout``, ``connect_timeout`` and ``retries`` default to the
    settings of these names. Without Django, they default to the environment
    (ERLANG_MESSAGING_URL, MESSAGING_TOKEN) or to fixed values.

    ``timeout`` is the maximum wait for the next part of a response, in seconds;
    ``connect_timeout`` is for the connection. ``retries`` is the maximum number of
    retries of a call. A call is retried only if that is safe, and no retry starts later
    than ``give_up_after`` seconds after the first try. ``session`` is a requests session
    to use unchanged. ``headers`` are sent with each request. ``sleep`` waits between
    tries. Raises ValueError for unusable arguments.

    A client is meant to be long-lived and shared. Threads may use it concurrently. A
    forked process opens its own connections.
    """

    def __init__(
        self,
        url: Optional[str] = None,
        token: Optional[str] = None,
        *,
        timeout: Optional[float] = None,
        connect_timeout: Optional[float] = None,
        retries: Optional[int] = None,
        give_up_after: float = math.inf,
        session: Optional[requests.Session] = None,
        headers: Optional[Mapping[str, str]] = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._options = Options.resolve(url, token, timeout, connect_timeout, retries)
        self._retry = Retry(self._options.retries, give_up_after)
        self._given_session = session
        self._headers = checked_headers(headers)
        self._sleep = sleep
        # Sessions by process id. A process must not share a connection with its parent or
        # with other children of it.
        self._sessions: Dict[int, requests.Session] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._options.url!r})"

    def __enter__(self) -> MessagingClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The URL of the service."""
        return self._options.url

    def close(self) -> None:
        """Close the connections of this process. The next call opens new ones."""
        session = self._sessions.pop(os.getpid(), None)
        if session is not None:
            session.close()

    send = _method(calls.send)
    send_batch = _method(calls.send_batch)
    broadcast = _method(calls.broadcast)
    take = _method(calls.take)
    peek = _method(calls.peek)
    lease = _method(calls.lease)
    ack = _method(calls.ack)
    nack = _method(calls.nack)
    extend = _method(calls.extend)
    queue_size = _method(calls.queue_size)
    clear = _method(calls.clear)
    dead_letters = _method(calls.dead_letters)
    dead_letter = _method(calls.dead_letter)
    drop_dead_letter = _method(calls.drop_dead_letter)
    redrive = _method(calls.redrive)
    replay = _method(calls.replay)
    jobs = _method(calls.jobs)
    job = _method(calls.job)
    cancel_job = _method(calls.cancel_job)
    stats = _method(calls.stats)
    health = _method(calls.health)
    ready = _method(calls.ready)
    metrics = _method(calls.metrics)
    openapi = _method(calls.openapi)

    def iter_dead_letters(
        self, *, kind: Optional[str] = None, reason: Optional[str] = None, limit: Optional[int] = None
    ) -> Iterator[DeadLetter]:
        """Iterate over all dead letters of a kind and with a reason, ``limit`` per request."""
        after: Optional[str] = None
        while True:
            page = self.dead_letters(after, limit, kind, reason)
            yield from page.dead_letters
            if page.next is None:
                return
            after = page.next

    def perform(self, call: Call[T], retries: Optional[int] = None) -> T:
        """Make a call from :mod:`~stayafrica_messaging.calls`. Retry it if that is safe."""
        retry = self._retry if retries is None else replace(self._retry, times=retries)
        began = time.monotonic()
        failures = 0
        while True:
            try:
                return read(call, self._exchange(call))
            except MessagingError as error:
                failures += 1
                pause = retry.pause(call, failures, time.monotonic() - began, error)
                if pause is None:
                    raise
            self._sleep(pause)

    def _exchange(self, call: Call[Any]) -> Response:
        """Send a request once and return its response."""
        options = self._options
        before = sys.exc_info()[1]
        try:
            response = self._session().request(
                call.method,
                options.url + call.path,
                params=call.params,
                data=call.body,
                headers=self._request_headers(call),
                auth=_Bearer(options.token) if options.token or self._given_session is None else None,
                timeout=(options.connect_timeout, options.timeout + call.waits),
                allow_redirects=False,
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _unreachable(error, options.url, before) from error
        _check_whole(response)
        return Response(response.status_code, response.headers, response.content)

    def _request_headers(self, call: Call[Any]) -> Dict[str, str]:
        headers = {**self._headers, **call.headers}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        return headers

    def _session(self) -> requests.Session:
        if self._given_session is not None:
            return self._given_session
        process = os.getpid()
        session = self._sessions.get(process)
        if session is None:
            # If threads race here, setdefault keeps one session. A lock would not do: a fork
            # could leave it locked forever.
            session = self._sessions.setdefault(process, self._new_session())
            for other in set(self._sessions) - {process}:
                self._sessions.pop(other, None)
        return session

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=self._options.pool, max_retries=0)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        session.headers["User-Agent"] = f"stayafrica-messaging/{__version__}"
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        return session


class _Bearer(requests.auth.AuthBase):
    """Sends the token. Without a token, it keeps requests from reading a password from ~/.netrc."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _unreachable(error: Exception, url: str, before: Optional[BaseException]) -> ServiceUnreachable:
    """Converts a transport error. ``sent`` is True if the service may have received the request."""
    reason = _reason(error)
    refused = isinstance(reason, urllib3.exceptions.NewConnectionError)
    slow = isinstance(reason, urllib3.exceptions.ConnectTimeoutError) or isinstance(error, requests.ConnectTimeout)
    late = isinstance(error, requests.Timeout) or isinstance(reason, urllib3.exceptions.TimeoutError)
    if late and not refused:  # urllib3 1.x makes it a kind of time-out
        return TimedOut(f"no response in time from {url}: {_why(error, before)}", sent=not slow)
    return ConnectionFailed(f"no response from {url}: {_why(error, before)}", sent=not refused)


def _reason(error: BaseException) -> Optional[BaseException]:
    """Returns the error of urllib3 inside an error of requests, or None."""
    inner: object = error.args[0] if error.args else None
    if isinstance(inner, urllib3.exceptions.MaxRetryError):
        inner = inner.reason
    return inner if isinstance(inner, BaseException) else None


def _why(error: BaseException, before: Optional[BaseException]) -> str:
    """Returns the text of the original error, as the operating system reports it.

    For an error of any other kind it returns only the class name, because the text may
    contain a header or a part of the response. ``before`` is the exception that the
    caller was handling already; it is not part of the chain.
    """
    while True:
        below = error.__cause__ or error.__context__
        if below is None or below is before:
            break
        error = below
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        return str(error) or type(error).__name__
    return type(error).__name__


def _check_whole(response: requests.Response) -> None:
    """Raises ConnectionFailed for a truncated response. Older versions of urllib3 accept it."""
    headers, received = response.headers, len(response.content)
    if response.status_code in (204, 304) or "Content-Encoding" in headers or "Transfer-Encoding" in headers:
        return
    declared = headers.get("Content-Length", "")
    if declared.isdigit():
        whole = received >= int(declared)
    else:
        # The service always sends Content-Length. An empty response without it ended
        # inside the headers.
        whole = received > 0 or response.status_code != 200
    if not whole:
        raise ConnectionFailed("the response was cut off", sent=True)
