"""The client for code that waits for its answers."""

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

from . import __version__, calls
from .answers import Answer, read
from .calls import Call
from .errors import ConnectionFailed, MessagingError, ServiceUnreachable, TimedOut
from .options import Options, checked_headers
from .retry import Retry
from .signatures import as_method
from .types import DeadLetter

if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec

    P = ParamSpec("P")

__all__ = ["MessagingClient"]

T = TypeVar("T")


def _method(describe: Callable[P, Call[T]]) -> Callable[Concatenate[MessagingClient, P], T]:
    """A method with the signature of a description, that makes the call described."""

    @functools.wraps(describe)
    def method(self: MessagingClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.perform(describe(*args, **kwargs))

    return as_method(method, describe)


class MessagingClient:
    """Calls the service and raises the errors of :mod:`~stayafrica_messaging.errors`.

    ``url``, ``token``, ``timeout``, ``connect_timeout`` and ``retries`` are the
    settings of these names where they are not given; without Django they come from
    the environment (ERLANG_MESSAGING_URL, MESSAGING_TOKEN) or are the defaults.
    ``timeout`` is how many seconds a try waits for the next part of its answer,
    ``connect_timeout`` for the connection; ``retries`` is how often a call may be
    tried again, which happens only where that does no harm, and not later than
    ``give_up_after`` seconds after the first try began. ``session`` is a session of
    requests to use as it is, ``headers`` go with each request. ``sleep`` waits
    between the tries. ValueError where these cannot work.

    A client is meant to live long and to be shared: threads may use it at once, and
    processes that are forked from this one make connections of their own.
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
        # By process: a connection must not be shared with the process that this
        # one was forked from, nor with its other children.
        self._sessions: Dict[int, requests.Session] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._options.url!r})"

    def __enter__(self) -> MessagingClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._options.url

    def close(self) -> None:
        """Close the connections of this process; the next call makes new ones."""
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
        """All dead letters of a kind and with a reason, asked for ``limit`` at a time."""
        after: Optional[str] = None
        while True:
            page = self.dead_letters(after, limit, kind, reason)
            yield from page.dead_letters
            if page.next is None:
                return
            after = page.next

    def perform(self, call: Call[T], retries: Optional[int] = None) -> T:
        """Make a call that :mod:`~stayafrica_messaging.calls` describes, and try again where that is safe."""
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

    def _exchange(self, call: Call[Any]) -> Answer:
        """Send a request once and receive its answer."""
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
        return Answer(response.status_code, response.headers, response.content)

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
            # Of threads that come here at once one's session stays, without a
            # lock, which a fork could leave locked for ever.
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
    """Sends the token; without one it keeps requests from looking for a password in ~/.netrc."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _unreachable(error: Exception, url: str, before: Optional[BaseException]) -> ServiceUnreachable:
    """What it means that there is no answer, and whether the request had been sent."""
    reason = _reason(error)
    refused = isinstance(reason, urllib3.exceptions.NewConnectionError)
    slow = isinstance(reason, urllib3.exceptions.ConnectTimeoutError) or isinstance(error, requests.ConnectTimeout)
    late = isinstance(error, requests.Timeout) or isinstance(reason, urllib3.exceptions.TimeoutError)
    if late and not refused:  # which urllib3 1.x takes for a kind of time-out
        return TimedOut(f"no answer in time from {url}: {_why(error, before)}", sent=not slow)
    return ConnectionFailed(f"no answer from {url}: {_why(error, before)}", sent=not refused)


def _reason(error: BaseException) -> Optional[BaseException]:
    """The error of urllib3 that requests has wrapped."""
    inner: object = error.args[0] if error.args else None
    if isinstance(inner, urllib3.exceptions.MaxRetryError):
        inner = inner.reason
    return inner if isinstance(inner, BaseException) else None


def _why(error: BaseException, before: Optional[BaseException]) -> str:
    """What went wrong in the first place, as the system says it.

    Of other errors only the kind is told: they may repeat a header or a part of the
    answer. ``before`` is what the caller was handling, and no part of this.
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
    """Raise ConnectionFailed for an answer that was cut off, which older versions of urllib3 take for whole."""
    headers, received = response.headers, len(response.content)
    if response.status_code in (204, 304) or "Content-Encoding" in headers or "Transfer-Encoding" in headers:
        return
    declared = headers.get("Content-Length", "")
    if declared.isdigit():
        whole = received >= int(declared)
    else:
        # The service always says how long an answer is: without that, one that is
        # empty ended within its headers.
        whole = received > 0 or response.status_code != 200
    if not whole:
        raise ConnectionFailed("the answer broke off", sent=True)
