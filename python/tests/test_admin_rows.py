"""The admin lists of received messages and of the outbox."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from stayafrica_messaging.admin import CappedPaginator
from stayafrica_messaging.models import Conversation, Message, OutboxMessage

from .fixtures_admin import (  # noqa: F401
    ServiceProcess,
    no_proxy,
    no_service,
    scripted_django,
    service,
    service_binary,
)

pytestmark = pytest.mark.django_db
BASE = "/admin/stayafrica_messaging"
NASTY = "<script>alert(1)</script>"


def a_message(sequence: int = 1, **fields: Any) -> Message:
    conversation, _ = Conversation.objects.get_or_create(key=fields.pop("conversation", "5"))
    return Message.objects.create(
        **{
            "uuid": uuid.uuid4(),
            "sequence": sequence,
            "conversation": conversation,
            "sender_id": "1",
            "receiver_id": "2",
            "text": "hello",
            "created_at": timezone.now(),
            **fields,
        }
    )


def a_row(**fields: Any) -> OutboxMessage:
    payload = {"conversation_id": 5, "sender_id": 1, "receiver_id": 2, "text": "hello"}
    return OutboxMessage.objects.create(**{"payload": payload, "lane": "5", **fields})


def staff(*permissions: str) -> Client:
    user = User.objects.create_user(f"user{User.objects.count()}", is_staff=True)
    ours = Permission.objects.filter(content_type__app_label="stayafrica_messaging")
    user.user_permissions.set(ours.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def shown(client: Client, path: str, **query: Any) -> str:
    answer = client.get(BASE + path, query)
    assert answer.status_code == 200
    return answer.content.decode()


def test_messages_are_listed_and_escaped() -> None:
    message = a_message(text=NASTY, metadata={"k": NASTY}, extra={"e": NASTY})
    client = staff("view_message")
    page = shown(client, "/message/")
    assert str(message.uuid) in page and "<script>alert" not in page and "&lt;script&gt;alert" in page
    detail = shown(client, f"/message/{message.pk}/change/")
    assert "<script>alert" not in detail and detail.count("&lt;script&gt;alert") == 3


def test_messages_are_read_only() -> None:
    message = a_message()
    client = staff("view_message", "change_message", "add_message")
    assert client.get(f"{BASE}/message/add/").status_code == 403
    assert client.post(f"{BASE}/message/{message.pk}/change/", {"text": "other"}).status_code == 403
    assert client.post(f"{BASE}/message/{message.pk}/delete/", {"post": "yes"}).status_code == 403
    message.refresh_from_db()
    assert message.text == "hello"


def test_deletion_needs_its_permission() -> None:
    message = a_message()
    client = staff("view_message", "delete_message")
    assert client.post(f"{BASE}/message/{message.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Message.objects.exists()


def test_nothing_is_shown_without_permission() -> None:
    client = staff()
    for path in ("/message/", "/conversation/", "/outboxmessage/"):
        assert client.get(BASE + path).status_code == 403


@pytest.mark.parametrize("term", ["the-conversation", "the-sender", "the-receiver", "4711", "uuid", "of the text"])
def test_messages_are_found_by_each_id_and_by_text(term: str) -> None:
    wanted = a_message(
        4711, conversation="the-conversation", sender_id="the-sender", receiver_id="the-receiver", text="a part of the text"
    )
    other = a_message(1)
    page = shown(staff("view_message"), "/message/", q=str(wanted.uuid) if term == "uuid" else term)
    assert str(wanted.uuid) in page and str(other.uuid) not in page


@pytest.mark.parametrize("term", ["9" * 30, "٣", "'\"--", "%", "x" * 5000, "\x00"])
def test_strange_searches_do_no_harm(term: str) -> None:
    a_message()
    shown(staff("view_message"), "/message/", q=term)


def test_messages_are_filtered() -> None:
    high, low = a_message(1, priority="high"), a_message(2, priority="low")
    page = shown(staff("view_message"), "/message/", priority__exact="high")
    assert str(high.uuid) in page and str(low.uuid) not in page


def test_a_conversation_leads_to_its_messages() -> None:
    message, other = a_message(1, conversation="a"), a_message(2, conversation="b")
    client = staff("view_message", "view_conversation")
    link = f"{BASE}/message/?conversation__exact={message.conversation.pk}"
    assert link in shown(client, "/conversation/", q="a")
    page = client.get(link).content.decode()
    assert str(message.uuid) in page and str(other.uuid) not in page


def test_large_tables_are_not_counted(monkeypatch: Any, django_assert_max_num_queries: Any) -> None:
    monkeypatch.setattr(CappedPaginator, "cap", 60)
    for sequence in range(70):
        a_message(sequence, conversation="5")
    client = staff("view_message")
    with django_assert_max_num_queries(10) as captured:
        page = shown(client, "/message/", p="2")
    assert "Only the first 60 rows are listed" in page
    counts = [query["sql"] for query in captured.captured_queries if "COUNT(*)" in query["sql"]]
    assert counts and all("LIMIT 61" in sql for sql in counts)
    assert "only the first" not in shown(client, "/message/", q="66")


def test_a_page_needs_few_queries(django_assert_max_num_queries: Any) -> None:
    for sequence in range(40):
        a_message(sequence, conversation=str(sequence))
    client = staff("view_message")
    with django_assert_max_num_queries(10):
        shown(client, "/message/")


def test_the_outbox_is_listed_by_state_and_escaped() -> None:
    failed = a_row(state="failed", last_error=NASTY, payload={"text": NASTY})
    sent = a_row(state="sent")
    client = staff("view_outboxmessage")
    page = shown(client, "/outboxmessage/", state__exact="failed")
    assert str(failed.key) in page and str(sent.key) not in page and "<script>alert" not in page
    detail = shown(client, f"/outboxmessage/{failed.pk}/change/")
    assert "<script>alert" not in detail and "&lt;script&gt;alert" in detail


def test_sending_again_needs_its_permission() -> None:
    row = a_row(state="failed")
    client = staff("view_outboxmessage")
    assert "send_again" not in shown(client, "/outboxmessage/")
    client.post(f"{BASE}/outboxmessage/", {"action": "send_again", "_selected_action": [row.pk]})
    row.refresh_from_db()
    assert row.state == "failed"


def send_again(*rows: OutboxMessage) -> str:
    client = staff("view_outboxmessage", "change_outboxmessage")
    fields = {"action": "send_again", "_selected_action": [row.pk for row in rows]}
    return client.post(f"{BASE}/outboxmessage/", fields, follow=True).content.decode()


def test_rows_are_sent_again(service: ServiceProcess) -> None:
    later = timezone.now() + timedelta(hours=1)
    failed, pending = a_row(state="failed", attempts=7), a_row(next_attempt_at=later)
    sent, other = a_row(state="sent", message_id="kept"), a_row(lane="other", next_attempt_at=later)
    assert "2 rows made due. Of all due rows, 2 were sent and 0 refused." in send_again(failed, pending, sent)
    for row in (failed, pending, sent, other):
        row.refresh_from_db()
    assert [row.state for row in (failed, pending, sent, other)] == ["sent", "sent", "sent", "pending"]
    assert sent.message_id == "kept"
    assert len(service.client().peek(2)) == 2
    failed.state = "failed"
    failed.save()
    assert "1 were sent" in send_again(failed)
    assert len(service.client().peek(2)) == 2, "the service stores it once, because of its key"


def test_rows_stay_where_the_service_is_down(no_service: str) -> None:
    row = a_row(state="failed")
    page = send_again(row)
    assert "0 were sent" in page and "manage.py messaging_relay sends the rest: no response" in page
    row.refresh_from_db()
    assert row.state == "pending"


def test_rows_that_are_refused_again(service: ServiceProcess) -> None:
    row = a_row(state="failed", payload={"conversation_id": 5, "sender_id": 1, "receiver_id": "a b", "text": "x"})
    assert "0 were sent and 1 refused" in send_again(row)
    row.refresh_from_db()
    assert row.state == "failed" and "receiver_id" in row.last_error
