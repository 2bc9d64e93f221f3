"""The messages that a transaction sends, with the real service."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, List

import pytest
from django.db import transaction

import stayafrica_messaging as messaging
from stayafrica_messaging import outbox
from stayafrica_messaging.client import MessagingClient
from stayafrica_messaging.errors import IdempotencyConflict
from stayafrica_messaging.models import OutboxMessage

from .fixtures_client import Service, StartScript, StartService, answer, eventually, forward
from .fixtures_outbox import PYTHON, due_now, received

pytest_plugins = ["tests.fixtures_client", "tests.fixtures_outbox"]
pytestmark = pytest.mark.django_db(transaction=True)


class Boom(Exception):
    pass


def send(user: str, text: str, conversation: object = 1, **options: Any) -> OutboxMessage:
    return messaging.send(conversation, 2, user, text, **options)  # type: ignore[arg-type]


# With and without a transaction


def test_what_is_committed_is_sent_and_not_before(live: MessagingClient, user: str) -> None:
    with transaction.atomic():
        row = send(user, "hello")
        assert row.state == "pending"
        assert received(live, user) == []
    assert received(live, user) == ["hello"]
    (stored,) = OutboxMessage.objects.all()
    (message,) = live.peek(user)
    assert (stored.state, stored.attempts, stored.last_error) == ("sent", 1, "")
    assert (stored.message_id, stored.sequence, stored.recipients) == (message.id, message.sequence, None)
    assert stored.sent_at is not None


def test_the_object_that_was_given_knows_what_became_of_it(live: MessagingClient, user: str) -> None:
    with transaction.atomic():
        row = send(user, "hello")
    (message,) = live.peek(user)
    assert (row.state, row.attempts, row.message_id, row.sequence) == ("sent", 1, message.id, message.sequence)


def test_outside_a_transaction_it_is_sent_at_once(live: MessagingClient, user: str) -> None:
    assert send(user, "hello").state == "sent"
    assert received(live, user) == ["hello"]


def test_a_rollback_sends_nothing(live: MessagingClient, user: str) -> None:
    with pytest.raises(Boom), transaction.atomic():
        send(user, "never")
        raise Boom
    assert not OutboxMessage.objects.exists()
    send(user, "later")
    assert received(live, user) == ["later"]


def test_a_savepoint_that_is_rolled_back_takes_its_messages_along(live: MessagingClient, user: str) -> None:
    with transaction.atomic():
        send(user, "outer, before")
        with pytest.raises(Boom), transaction.atomic():
            lost = send(user, "inner, lost")
            with transaction.atomic():
                send(user, "innermost, lost")
            raise Boom
        with transaction.atomic():
            send(user, "inner, kept")
        assert received(live, user) == []
        send(user, "outer, after")
    assert received(live, user) == ["outer, before", "inner, kept", "outer, after"]
    assert lost.state == "pending"


def test_a_message_of_a_savepoint_is_sent_when_the_transaction_commits_and_not_when_it_is_rolled_back(
    live: MessagingClient, user: str
) -> None:
    with pytest.raises(Boom), transaction.atomic():
        with transaction.atomic():
            send(user, "kept by its savepoint alone")
        raise Boom
    assert received(live, user) == []
    assert outbox.relay_once().sent == 0


def test_savepoints_that_were_rolled_back_do_not_keep_the_others_from_being_pushed(
    live: MessagingClient, user: str
) -> None:
    with transaction.atomic():
        with pytest.raises(Boom), transaction.atomic():
            kept = [send(user, "lost")]
            raise Boom
        send(user, "kept")
    assert received(live, user) == ["kept"]
    assert kept


def test_transactions_committed_by_hand_leave_it_to_the_relay(live: MessagingClient, user: str) -> None:
    transaction.set_autocommit(False)
    try:
        send(user, "by hand")
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert received(live, user) == []
    assert outbox.relay_once().sent == 1
    assert received(live, user) == ["by hand"]


def test_messages_sent_by_other_hooks_are_sent(live: MessagingClient, user: str) -> None:
    with transaction.atomic():
        transaction.on_commit(lambda: send(user, "from a hook before"))
        send(user, "from the transaction")
        transaction.on_commit(lambda: send(user, "from a hook behind"))
    assert sorted(received(live, user)) == ["from a hook before", "from a hook behind", "from the transaction"]


def test_without_push_only_the_relay_sends(service: Service, use: Callable[..., None], user: str) -> None:
    use(service.url, OUTBOX_PUSH=False)
    with transaction.atomic():
        send(user, "one")
    send(user, "two")
    client = MessagingClient(service.url)
    assert received(client, user) == []
    assert outbox.relay_once().sent == 2
    assert received(client, user) == ["one", "two"]


# The sent messages


def test_everything_that_a_message_may_have_arrives(live: MessagingClient, user: str) -> None:
    expires = datetime(2031, 1, 2, 3, 4, 5, 678_000, timezone(timedelta(hours=2)))
    conversation = uuid.uuid4()
    metadata = {"zebra": 1, "a": {"z": [1.5, None, True], "aa": "ünï"}, "big": 2**60, "id": uuid.UUID(int=7)}
    messaging.send(
        conversation,
        2**63 - 1,
        user,
        "Grüße \N{GRINNING FACE} \u2028 \"\\",
        message_type="image",
        priority="high",
        metadata=metadata,
        expires_at=expires,
        extra={"reply_to": {"id": 5}, "z": [], "a": ""},
    )
    (message,) = live.peek(user)
    assert (message.conversation_id, message.sender_id) == (str(conversation), 2**63 - 1)
    assert message.text == "Grüße \N{GRINNING FACE} \u2028 \"\\"
    assert (message.message_type, message.priority) == ("image", "high")
    assert message.metadata == {**metadata, "id": str(uuid.UUID(int=7))}
    assert message.extra == {"reply_to": {"id": 5}, "z": [], "a": ""}
    assert message.expires_at == expires


def test_a_lazy_translation_is_sent_in_the_language_of_the_sender(live: MessagingClient, user: str) -> None:
    from django.utils import translation

    with transaction.atomic():
        with translation.override("de"):
            send(user, translation.gettext_lazy("Monday"))
    assert received(live, user) == ["Montag"]


def test_a_delay_counts_from_the_call_and_not_from_the_push(use: Callable[..., None], service: Service, user: str) -> None:
    use(service.url, OUTBOX_PUSH=False)
    before = datetime.now(timezone.utc)
    send(user, "soon", delay_seconds=0.3, ttl_seconds=3600)
    time.sleep(0.4)
    outbox.relay_once()
    (message,) = MessagingClient(service.url).peek(user)
    assert message.deliver_at is not None and message.expires_at is not None
    assert timedelta(seconds=0.2) < message.deliver_at - before < timedelta(seconds=0.4)
    assert timedelta(seconds=3599) < message.expires_at - before < timedelta(seconds=3601)


def test_a_message_that_expired_while_it_waited_is_sent_all_the_same(
    use: Callable[..., None], service: Service, user: str
) -> None:
    """Django stores it. The receiver does not get it."""
    use(service.url, OUTBOX_PUSH=False)
    send(user, "stale", ttl_seconds=0.01)
    time.sleep(0.05)
    assert outbox.relay_once().sent == 1
    assert received(MessagingClient(service.url), user) == []


def test_a_broadcast(live: MessagingClient) -> None:
    users = [f"b-{uuid.uuid4()}" for _ in range(20)]
    with transaction.atomic():
        row = messaging.broadcast(2, (user for user in [*users, users[0]]), "to all", priority="low", metadata={"a": 1})
    assert (row.state, row.recipients, row.kind, row.lane) == ("sent", 20, "broadcast", "sender:2")
    for user in users:
        (message,) = live.take(user)
        assert (message.text, message.priority, message.message_type) == ("to all", "low", "system")
        assert message.sequence == row.sequence
    assert OutboxMessage.objects.get().recipients == 20


def test_a_broadcast_of_a_conversation_keeps_its_place_in_it(use: Callable[..., None], service: Service, user: str) -> None:
    use(service.url, OUTBOX_PUSH=False)
    send(user, "1", conversation=user)
    messaging.broadcast(2, [user, "other"], "2", conversation_id=user)
    send(user, "3", conversation=user)
    assert set(OutboxMessage.objects.values_list("lane", flat=True)) == {f"conversation:{user}"}
    outbox.relay_once()
    assert received(MessagingClient(service.url), user) == ["1", "2", "3"]


def test_persist_false_does_not_come_back_to_django(
    start_service: StartService, script: StartScript, use: Callable[..., None], user: str
) -> None:
    brought: List[str] = []

    def store(request: Any, connection: Any) -> bool:
        messages = request.json["messages"]
        brought.extend(message["text"] for message in messages)
        return answer(200, {"persisted": len(messages), "duplicates": 0, "errors": []})(request, connection)

    django = script(store)
    service = start_service(DJANGO_API_URL=django.url, PERSIST_LINGER="10ms")
    use(service.url)
    with transaction.atomic():
        send(user, "Django has this", persist=False)
        messaging.broadcast(2, [user], "and this", persist=False)
        send(user, "bring this")
    eventually(lambda: brought)
    eventually(lambda: MessagingClient(service.url).stats()["messages_persisted"] >= 1)
    assert brought == ["bring this"]
    assert received(MessagingClient(service.url), user) == ["Django has this", "and this", "bring this"]


# Imports


def test_it_can_be_imported_before_the_apps_are_ready() -> None:
    """A project's models.py may import it."""
    program = "from django.conf import settings; settings.configure(); from stayafrica_messaging import broadcast, send"
    subprocess.run([sys.executable, "-c", program], cwd=PYTHON, check=True)


