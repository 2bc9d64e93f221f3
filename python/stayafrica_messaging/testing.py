"""An in-memory messaging service for the tests of a project.

::

    from stayafrica_messaging.testing import FakeMessaging

    class BookingTest(TestCase):
        def test_tells_the_host(self):
            with FakeMessaging() as fake:
                self.client.post("/bookings/", {...})
            assert [sent.text for sent in fake.sent] == ["A new booking"]

    def test_tells_the_host(fake_messaging, client):  # pytest, see fake_messaging
        ...

While it is active, every client (:class:`MessagingClient`, :class:`AsyncMessagingClient`,
``erlang_client``) and the outbox use queues in memory that behave like the service's.
Nothing goes over the network.

**The outbox in a TestCase.** Django's ``TestCase`` never commits, so ``on_commit`` hooks
never run. The fake does not need them: it pushes the outbox's rows before each query of
a test and before each call of a client. So a message is there once the outermost
``atomic`` block *of the code under test* has ended without an exception. It is not there
inside the block or after a rollback, as in production.
``captureOnCommitCallbacks(execute=True)`` and ``TransactionTestCase`` run the hooks, and
work with the fake, too.
"""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple, Type, TypeVar, Union
from unittest import mock

from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import connections
from django.db.models.signals import post_save
from django.db.transaction import Atomic

from . import calls, claims, outbox
from .breaker import Breaker
from .calls import Call
from .client import MessagingClient
from .errors import ConnectionFailed, MessagingError
from .memory import MemoryService, Sent
from .push import _Pusher
from .types import Identifier, Message, QueueSize

__all__ = ["FakeMessaging", "Sent", "fake_messaging"]

T = TypeVar("T")


