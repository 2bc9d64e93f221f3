"""The endpoint: authentication, request bodies, responses and stored rows."""

from __future__ import annotations

import datetime
import io
import json
import uuid

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIRequest
from django.db import connection
from django.test import Client, override_settings

from stayafrica_messaging import signature, views
from stayafrica_messaging.adapters import ModelAdapter
from stayafrica_messaging.models import Conversation, Message

from .fixtures_receive import PATH, accounted, message, messages, post

pytestmark = pytest.mark.django_db
HEALTH = "/api/messaging/erlang/health/"


def stored_texts() -> list[str]:
    return list(Message.objects.order_by("pk").values_list("text", flat=True))


def test_a_batch_is_stored_as_it_came():
    first = message(1, metadata={"a": {"b": [1, None, "é"]}}, reply_to=7, receiver_id="u-1", priority="high")
    second = message(2, conversation_id="room", message_type="image", deliver_at="2026-04-01T00:00:00.001Z")
    assert accounted([first, second]) == (2, 0, [])
    row, other = Message.objects.all()
    assert row.uuid == uuid.UUID(first["id"]) and row.sequence == 1
    assert (row.conversation_id, row.sender_id, row.receiver_id) == ("456", "123", "u-1")
    assert (row.text, row.message_type, row.priority) == ("message 1", "text", "high")
    assert row.metadata == {"a": {"b": [1, None, "é"]}} and row.extra == {"reply_to": 7}
    assert row.created_at == datetime.datetime(2026, 3, 1, 12, 34, 56, 789000, datetime.timezone.utc)
    assert row.deliver_at is None and row.stored_at > row.created_at
    assert other.deliver_at.isoformat() == "2026-04-01T00:00:00.001000+00:00"
    assert (other.message_type, other.extra) == ("image", {})
    begun = Conversation.objects.get(pk="456")
    assert begun.created_at == row.created_at and list(begun.messages.all()) == [row]


def test_messages_keep_their_order():
    batch = messages(300)
    accounted(batch[150:])
    accounted(batch[:150])
    assert [row.sequence for row in Message.objects.all()] == list(range(1, 301))
    assert stored_texts()[:150] == [f"message {n}" for n in range(151, 301)]


def test_a_batch_that_comes_again_is_stored_once():
    assert accounted(messages(3)) == (3, 0, [])
    assert accounted(messages(3)) == (0, 3, [])
    assert accounted(messages(4)) == (1, 3, [])
    assert accounted(messages(1, text="another")) == (0, 1, [])
    assert stored_texts() == ["message 1", "message 2", "message 3", "message 4"]


def test_a_message_that_is_twice_in_a_batch_is_stored_once():
    assert accounted([message(1), message(2), message(1), message(1, id=message(1)["id"].upper())]) == (2, 2, [])
    assert stored_texts() == ["message 1", "message 2"]
    assert accounted([message(1), message(1)]) == (0, 2, [])


def test_broadcasts_are_stored_without_a_conversation():
    copies = [message(n, sequence=9, conversation_id=..., receiver_id=n, message_type="system") for n in range(1, 6)]
    assert accounted(copies) == (5, 0, [])
    assert [row.receiver_id for row in Message.objects.filter(conversation=None)] == ["1", "2", "3", "4", "5"]
    assert not Conversation.objects.exists()


def test_metadata_is_never_null():
    accounted([message(1, metadata=None), message(2, metadata=...)])
    assert [row.metadata for row in Message.objects.all()] == [{}, {}]


def test_malformed_messages_cost_only_themselves():
    bad = [message(2, text=None), message(3, id="x"), 7, message(5, id=...), message(6, priority="urgent")]
    batch = [message(1), *bad, message(7)]
    persisted, duplicates, errors = accounted(batch)
    assert (persisted, duplicates) == (2, 0)
    assert [e["permanent"] for e in errors] == [True] * 5
    assert [e["message"] for e in errors] == [{"id": bad[0]["id"]}, {"id": "x"}, 7, bad[3], {"id": bad[4]["id"]}]
    assert errors[0]["error"] == "text must be a string"
    assert errors[4]["error"] == "priority must be high, normal or low"


def test_an_empty_batch():
    assert accounted([]) == (0, 0, [])


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"messages": 7}'])
def test_a_body_that_is_no_batch(body):
    response = post(body)
    assert response.status_code == 400 and "the body is not" in response.json()["error"]


def test_only_post():
    for method in (Client().get, Client().put, Client().delete):
        response = method(PATH)
        assert response.status_code == 405 and response["Allow"] == "POST"


