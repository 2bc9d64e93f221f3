"""The connections of the client: pooled, per process, without foreign state."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from stayafrica_messaging import MessagingClient, __version__

from .fixtures_client import NO_MESSAGES, SENT, Request, StartScript, answer

pytest_plugins = ["tests.fixtures_client"]


def test_a_connection_is_used_again(script: StartScript) -> None:
    server = script(answer(200, SENT))
    with MessagingClient(server.url) as client:
        for _ in range(5):
            client.send(1, 2, 3, "x")
    assert (len(server.requests), len(server.connections)) == (5, 1)


def test_threads_have_connections_of_their_own(script: StartScript) -> None:
    together = threading.Barrier(6)

    def step(request: Request, connection: Any) -> bool:
        together.wait(10)
        return answer(200, SENT)(request, connection)

    server = script(step)
    with MessagingClient(server.url, retries=0) as client:
        for _ in range(3):
            threads = [threading.Thread(target=client.send, args=(1, 2, 3, "x")) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(client._sessions) == 1
    assert (len(server.requests), len(server.connections)) == (18, 6)


def test_a_forked_process_has_connections_of_its_own(script: StartScript) -> None:
    server = script(answer(200, SENT))
    with MessagingClient(server.url) as client:
        client.send(1, 2, 3, "before")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                client.send(1, 2, 3, "child")
                client.send(1, 2, 3, "child")
                status = 0 if list(client._sessions) == [os.getpid()] else 2
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        client.send(1, 2, 3, "after")
    used = {request.json["text"]: request.connection for request in server.requests}
    assert used["before"] == used["after"]
    assert used["child"] != used["before"]
    assert len(server.connections) == 2


def test_a_fork_while_another_thread_calls_blocks_nobody(script: StartScript) -> None:
    server = script(answer(200, SENT))
    ended = threading.Event()
    with MessagingClient(server.url) as client:

        def work() -> None:
            while not ended.is_set():
                client.send(1, 2, 3, "x")

        thread = threading.Thread(target=work)
        thread.start()
        try:
            for _ in range(10):
                child = os.fork()
                if child == 0:
                    status = 1
                    try:
                        client.send(1, 2, 3, "child")
                        status = 0
                    finally:
                        os._exit(status)
                until = time.monotonic() + 10
                while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < until:
                    time.sleep(0.005)
                if done == (0, 0):
                    os.kill(child, 9)
                    os.waitpid(child, 0)
                assert done[1] == 0
        finally:
            ended.set()
            thread.join()


def test_after_a_close_it_connects_anew(script: StartScript) -> None:
    server = script(answer(200, SENT))
    client = MessagingClient(server.url)
    client.send(1, 2, 3, "x")
    client.close()
    client.close()
    client.send(1, 2, 3, "x")
    client.close()
    assert len(server.connections) == 2


def test_what_a_request_says(script: StartScript) -> None:
    server = script(answer(200, SENT), answer(200, NO_MESSAGES))
    with MessagingClient(server.url + "/", "t0ken", headers={"X-Tenant": "a"}) as client:
        client.send(1, 2, 3, "ü", metadata={"a": "\u2028"})
        client.take("a@b:c", 7, wait=1.5)
        assert "t0ken" not in repr(client) + repr(vars(client))
    sent, taken = server.requests
    assert (sent.method, sent.path) == ("POST", "/api/messages/send")
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["authorization"] == taken.headers["authorization"] == "Bearer t0ken"
    assert sent.headers["x-tenant"] == taken.headers["x-tenant"] == "a"
    assert sent.headers["user-agent"] == f"stayafrica-messaging/{__version__}"
    assert sent.body == (
        '{"conversation_id":1,"sender_id":2,"receiver_id":3,"text":"ü",'
        '"message_type":"text","priority":"normal","metadata":{"a":"\u2028"}}'
    ).encode()
    assert (taken.method, taken.path, taken.body) == (
        "GET",
        "/api/messages/queue/a@b:c?max_count=7&wait=2",
        b"",
    )
    assert not {"content-type", "idempotency-key"} & taken.headers.keys()


def test_no_password_of_netrc_is_sent(
    script: StartScript, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server = script(answer(200, SENT))
    for token in ("", "t0ken"):
        with MessagingClient(server.url, token) as client:
            client.send(1, 2, 3, "x")
    without, with_token = server.requests
    assert "authorization" not in without.headers
    assert with_token.headers["authorization"] == "Bearer t0ken"


def test_no_cookie_is_kept(script: StartScript) -> None:
    server = script(answer(200, SENT, {"Set-Cookie": "a=b"}))
    with MessagingClient(server.url) as client:
        client.send(1, 2, 3, "x")
        client.send(1, 2, 3, "x")
    assert "cookie" not in server.requests[1].headers


def test_a_session_that_is_given_is_used_as_it_is(script: StartScript) -> None:
    server = script(answer(200, SENT))
    with requests.Session() as session:
        session.headers["X-Mine"] = "a"
        session.auth = ("me", "hunter2")
        with MessagingClient(server.url, session=session) as client:
            client.send(1, 2, 3, "x")
        MessagingClient(server.url, "t0ken", session=session).send(1, 2, 3, "x")
    first, second = server.requests
    assert (first.headers["x-mine"], first.headers["authorization"][:5]) == ("a", "Basic")
    assert second.headers["authorization"] == "Bearer t0ken"
    assert len(server.connections) == 1