# Keys


def test_a_key_of_the_callers_sends_once(live: MessagingClient, user: str) -> None:
    key = f"order-{user}"
    first = send(user, "ordered", idempotency_key=key)
    with transaction.atomic():
        again = send(user, "ordered", idempotency_key=key)
    assert again.pk == first.pk
    assert (again.state, again.message_id) == ("sent", first.message_id)
    assert received(live, user) == ["ordered"]
    assert OutboxMessage.objects.count() == 1


def test_a_key_of_the_callers_is_the_services_too(live: MessagingClient, user: str) -> None:
    key = f"order-{user}"
    direct = live.send(1, 2, user, "ordered", idempotency_key=key, message_type="text", metadata={}, priority="normal")
    row = send(user, "ordered", idempotency_key=key)
    assert (row.state, row.message_id) == ("sent", direct.id)
    assert received(live, user) == ["ordered"]


def test_a_key_of_the_callers_may_go_with_a_delay(live: MessagingClient, user: str) -> None:
    first = send(user, "later", idempotency_key=f"delayed-{user}", delay_seconds=60)
    time.sleep(0.002)
    again = send(user, "later", idempotency_key=f"delayed-{user}", delay_seconds=60)
    assert again.pk == first.pk


def test_a_key_of_the_callers_with_another_message_is_refused(live: MessagingClient, user: str) -> None:
    send(user, "one", idempotency_key=f"same-{user}")
    with pytest.raises(IdempotencyConflict), transaction.atomic():
        send(user, "two", idempotency_key=f"same-{user}")
    assert received(live, user) == ["one"]