def test_it_is_for_the_service_only():
    for value in ("", "Messaging", "other"):
        assert post([message()], HTTP_X_ERLANG_SERVICE=value).status_code == 403
    assert Client().post(PATH, b"{}", content_type="application/json").status_code == 403
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    "configured", [{"STAYAFRICA_MESSAGING": {"SECRET": "s3cret"}}, {"ERLANG_SHARED_SECRET": "s3cret"}]
)
@pytest.mark.parametrize("allow_unsigned", [False, True])
def test_the_shared_secret(configured, allow_unsigned):
    dictionary = {"ALLOW_UNSIGNED": allow_unsigned, **configured.get("STAYAFRICA_MESSAGING", {})}
    with override_settings(**{**configured, "STAYAFRICA_MESSAGING": dictionary}):
        for wrong in ("", "s3cre", "s3crett", "S3CRET", "é"):
            response = post([message()], HTTP_X_ERLANG_SECRET=wrong)
            assert response.status_code == 403 and b"s3cret" not in response.content
        assert post([message()]).status_code == 403
        assert not Message.objects.exists()
        assert accounted([message()], HTTP_X_ERLANG_SECRET="s3cret") == (1, 0, [])


def test_a_secret_of_any_characters(settings):
    settings.STAYAFRICA_MESSAGING = {"SECRET": "pässwörd"}
    as_a_server_reads_it = "pässwörd".encode().decode("latin-1")
    assert accounted([message()], HTTP_X_ERLANG_SECRET=as_a_server_reads_it) == (1, 0, [])


def test_the_secret_of_the_environment(settings, monkeypatch):
    settings.STAYAFRICA_MESSAGING = {}
    monkeypatch.setenv("ERLANG_SHARED_SECRET", "from outside")
    assert post([message()]).status_code == 403
    assert accounted([message()], HTTP_X_ERLANG_SECRET="from outside") == (1, 0, [])


class TestWithoutCredentials:
    """The endpoint with neither a secret nor signing keys."""

    @pytest.mark.parametrize(
        "configured",
        [
            {},
            {"SECRET": ""},
            {"SECRET": None},
            {"SIGNING_KEYS": []},
            {"SECRET": "", "SIGNING_KEYS": None},
            *({"ALLOW_UNSIGNED": value} for value in (False, None, "", "false", "true", "True", 1)),
        ],
        ids=str,
    )
    def test_it_is_closed(self, settings, configured):
        settings.STAYAFRICA_MESSAGING = configured
        for headers in (
            {},
            *({"HTTP_X_ERLANG_SECRET": guess} for guess in ("", "None", "a guess")),
            {"HTTP_X_MESSAGING_SIGNATURE": signature.header([""], PATH, b"{}")},
        ):
            assert post([message()], **headers).status_code == 403
        assert not Message.objects.exists()

    def test_it_says_what_to_do(self, settings):
        settings.STAYAFRICA_MESSAGING = {}
        error = post([message()]).json()["error"]
        assert "neither a secret nor signing keys" in error
        for name in ("SECRET here", "DJANGO_SHARED_SECRET at the service", "SIGNING_KEYS in both", "ALLOW_UNSIGNED"):
            assert name in error

    def test_strangers_hear_nothing_of_it(self, settings):
        settings.STAYAFRICA_MESSAGING = {}
        response = post([message()], HTTP_X_ERLANG_SERVICE="other")
        assert response.status_code == 403 and "secret" not in response.json()["error"]

    def test_it_can_be_opened(self, settings):
        settings.STAYAFRICA_MESSAGING = {"ALLOW_UNSIGNED": True}
        assert accounted([message()]) == (1, 0, [])

    @pytest.mark.parametrize("credentials", [{"SECRET": "s3cret"}, {"SIGNING_KEYS": ["k" * 32]}])
    def test_what_opens_it_replaces_no_credentials(self, settings, credentials):
        settings.STAYAFRICA_MESSAGING = {"ALLOW_UNSIGNED": True, **credentials}
        assert post([message()]).status_code == 403
        assert not Message.objects.exists()

    def test_an_empty_secret_is_before_the_former_names(self, settings, monkeypatch):
        monkeypatch.setenv("ERLANG_SHARED_SECRET", "from outside")
        settings.STAYAFRICA_MESSAGING = {"SECRET": ""}
        assert post([message()], HTTP_X_ERLANG_SECRET="from outside").status_code == 403

    def test_its_health_is_told(self, settings):
        settings.STAYAFRICA_MESSAGING = {}
        assert Client().get(HEALTH).status_code == 200


def test_no_session_no_cookie_no_csrf():
    response = post([message()], client=Client(enforce_csrf_checks=True))
    assert response.status_code == 200
    assert not response.cookies and not response.has_header("Vary")
    assert views.persist.login_required is False


