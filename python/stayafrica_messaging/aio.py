"""The asynchronous client. It needs httpx: ``stayafrica-messaging[async]``."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Optional, TypeVar
from weakref import WeakKeyDictionary

try:
    import httpx
except ImportError as error:
    raise ImportError("AsyncMessagingClient needs httpx: pip install 'stayafrica-messaging[async]'") from error

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

__all__ = ["AsyncMessagingClient"]

T = TypeVar("T")

#: Maximum number of connections of a client. Further calls wait for a free one.
MAX_CONNECTIONS = 100


def _method(
    describe: Callable[P, Call[T]],
) -> Callable[Concatenate[AsyncMessagingClient, P], Coroutine[Any, Any, T]]:
    """Makes a coroutine method from a call description, with the same signature."""

    @functools.wraps(describe)
    async def method(self: AsyncMessagingClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.perform(describe(*args, **kwargs))

    return as_method(method, describe)


class AsyncMessagingClient:
    """:class:`~stayafrica_messaging.client.MessagingClient` with coroutine methods.

    The arguments, calls and errors are the same. ``client`` is an httpx client to use
    unchanged. Event loops may share one client; each loop has its own connections. Use
    the client as an async context manager, or call :meth:`aclose` in each loop.
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
        client: Optional[httpx.AsyncClient] = None,
        headers: Optional[Mapping[str, str]] = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._options = Options.resolve(url, token, timeout, connect_timeout, retries)
        self._retry = Retry(self._options.retries, give_up_after)
        self._given_client = client
        self._headers = checked_headers(headers)
        self._sleep = sleep
        # A connection belongs to the event loop that opened it.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._options.url!r})"

    async def __aenter__(self) -> AsyncMessagingClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    @property
    def url(self) -> str:
        """The URL of the service."""
        return self._options.url

    async def aclose(self) -> None:
        """Close the connections of the current event loop. The next call opens new ones."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

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

    async def iter_dead_letters(
        self, *, kind: Optional[str] = None, reason: Optional[str] = None, limit: Optional[int] = None
    ) -> AsyncIterator[DeadLetter]:
        """Iterate over all dead letters of a kind and with a reason, ``limit`` per request."""
        after: Optional[str] = None
        while True:
            page = await self.dead_letters(after, limit, kind, reason)
            for letter in page.dead_letters:
                yield letter
            if page.next is None:
                return
            after = page.next

    async def perform(self, call: Call[T], retries: Optional[int] = None) -> T:
        """Make a call from :mod:`~stayafrica_messaging.calls`. Retry it if that is safe."""
        retry = self._retry if retries is None else replace(self._retry, times=retries)
        began = time.monotonic()
        failures = 0
        while True:
            try:
                return read(call, await self._exchange(call))
            except MessagingError as error:
                failures += 1
                pause = retry.pause(call, failures, time.monotonic() - began, error)
                if pause is None:
                    raise
            await self._sleep(pause)

    async def _exchange(self, call: Call[Any]) -> Response:
        """Send a request once and return its response."""
        options = self._options
        headers = {**self._headers, **call.headers}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        if options.token:
            headers["Authorization"] = f"Bearer {options.token}"
        try:
            response = await self._client().request(
                call.method,
                options.url + call.path,
                params=call.params,
                content=call.body,
                headers=headers,
                timeout=httpx.Timeout(options.timeout + call.waits, connect=options.connect_timeout),
                follow_redirects=False,
            )
        except (httpx.HTTPError, OSError) as error:
            raise _unreachable(error, options.url) from error
        return Response(response.status_code, response.headers, response.content)

    def _client(self) -> httpx.AsyncClient:
        if self._given_client is not None:
            return self._given_client
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            self._forget_closed_loops()
            client = self._clients[loop] = httpx.AsyncClient(
                limits=httpx.Limits(
                    max_connections=max(MAX_CONNECTIONS, self._options.pool),
                    max_keepalive_connections=self._options.pool,
                ),
                headers={"User-Agent": f"stayafrica-messaging/{__version__}"},
            )
        return client

    def _forget_closed_loops(self) -> None:
        # Connections reference their loop, so the weak keys would never expire.
        for loop in list(self._clients):
            if loop.is_closed():
                self._clients.pop(loop, None)


def _unreachable(error: Exception, url: str) -> ServiceUnreachable:
    """Converts a transport error. ``sent`` is True if the service may have received the request."""
    sent = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))
    # The text of any other error may contain a header or a part of the response.
    told = isinstance(error, httpx.NetworkError) and str(error)
    why = told or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return TimedOut(f"no response in time from {url}: {why}", sent)
    return ConnectionFailed(f"no response from {url}: {why}", sent)