def test_a_key_that_somebody_used_at_the_service_for_another_message_fails_the_row(
    live: MessagingClient, user: str
) -> None:
    live.send(1, 2, user, "one", idempotency_key=f"taken-{user}")
    row = send(user, "two", idempotency_key=f"taken-{user}")
    assert row.state == "failed"
    assert "idempotency" in row.last_error
    assert received(live, user) == ["one"]


def test_a_row_that_an_earlier_version_had_stored_otherwise_is_sent(live: MessagingClient, user: str) -> None:
    """The service compares bodies. A key that the outbox made belongs to one message only."""
    row = send(user, "stored")
    OutboxMessage.objects.update(state="pending", payload={**row.payload, "metadata": {"written": "otherwise"}})
    assert outbox.relay_once().sent == 1
    row.refresh_from_db()
    assert (row.state, row.message_id) == ("sent", "")
    assert "earlier try" in row.last_error
    assert received(live, user) == ["stored"]


def test_a_row_is_pushed_with_the_same_bytes_each_time(
    script: StartScript, service: Service, use: Callable[..., None], user: str
) -> None:
    """The order of members that the database returns does not matter."""
    lost = script(forward(service.url, answered=False), forward(service.url, answered=True))
    use(lost.url)
    row = send(user, "once", metadata={"zz": 1, "a": {"yyy": 1, "b": 2}}, extra={"q": 1, "bb": 2})
    assert row.state == "pending"
    due_now()
    assert outbox.relay_once().sent == 1
    first, second = lost.requests
    assert first.body == second.body
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == str(row.key)
    assert received(MessagingClient(service.url), user) == ["once"]
