"""The original's module with this service: the same results, and it never raises."""

from __future__ import annotations

import inspect
import logging
from itertools import product
from typing import Any, Callable, Dict

import pytest
from django.test import override_settings

from stayafrica_messaging.erlang import ErlangMessagingClient, erlang_client

from .fixtures_client import SENT, Service, StartScript, StartService, Step, answer, hang_up, raw, refusal, silence

pytest_plugins = ["tests.fixtures_client"]


def test_the_original_s_calls(service: Service, user: str) -> None:
    with override_settings(ERLANG_MESSAGING_URL=service.url):
        assert erlang_client.health_check() is True
        assert erlang_client.send_message(
            conversation_id=123, sender_id=456, receiver_id=user, text="Hello from Django!", priority="normal"
        )
        assert erlang_client.send_message(123, 456, user, "First", "image", "high", {"a": 1}) is True
        first, second = erlang_client.get_user_messages(user_id=user)
        assert (first["text"], first["message_type"], first["metadata"]) == ("First", "image", {"a": 1})
        assert (second["text"], second["message_type"], second["metadata"]) == ("Hello from Django!", "text", {})
        assert second["conversation_id"] == 123
        assert erlang_client.get_user_messages(user) == []
        assert erlang_client.broadcast_message(1, [user, f"{user}-2"], "System announcement", metadata={"b": 2}) is True
        (copy,) = erlang_client.get_user_messages(user, max_count=1)
        assert (copy["text"], copy["message_type"], copy["metadata"]) == ("System announcement", "system", {"b": 2})
        stats = erlang_client.get_stats()
        assert stats is not None and stats["messages_processed"] >= 3


def test_the_original_s_signatures() -> None:
    wanted: Dict[Callable[..., Any], str] = {
        ErlangMessagingClient: "base_url=None",
        erlang_client.health_check: "",
        erlang_client.send_message: (
            "conversation_id, sender_id, receiver_id, text, message_type='text', priority='normal', metadata=None"
        ),
        erlang_client.get_user_messages: "user_id, max_count=10",
        erlang_client.broadcast_message: "sender_id, user_ids, text, message_type='system', metadata=None",
        erlang_client.get_stats: "",
    }
    for function, shown in wanted.items():
        parameters = inspect.signature(function).parameters.values()
        assert ", ".join(str(parameter.replace(annotation=parameter.empty)) for parameter in parameters) == shown


CALLS: Dict[str, Callable[[ErlangMessagingClient], Any]] = {
    "health_check": lambda client: client.health_check(),
    "send_message": lambda client: client.send_message(1, 2, 3, "secret words"),
    "get_user_messages": lambda client: client.get_user_messages(3),
    "broadcast_message": lambda client: client.broadcast_message(1, [2], "secret words"),
    "get_stats": lambda client: client.get_stats(),
}
FAILED = {
    "health_check": False,
    "send_message": False,
    "get_user_messages": [],
    "broadcast_message": False,
    "get_stats": None,
}

TROUBLE: Dict[str, Step] = {
    "500": refusal(500, "internal"),
    "500 of a proxy": answer(500, "<html>sorry</html>"),
    "503": refusal(503, "overloaded", {"Retry-After": "60"}),
    "400": refusal(400, "invalid_field"),
    "401": refusal(401, "unauthorized"),
    "404": answer(404, "not found"),
    "302": answer(302, "", {"Location": "/login"}),
    "html": answer(200, "<html>Log in</html>"),
    "nothing": answer(200, ""),
    "list": answer(200, "[]"),
    "null": answer(200, "null"),
    "no messages": answer(200, {"status": "success", "messages": 5}),
    "error with 200": answer(200, {"status": "error"}),
    "bytes": raw(b"\x00\xff\x00\xff"),
    "hang up": hang_up,
    "silence": silence(0.3),
}


# Any object with success is accepted as statistics.
GOOD = [("no messages", "get_stats")]


@pytest.mark.parametrize(("name", "call"), [pair for pair in product(TROUBLE, CALLS) if pair not in GOOD])
def test_it_never_raises(script: StartScript, caplog: pytest.LogCaptureFixture, name: str, call: str) -> None:
    client = ErlangMessagingClient(script(TROUBLE[name]).url)
    client.timeout = 0.1
    with override_settings(STAYAFRICA_MESSAGING={"RETRIES": 0}):
        failed(client, call, caplog)


