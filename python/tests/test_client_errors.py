"""The client's errors for refusals, outages and invalid responses of a scripted server."""

from __future__ import annotations

import pickle
import socket
from typing import Any, Callable, Dict, Type

import pytest

from stayafrica_messaging import MessagingClient, errors

from .fixtures_client import NO_MESSAGES, SENT, Pauses, StartScript, Step, answer, hang_up, raw, refusal, reset, silence

pytest_plugins = ["tests.fixtures_client"]


def send(client: MessagingClient) -> Any:
    return client.send(1, 2, 789, "secret words")


def take(client: MessagingClient) -> Any:
    return client.take(789)


REFUSALS = [
    (400, "missing_field", errors.InvalidMessage),
    (401, "unauthorized", errors.Unauthorized),
    (403, "forbidden", errors.Forbidden),
    (404, "not_found", errors.NotFound),
    (405, "method_not_allowed", errors.ServiceError),
    (408, "request_timeout", errors.ServiceError),
    (409, "idempotency_conflict", errors.IdempotencyConflict),
    (413, "too_large", errors.InvalidMessage),
    (415, "unsupported_media_type", errors.InvalidMessage),
    (421, "misdirected_request", errors.Forbidden),
    (429, "too_many_requests", errors.Overloaded),
    (500, "internal", errors.ServerFault),
    (503, "overloaded", errors.Overloaded),
    (503, "shutting_down", errors.Overloaded),
    (503, "not_ready", errors.Overloaded),
    (507, "disk_full", errors.DiskFull),
]


@pytest.mark.parametrize(("status", "code", "kind"), REFUSALS)
def test_refusals(script: StartScript, status: int, code: str, kind: Type[errors.ServiceError]) -> None:
    server = script(refusal(status, code, {"Retry-After": "3"}, field="text", index=4))
    with MessagingClient(server.url, retries=0) as client, pytest.raises(errors.ServiceError) as caught:
        send(client)
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.message) == (status, code, f"it is {code}")
    assert (error.field, error.index, error.retry_after) == ("text", 4, 3.0)
    assert str(error) == f"it is {code} (message 4, counted from 0) [{status}, {code}]"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidMessage),
        (401, errors.Unauthorized),
        (403, errors.Forbidden),
        (413, errors.InvalidMessage),
        (429, errors.Overloaded),
        (500, errors.ServerFault),
        (502, errors.ServerFault),
        (503, errors.Overloaded),
        (504, errors.ServerFault),
        (301, errors.BadAnswer),
        (302, errors.BadAnswer),
        (304, errors.BadAnswer),
        (404, errors.BadAnswer),
        (405, errors.BadAnswer),
        (418, errors.BadAnswer),
        (201, errors.BadAnswer),
    ],
)
@pytest.mark.parametrize("body", ["<html>nginx</html>", '["a"]', '{"detail": "no"}', '{"code": 1, "message": 2}', ""])
def test_answers_of_something_in_between(
    script: StartScript, status: int, kind: Type[errors.MessagingError], body: str
) -> None:
    server = script(answer(status, body, {"Location": "http://127.0.0.1:1/login"}))
    with MessagingClient(server.url, retries=0) as client, pytest.raises(errors.MessagingError) as caught:
        send(client)
    assert type(caught.value) is kind
    assert caught.value.status == status  # type: ignore[attr-defined]
    assert len(server.requests) == 1