class FakeMessaging:
    """An in-memory service that replaces the real one; a context manager.

    ``start()`` and ``stop()`` are for ``setUp`` and ``addCleanup``. After the end, the test
    can still read what was sent.
    """

    def __init__(self) -> None:
        self._service = MemoryService()
        self._is_down = False
        self._failures: List[Tuple[MessagingError, bool]] = []
        self._has_rows = False  # stays False in a test without a database
        self._patches = ExitStack()
        self._active = False

    # Queries for tests

    @property
    def sent(self) -> List[Sent]:
        """Everything that was sent, in the service's order. A broadcast is one entry."""
        self._relay()
        return list(self._service.sent)

    def sent_to(self, user_id: Identifier) -> List[Sent]:
        """The messages and broadcasts that were sent to a user."""
        return [sent for sent in self.sent if str(user_id) in map(str, sent.receiver_ids)]

    def take(self, user_id: Identifier, max_count: int = 10) -> List[Message]:
        """Take messages from a user's queue, as the user's device does. It works while the fake is down, too."""
        return self._query(calls.take(user_id, max_count))

    def peek(self, user_id: Identifier, max_count: int = 10) -> List[Message]:
        """Read the messages that :meth:`take` would return."""
        return self._query(calls.peek(user_id, max_count))

    def lease(self, user_id: Identifier, seconds: float = 30, max_count: int = 10) -> List[Message]:
        """Take messages with a lease."""
        return self._query(calls.lease(user_id, seconds, max_count))

    def ack(self, user_id: Identifier, receipts: Iterable[Union[str, Message]]) -> Dict[str, str]:
        """Acknowledge leased messages."""
        return self._query(calls.ack(user_id, receipts))

    def nack(
        self, user_id: Identifier, receipts: Iterable[Union[str, Message]], delay_seconds: Optional[float] = None
    ) -> Dict[str, str]:
        """Return leased messages to the queue."""
        return self._query(calls.nack(user_id, receipts, delay_seconds))

    def queue_size(self, user_id: Identifier) -> QueueSize:
        """Count the messages in a user's queue."""
        return self._query(calls.queue_size(user_id))

    def _query(self, call: Call[T]) -> T:
        self._relay()
        return self._service.perform(call)

    # Faults and time

    def down(self) -> FakeMessaging._Down:
        """Make the service unreachable. Calls raise ConnectionFailed, and the outbox keeps its
        rows. ``with fake.down():`` ends the outage at the end of the block.
        """
        self._is_down = True
        return self._Down(self)

    def up(self) -> None:
        """End an outage. The outbox's rows are pushed at the next query, as by the relay."""
        self._is_down = False
        self._fresh_breaker()

    def fail(self, error: MessagingError, times: int = 1, *, stored: bool = False) -> None:
        """Make the next ``times`` calls of clients raise an error of :mod:`~stayafrica_messaging.errors`.

        With ``stored`` the service processes the call, and only its response is lost:
        ``fake.fail(TimedOut("too late"), stored=True)``.
        """
        self._failures.extend([(error, stored)] * times)

    def advance(self, seconds: float) -> None:
        """Move the clock of the queues forward. Delayed messages become due; leases and messages
        expire.
        """
        self._service.advance(seconds)

    def reset(self) -> None:
        """Delete all queues, sent messages and failures, and end an outage."""
        self._service = MemoryService()
        self._failures.clear()
        self.up()

    class _Down:
        def __init__(self, fake: FakeMessaging) -> None:
            self._fake = fake

        def __enter__(self) -> None:
            pass

        def __exit__(self, *exception: object) -> None:
            self._fake.up()

    # Patching the clients

    def __enter__(self) -> FakeMessaging:
        return self.start()

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        try:
            if error is None:
                self._relay()  # for queries after the end
        finally:
            self.stop()

    def start(self) -> FakeMessaging:
        """Replace the service."""
        if self._active:
            raise RuntimeError("this FakeMessaging is already active")
        self._active = True
        with ExitStack() as patches:
            self._patch(patches)
            self._patches = patches.pop_all()
        return self

    def stop(self) -> None:
        """Restore the service."""
        self._active = False
        self._patches.close()

    def _patch(self, patches: ExitStack) -> None:
        fake = self

        def perform(client: MessagingClient, call: Call[T], retries: Optional[int] = None) -> T:
            return fake._called(call)

        async def perform_later(client: Any, call: Call[T], retries: Optional[int] = None) -> T:
            if not fake._has_rows:
                return fake._called(call)
            return await sync_to_async(fake._called, thread_sensitive=True)(call)

        patches.enter_context(mock.patch.object(MessagingClient, "perform", perform))
        try:
            from .aio import AsyncMessagingClient
        except ImportError:
            pass  # httpx is not installed
        else:
            patches.enter_context(mock.patch.object(AsyncMessagingClient, "perform", perform_later))
        patches.enter_context(mock.patch.object(outbox, "_client", self._outbox_client))
        # Parallel pushes would send the messages in a random order.
        in_order = mock.patch.object(_Pusher, "in_parallel", lambda pusher, rows, workers: pusher.in_order(rows))
        patches.enter_context(in_order)
        patches.callback(setattr, outbox, "_breaker", outbox._breaker)
        self._fresh_breaker()
        if apps.is_installed("stayafrica_messaging"):
            model = apps.get_model("stayafrica_messaging", "OutboxMessage")
            post_save.connect(self._wrote, sender=model)
            patches.callback(post_save.disconnect, self._wrote, sender=model)

    def _fresh_breaker(self) -> None:
        outbox._breaker = Breaker(outbox.BREAKER_SECONDS)

    def _called(self, call: Call[T]) -> T:
        """Makes a call of the code under test."""
        self._relay()
        return self._perform(call)

    def _perform(self, call: Call[T]) -> T:
        if self._is_down:
            raise ConnectionFailed("the fake service is down", sent=False)
        if self._failures:
            error, stored = self._failures.pop(0)
            if stored:
                self._service.perform(call)
            raise error
        return self._service.perform(call)

    # The outbox

    def _outbox_client(self, *_: object) -> MessagingClient:
        """The outbox's client. Its calls do not push the outbox again."""
        client = MessagingClient("http://127.0.0.1", "")
        setattr(client, "perform", lambda call, retries=None: self._perform(call))
        return client

    def _wrote(self, **_: object) -> None:
        self._has_rows = True

    def _relay(self) -> None:
        """Pushes the outbox's rows, unless they may still be rolled back."""
        if not self._active or not self._has_rows or self._is_down or not _no_open_transaction():
            return
        claims.rows().filter(state=claims.PENDING).exclude(last_error="").update(next_attempt_at=None)
        while True:
            result = outbox.relay_once(claims.MAX_ROWS)
            if not result.sent and not result.refused:
                return


def _no_open_transaction() -> bool:
    """Whether no atomic block is open, except those of Django's TestCase."""
    connection = connections[claims.database()]
    if connection.needs_rollback:
        return False
    if hasattr(connection, "atomic_blocks"):
        return all(block._from_testcase for block in connection.atomic_blocks)
    # Django 3.2 does not mark these blocks. A TestCase has one for the class and one for the test.
    depth = connection.in_atomic_block + len(connection.savepoint_ids)
    return depth <= (2 if not Atomic._ensure_durability else 0)


try:
    import pytest
except ImportError:
    pass
else:

    @pytest.fixture
    def fake_messaging() -> Iterator[FakeMessaging]:
        """A :class:`FakeMessaging` that is active during a test.

        In a project's ``conftest.py``::

            from stayafrica_messaging.testing import fake_messaging
        """
        fake = FakeMessaging().start()
        yield fake
        fake.stop()