def failed(client: ErlangMessagingClient, call: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert CALLS[call](client) == FAILED[call]
    assert type(CALLS[call](client)) is type(FAILED[call])
    (record,) = [record for record in caplog.records if record.name == "stayafrica_messaging.erlang"][:1]
    assert record.levelno == logging.ERROR
    assert call in record.getMessage()
    assert "secret words" not in caplog.text and "hunter2" not in caplog.text


@pytest.mark.parametrize("call", CALLS)
def test_it_never_raises_while_the_service_is_down(nobody: str, caplog: pytest.LogCaptureFixture, call: str) -> None:
    with override_settings(STAYAFRICA_MESSAGING={"RETRIES": 0}):
        failed(ErlangMessagingClient(nobody), call, caplog)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "settings",
    [
        {"URL": "nonsense"},
        {"URL": None},
        {"URL": "http://me:hunter2@127.0.0.1:1"},
        {"TIMEOUT": "soon"},
        {"TIMEOUT": None},
        {"RETRIES": -1},
        {"TOKEN": "hunter2\n"},
        {"SECRET": "hunter2\n", "RETRIES": 0},
        {"SECRET": "☃", "RETRIES": 0},
        "nonsense",
    ],
)
def test_it_never_raises_whatever_the_settings(caplog: pytest.LogCaptureFixture, settings: Any, call: str) -> None:
    with override_settings(STAYAFRICA_MESSAGING=settings):
        failed(ErlangMessagingClient(), call, caplog)


@pytest.mark.parametrize(
    "call",
    [
        lambda: erlang_client.send_message(object(), 2, 3, "x"),  # type: ignore[arg-type]
        lambda: erlang_client.send_message(1, 2, 3, "\ud800"),
        lambda: erlang_client.send_message(1, 2, 3, "x", metadata={"a": float("nan")}),
        lambda: erlang_client.send_message(1, 2, 3, "x", metadata=5),  # type: ignore[arg-type]
        lambda: erlang_client.broadcast_message(1, None, "x"),  # type: ignore[arg-type]
        lambda: erlang_client.broadcast_message(1, 5, "x"),  # type: ignore[arg-type]
        lambda: bool(erlang_client.get_user_messages("a/b")),
        lambda: bool(erlang_client.get_user_messages(None)),  # type: ignore[arg-type]
        lambda: bool(erlang_client.get_user_messages(3, max_count="x")),  # type: ignore[arg-type]
    ],
)
def test_it_never_raises_whatever_the_arguments(service: Service, call: Callable[[], bool]) -> None:
    with override_settings(ERLANG_MESSAGING_URL=service.url):
        assert call() is False


def test_messages_that_were_taken_are_given_whatever_they_are(script: StartScript) -> None:
    server = script(answer(200, {"status": "success", "messages": [{"text": "x"}, 5]}))
    assert ErlangMessagingClient(server.url).get_user_messages(3) == [{"text": "x"}]


def test_what_can_pass_is_tried_again(script: StartScript) -> None:
    server = script(hang_up, refusal(503, "not_ready"), answer(200, SENT))
    assert ErlangMessagingClient(server.url).send_message(1, 2, 3, "x") is True
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 1
    assert len(server.requests) == 3


def test_a_service_that_hangs_costs_one_time_out(script: StartScript) -> None:
    server = script(silence(0.5))
    client = ErlangMessagingClient(server.url)
    client.timeout = 0.3
    assert client.send_message(1, 2, 3, "x") is False
    assert len(server.requests) == 1


def test_health_is_asked_once(script: StartScript) -> None:
    server = script(hang_up)
    assert ErlangMessagingClient(server.url).health_check() is False
    assert len(server.requests) == 1


@pytest.mark.parametrize("names", [("STAYAFRICA_MESSAGING", "SECRET"), ("ERLANG_SHARED_SECRET", None)])
def test_the_secret_is_sent(script: StartScript, names: Any) -> None:
    server = script(answer(200, SENT))
    client = ErlangMessagingClient(server.url)
    client.send_message(1, 2, 3, "x")
    with override_settings(**{names[0]: {names[1]: "s3cret"} if names[1] else "s3cret"}):
        client.send_message(1, 2, 3, "x")
        client.send_message(1, 2, 3, "x")
    client.send_message(1, 2, 3, "x")
    assert [request.headers.get("x-erlang-secret") for request in server.requests] == [None, "s3cret", "s3cret", None]
    assert server.requests[1].connection == server.requests[2].connection


def test_the_secret_does_the_service_no_harm(start_service: StartService, user: str) -> None:
    service = start_service(ERLANG_SHARED_SECRET="the-secret-of-django", API_TOKENS="web:token-of-the-web")
    with override_settings(ERLANG_MESSAGING_URL=service.url, ERLANG_SHARED_SECRET="s3cret"):
        assert erlang_client.send_message(1, 2, user, "x") is False
        with override_settings(STAYAFRICA_MESSAGING={"TOKEN": "token-of-the-web"}):
            assert erlang_client.send_message(1, 2, user, "x") is True
            assert len(erlang_client.get_user_messages(user)) == 1
    assert "s3cret" not in service.log.read_text()


def test_the_url_follows_the_settings(script: StartScript) -> None:
    first, second = script(answer(200, SENT)), script(answer(200, SENT))
    client = ErlangMessagingClient()
    for server in (first, second):
        with override_settings(ERLANG_MESSAGING_URL=server.url + "/"):
            assert client.base_url == server.url + "/"
            assert client.send_message(1, 2, 3, "x")
    client.base_url = first.url
    assert client.send_message(1, 2, 3, "x")
    assert (len(first.requests), len(second.requests)) == (2, 1)