BROKEN = {
    "empty": answer(200, ""),
    "html": answer(200, "<html>Log in</html>"),
    "half": answer(200, '{"status":"success","id":'),
    "list": answer(200, "[1]"),
    "null": answer(200, "null"),
    "no status": answer(200, {"id": "a", "sequence": 1}),
    "another status": answer(200, {**SENT, "status": "error"}),
    "no id": answer(200, {"status": "success", "sequence": 1}),
    "id of another kind": answer(200, {**SENT, "id": 5}),
    "sequence of another kind": answer(200, {**SENT, "sequence": True}),
    "deep": answer(200, '{"status":' + "[" * 100_000),
    "no utf-8": answer(200, b'{"status":"\xff"}'),
    "huge number": answer(200, '{"status":"success","id":"a","sequence":' + "9" * 5000 + "x}"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_answers(script: StartScript, pauses: Pauses, name: str) -> None:
    server = script(BROKEN[name])
    with MessagingClient(server.url, sleep=pauses) as client, pytest.raises(errors.BadAnswer, match="URL") as caught:
        send(client)
    assert caught.value.status == 200
    assert len(server.requests) == 1
    assert "secret words" not in str(caught.value)


@pytest.mark.parametrize(
    ("ask", "body"),
    [
        (lambda client: client.take(1), {**NO_MESSAGES, "messages": [{"id": "a"}]}),
        (lambda client: client.take(1), {**NO_MESSAGES, "messages": {}}),
        (lambda client: client.ack(1, ["a"]), {"status": "success", "results": [1]}),
        (lambda client: client.send_batch([{}, {}]), {"status": "success", "messages": [{"id": "a", "sequence": 1}]}),
        (lambda client: client.broadcast(1, [2], "x"), SENT),
        (lambda client: client.queue_size(1), {"status": "success", "high": 1}),
        (lambda client: client.clear(1), {"status": "success"}),
        (lambda client: client.dead_letters(), {"status": "success", "dead_letters": None}),
        (lambda client: client.dead_letter("a"), {"status": "success"}),
        (lambda client: client.job("a"), {"status": "success", "job": {"id": "a"}}),
        (lambda client: client.jobs(), {"status": "success", "jobs": "none"}),
        (lambda client: client.stats(), {"messages_processed": 1}),
        (lambda client: client.health(), {"status": "UP"}),
        (lambda client: client.ready(), {"status": "success"}),
        (lambda client: client.openapi(), {"swagger": "2"}),
        (lambda client: client.metrics(), b"\xff"),
    ],
)
def test_answers_of_another_service(script: StartScript, ask: Callable[[MessagingClient], Any], body: Any) -> None:
    server = script(answer(200, body))
    with MessagingClient(server.url) as client, pytest.raises(errors.BadAnswer):
        ask(client)


UNREACHED: Dict[str, Step] = {
    "hang up": hang_up,
    "reset": reset,
    "no http": raw(b"220 smtp.example.org ESMTP\r\n"),
    "half a head": raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "half a body": raw(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"status":"success"'),
    "half a chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"),
    "bad chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{"),
    "bad gzip": raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"),
    "long line": raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n"),
}


@pytest.mark.parametrize("name", UNREACHED)
def test_connections_that_break(script: StartScript, pauses: Pauses, name: str) -> None:
    server = script(UNREACHED[name])
    with MessagingClient(server.url, retries=2, sleep=pauses) as client:
        with pytest.raises(errors.ConnectionFailed) as caught:
            take(client)
        assert caught.value.sent is True
        assert (len(server.requests), len(pauses)) == (1, 0)
        with pytest.raises(errors.ConnectionFailed):
            send(client)
        assert (len(server.requests), len(pauses)) == (4, 2)


def test_nobody_listens(nobody: str, pauses: Pauses) -> None:
    with MessagingClient(nobody, retries=2, sleep=pauses) as client:
        for call in (send, take):
            with pytest.raises(errors.ConnectionFailed, match="refused") as caught:
                call(client)
            assert caught.value.sent is False
            assert nobody in str(caught.value)
    assert len(pauses) == 4


def test_what_failed_is_told_and_nothing_of_the_caller_s(nobody: str, script: StartScript) -> None:
    junk = script(raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsecret words\r\n")).url
    for url, told in ((nobody, "Connection refused"), (junk, "")):
        with MessagingClient(url, retries=0) as client:
            try:
                raise OSError("secret words")
            except OSError:
                with pytest.raises(errors.ConnectionFailed, match=told) as caught:
                    send(client)
        assert "secret words" not in str(caught.value)


def test_there_is_no_such_host(pauses: Pauses) -> None:
    with MessagingClient("http://messaging.invalid:8765", retries=1, sleep=pauses) as client:
        with pytest.raises(errors.ConnectionFailed) as caught:
            take(client)
    assert caught.value.sent is False
    assert len(pauses) == 1


def test_no_answer_in_time(script: StartScript, pauses: Pauses) -> None:
    server = script(silence(0.6))
    with MessagingClient(server.url, timeout=0.1, retries=1, sleep=pauses) as client:
        for call, tries in ((take, 1), (send, 2)):
            server.requests.clear()
            with pytest.raises(errors.TimedOut, match="in time") as caught:
                call(client)
            assert caught.value.sent is True
            assert len(server.requests) == tries


def test_half_an_answer_and_no_more_in_time(script: StartScript) -> None:
    def begin(request: Any, connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        return silence(0.5)(request, connection)

    server = script(begin)
    with MessagingClient(server.url, timeout=0.1, retries=0) as client, pytest.raises(errors.TimedOut):
        send(client)


def test_no_connection_in_time(pauses: Pauses) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}"
        with MessagingClient(url, connect_timeout=0.1, retries=1, sleep=pauses) as client:
            with pytest.raises(errors.TimedOut) as caught:
                take(client)
        for connection in waiting:
            connection.close()
    assert caught.value.sent is False
    assert len(pauses) == 1  # it was never sent, so even a take is retried


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), ("-1", None), ("1.5", None), ("", None), ("١", None), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)],
)
def test_retry_after(script: StartScript, value: str, seconds: Any) -> None:
    server = script(refusal(503, "overloaded", {"Retry-After": value}))
    with MessagingClient(server.url, retries=0) as client, pytest.raises(errors.Overloaded) as caught:
        send(client)
    assert caught.value.retry_after == seconds


def test_readiness_is_an_answer(script: StartScript, pauses: Pauses, nobody: str) -> None:
    starting = {"status": "error", "ready": False, "recovered": False, "disk": False, "draining": False}
    with MessagingClient(script(answer(503, starting)).url, sleep=pauses) as client:
        assert client.ready() == starting
    with MessagingClient(script(answer(503, "<html>no upstream</html>")).url, sleep=pauses) as client:
        assert client.ready()["ready"] is False
    with MessagingClient(script(refusal(503, "overloaded")).url, sleep=pauses) as client:
        assert client.ready()["ready"] is False
    assert pauses == []
    with MessagingClient(nobody, sleep=pauses) as client, pytest.raises(errors.ConnectionFailed):
        client.ready()


@pytest.mark.parametrize(
    "error",
    [
        errors.TimedOut("no answer", sent=False),
        errors.ConnectionFailed("no answer"),
        errors.InvalidMessage(400, "invalid_field", "text is missing", "text", 3, 1.5),
        errors.BadAnswer("not the service", 404),
    ],
)
def test_errors_can_be_pickled(error: errors.MessagingError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (str(copy), vars(copy)) == (str(error), vars(error))
