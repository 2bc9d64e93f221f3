"""The messaging service for the tests of a project, without the service.

::

    from stayafrica_messaging.testing import FakeMessaging

    class BookingTest(TestCase):
        def test_tells_the_host(self):
            with FakeMessaging() as fake:
                self.client.post("/bookings/", {...})
            assert [sent.text for sent in fake.sent] == ["A new booking"]

    def test_tells_the_host(fake_messaging, client):  # pytest, see fake_messaging
        ...

While it is active every client (:class:`MessagingClient`, :class:`AsyncMessagingClient`,
``erlang_client``) and the outbox talk to queues in memory that behave as the
service's do, and nothing goes over the network.

**The outbox in a TestCase.** Django's ``TestCase`` never commits, so ``on_commit`` hooks
never run. The fake does not need them: whenever a test looks at it, and whenever a
client calls it, it first pushes the rows that the outbox has by then. So a message
is there as soon as the outermost ``atomic`` block *of the code under test* has ended
well, and never when that was rolled back, as it is in production. Within such a
block it is not there yet. ``captureOnCommitCallbacks(execute=True)`` and
``TransactionTestCase`` run the hooks themselves and work as well.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Optional, Tuple, Type, TypeVar, Union
from unittest import mock

from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import connections
from django.db.models.signals import post_save
from django.db.transaction import Atomic

from . import calls, lanes, outbox
from .breaker import Breaker
from .calls import Call
from .client import MessagingClient
from .errors import ConnectionFailed, MessagingError
from .memory import MemoryService, Sent
from .sweep import _Push
from .types import Identifier, Message, QueueSize

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["FakeMessaging", "Sent", "fake_messaging"]

T = TypeVar("T")


class FakeMessaging:
    """An in-memory service in the place of the real one; a context manager.

    ``start()`` and ``stop()`` do what ``with`` does, for ``setUp`` and ``addCleanup``. After
    it has ended, what was sent can still be looked at.
    """

    def __init__(self) -> None:
        self._service = MemoryService()
        self._is_down = False
        self._failures: List[Tuple[MessagingError, bool]] = []
        self._has_rows = False  # a test without a database has none to look for
        self._patches = ExitStack()
        self._active = False

    # What a test looks at

    @property
    def sent(self) -> List[Sent]:
        """Everything that was sent, in the service's order: messages, and broadcasts as one each."""
        self._relay()
        return list(self._service.sent)

    def sent_to(self, user_id: Identifier) -> List[Sent]:
        """What was sent to a user, alone or with others."""
        return [sent for sent in self.sent if str(user_id) in map(str, sent.receiver_ids)]

    def take(self, user_id: Identifier, max_count: int = 10) -> List[Message]:
        """Take messages out of a user's queue, as the user's device would, even while the fake is down."""
        return self._look(calls.take(user_id, max_count))

    def peek(self, user_id: Identifier, max_count: int = 10) -> List[Message]:
        """Read what :meth:`take` would give."""
        return self._look(calls.peek(user_id, max_count))

    def lease(self, user_id: Identifier, seconds: float = 30, max_count: int = 10) -> List[Message]:
        """Take messages under a lease."""
        return self._look(calls.lease(user_id, seconds, max_count))

    def ack(self, user_id: Identifier, receipts: Iterable[Union[str, Message]]) -> Dict[str, str]:
        """Acknowledge leased messages."""
        return self._look(calls.ack(user_id, receipts))

    def nack(
        self, user_id: Identifier, receipts: Iterable[Union[str, Message]], delay_seconds: Optional[float] = None
    ) -> Dict[str, str]:
        """Give leased messages back."""
        return self._look(calls.nack(user_id, receipts, delay_seconds))

    def queue_size(self, user_id: Identifier) -> QueueSize:
        """Count a user's queue."""
        return self._look(calls.queue_size(user_id))

    def _look(self, call: Call[T]) -> T:
        self._relay()
        return self._service.perform(call)

    # What a test has happen

    def down(self) -> FakeMessaging._Down:
        """From now on nobody can reach the service: calls raise ConnectionFailed, the
        outbox keeps its rows. ``with fake.down():`` ends it."""
        self._is_down = True
        return self._Down(self)

    def up(self) -> None:
        """The service is back; what the outbox has kept comes at the next look, as if by the relay."""
        self._is_down = False
        self._fresh_breaker()

    def fail(self, error: MessagingError, times: int = 1, *, stored: bool = False) -> None:
        """The next ``times`` calls of clients raise an error of :mod:`~stayafrica_messaging.errors`.

        With ``stored`` the service has done what it was asked for, and only its answer
        gets lost: ``fake.fail(TimedOut("too late"), stored=True)``.
        """
        self._failures.extend([(error, stored)] * times)

    def advance(self, seconds: float) -> None:
        """Let time pass for what is in the queues: delayed messages become due, leases and
        messages expire."""
        self._service.advance(seconds)

    def reset(self) -> None:
        """Forget everything: queues, what was sent, failures; and the service is up."""
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

    # Taking the service's place

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
                self._relay()  # for those who look afterwards
        finally:
            self.stop()

    def start(self) -> FakeMessaging:
        """Take the service's place."""
        if self._active:
            raise RuntimeError("this FakeMessaging is active already")
        self._active = True
        with ExitStack() as patches:
            self._patch(patches)
            self._patches = patches.pop_all()
        return self

    def stop(self) -> None:
        """Give the service its place back."""
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
            pass  # the extra is not installed
        else:
            patches.enter_context(mock.patch.object(AsyncMessagingClient, "perform", perform_later))
        patches.enter_context(mock.patch.object(outbox, "_client", self._outbox_client))
        # Side by side, what was sent would come in another order each time.
        in_order = mock.patch.object(_Push, "side_by_side", lambda push, rows, workers: push.in_order(rows))
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
        """A call of the code under test."""
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
        """What the outbox pushes with. It must not have the outbox pushed in turn."""
        client = MessagingClient("http://127.0.0.1", "")
        setattr(client, "perform", lambda call, retries=None: self._perform(call))
        return client

    def _wrote(self, **_: object) -> None:
        self._has_rows = True

    def _relay(self) -> None:
        """Pushes what the outbox has, unless it may still be rolled back."""
        if not self._active or not self._has_rows or self._is_down or not _is_settled():
            return
        lanes.rows().filter(state=lanes.PENDING).exclude(last_error="").update(next_attempt_at=None)
        while True:
            sweep = outbox.relay_once(lanes.MOST_ROWS)
            if not sweep.sent and not sweep.refused:
                return


def _is_settled() -> bool:
    """Whether no atomic block is open but those of Django's TestCase."""
    connection = connections[lanes.database()]
    if connection.needs_rollback:
        return False
    if hasattr(connection, "atomic_blocks"):
        return all(block._from_testcase for block in connection.atomic_blocks)
    # Django 3.2 does not mark them: a TestCase has one for the class and one for the test.
    depth = connection.in_atomic_block + len(connection.savepoint_ids)
    return depth <= (2 if not Atomic._ensure_durability else 0)


try:
    import pytest
except ImportError:
    pass
else:

    @pytest.fixture
    def fake_messaging() -> Iterator[FakeMessaging]:
        """A :class:`FakeMessaging` for the time of a test.

        In a project's ``conftest.py``::

            from stayafrica_messaging.testing import fake_messaging
        """
        fake = FakeMessaging().start()
        yield fake
        fake.stop()