@pytest.mark.django_db(transaction=True)
def test_a_project_may_wrap_requests_into_transactions(monkeypatch):
    """The view has its own transaction, which commits before the response."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    inside = []
    monkeypatch.setattr(ModelAdapter, "look_up", lambda *_: inside.append(connection.in_atomic_block))
    monkeypatch.setattr(ModelAdapter, "conversations", set(), raising=False)
    assert accounted([message()]) == (1, 0, [])
    assert inside == [False]


class TestBody:
    """Reading of the body, and its limits."""

    def test_it_may_be_larger_than_a_form(self, settings):
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
        assert accounted(messages(5)) == (5, 0, [])

    def test_its_own_limit(self, settings):
        body = json.dumps({"messages": [message()]}).encode()
        settings.STAYAFRICA_MESSAGING = {**settings.STAYAFRICA_MESSAGING, "MAX_BODY": len(body)}
        assert post(body).status_code == 200
        response = post(body + b" ")
        assert response.status_code == 413 and "larger than" in response.json()["error"]

    def test_a_large_one_is_refused_unread(self, settings):
        settings.STAYAFRICA_MESSAGING = {**settings.STAYAFRICA_MESSAGING, "MAX_BODY": 10}
        stream = io.BytesIO(b"x" * 100)
        assert self.over_wsgi(stream, CONTENT_LENGTH="100").status_code == 413
        assert stream.tell() == 0

    @pytest.mark.parametrize("configured", [{"SECRET": "s"}, {}, {"SECRET": ""}])
    def test_nobody_without_the_secret_has_it_read(self, settings, configured):
        settings.STAYAFRICA_MESSAGING = configured
        stream = io.BytesIO(b"x" * 100)
        assert self.over_wsgi(stream, CONTENT_LENGTH="100").status_code == 403
        assert stream.tell() == 0

    def test_chunked_and_marked_at_its_end(self, settings):
        body = json.dumps({"messages": messages(3)}).encode()
        chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
        assert self.over_wsgi(Dribble(body), **chunked).status_code == 200
        assert Message.objects.count() == 3
        settings.STAYAFRICA_MESSAGING = {**settings.STAYAFRICA_MESSAGING, "MAX_BODY": len(body) - 1}
        stream = Dribble(body + b" " * 100)
        assert self.over_wsgi(stream, **chunked).status_code == 413
        assert stream.tell() <= len(body)

    def test_chunked_without_an_end_is_not_waited_for(self):
        stream = io.BytesIO(b"x" * 100)
        assert self.over_wsgi(stream, HTTP_TRANSFER_ENCODING="chunked").status_code == 411
        assert stream.tell() == 0

    def test_broken_off(self):
        body = json.dumps({"messages": [message()]}).encode()
        assert self.over_wsgi(io.BytesIO(body[:-5]), CONTENT_LENGTH=str(len(body))).status_code == 400
        padded = io.BytesIO(body + b" ")
        assert self.over_wsgi(padded, CONTENT_LENGTH=str(len(body) + 2)).status_code == 400
        assert self.over_wsgi(Broken(), CONTENT_LENGTH="100").status_code == 400
        assert self.over_wsgi(io.BytesIO(body), CONTENT_LENGTH="many").status_code == 400

    def test_one_that_a_middleware_has_read(self):
        body = json.dumps({"messages": [message()]}).encode()
        request = self.request(io.BytesIO(body), CONTENT_LENGTH=str(len(body)))
        assert request.body == body
        assert views.persist(request).status_code == 200

    @staticmethod
    def request(stream: io.BytesIO, **environ) -> WSGIRequest:
        return WSGIRequest(
            {
                "REQUEST_METHOD": "POST",
                "PATH_INFO": PATH,
                "SERVER_NAME": "testserver",
                "SERVER_PORT": "80",
                "CONTENT_TYPE": "application/json",
                "HTTP_X_ERLANG_SERVICE": "messaging",
                "wsgi.input": stream,
                **environ,
            }
        )

    def over_wsgi(self, stream: io.BytesIO, **environ):
        return views.persist(self.request(stream, **environ))


class Dribble(io.BytesIO):
    """A body that arrives in small pieces."""

    def read(self, size=-1):
        return super().read(min(size, 7) if size >= 0 else 7)


class Broken(io.BytesIO):
    def read(self, size=-1):
        raise OSError("the peer has gone")


def test_health():
    response = Client().get(HEALTH)
    assert response.status_code == 200 and response.json() == {"status": "ok"}
    assert Client().head(HEALTH).status_code == 200
    assert Client().post(HEALTH).status_code == 405


@pytest.mark.parametrize(
    "adapter, word",
    [
        ("tests.chat.messaging.Nothing", "cannot be imported"),
        ("tests.chat.models.Room", "not a subclass"),
        ("tests.chat.messaging.CarelessAdapter", "must be unique"),
    ],
)
def test_an_adapter_that_cannot_work(settings, adapter, word):
    settings.STAYAFRICA_MESSAGING = {**settings.STAYAFRICA_MESSAGING, "ADAPTER": adapter}
    with pytest.raises(ImproperlyConfigured, match=word):
        post([message()])
