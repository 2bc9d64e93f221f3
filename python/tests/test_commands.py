"""The commands, with the real service and without it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from django.core.management import CommandError, call_command

from stayafrica_messaging import conf
from stayafrica_messaging.models import Message

from .fixtures_admin import (  # noqa: F401
    TOKEN,
    ScriptedDjango,
    ServiceProcess,
    make_dead_letters,
    free_port,
    no_proxy,
    no_service,
    scripted_django,
    service,
    service_binary,
    service_off,
    until,
)

PYTHON = Path(__file__).resolve().parents[1]


def run(*arguments: str, **options: Any) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out, stderr=out, **options)
    return out.getvalue()


def fails(*arguments: str) -> str:
    """Runs a command that must fail. Returns its output, followed by the error."""
    out = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command(*arguments, stdout=out, stderr=out)
    assert caught.value.returncode
    return f"{out.getvalue()}{caught.value}"


def rows(text: str) -> List[List[str]]:
    """Returns the name and level of each row of the table."""
    return [[row[:14].strip(), row[14:23].strip()] for row in text.splitlines() if row[:14].strip()]


class TestCheck:
    """manage.py messaging_check"""

    pytestmark = pytest.mark.django_db

    @pytest.fixture(autouse=True)
    def secret(self, settings: Any) -> None:
        settings.STAYAFRICA_MESSAGING = {**settings.STAYAFRICA_MESSAGING, "SECRET": "a long random text"}

    @pytest.fixture
    def with_service(self, service: ServiceProcess, settings: Any) -> ServiceProcess:
        settings.STAYAFRICA_MESSAGING = {**settings.STAYAFRICA_MESSAGING, "SECRET": "a long random text"}
        return service

    def test_all_is_well(self, with_service: ServiceProcess, live_server: Any) -> None:
        text = run("messaging_check", "--url", live_server.url)
        assert "accepts messages" in text and live_server.url in text
        levels = dict(map(tuple, rows(text)))  # type: ignore[arg-type]
        levels.pop("check I004", levels.pop("settings", None))  # SQLite has a note, PostgreSQL nothing
        assert levels.pop("arrival") == "note"
        assert levels == dict.fromkeys(["service", "ready", "token", "drain lag", "dead letters", "endpoint"], "ok")

    def test_the_service_is_down(self, no_service: str) -> None:
        text = fails("messaging_check")
        assert ["service", "error"] in rows(text) and "cannot be reached" in text and text.endswith("1 check failed")

    def test_a_wrong_token(self, with_service: ServiceProcess, settings: Any) -> None:
        settings.STAYAFRICA_MESSAGING = {**settings.STAYAFRICA_MESSAGING, "TOKEN": "wrong-token"}
        text = fails("messaging_check")
        assert ["token", "error"] in rows(text) and "API_TOKENS" in text and "wrong-token" not in text

    def test_settings_that_are_wrong(self, settings: Any) -> None:
        settings.STAYAFRICA_MESSAGING = {"URL": "messaging:8765"}
        text = fails("messaging_check")
        assert ["check E002", "error"] in rows(text) and ["check W009", "warning"] in rows(text)
        assert "settings for the messaging service are invalid" in text

    def test_settings_that_cannot_be_read(self, settings: Any) -> None:
        settings.STAYAFRICA_MESSAGING = "nonsense"
        assert rows(fails("messaging_check"))[0] == ["check E001", "error"]

    def test_dead_letters(self, with_service: ServiceProcess) -> None:
        make_dead_letters(with_service, "one", "two")
        text = run("messaging_check")
        assert ["dead letters", "warning"] in rows(text) and "2 refused" in text

    def test_django_takes_nothing(self, with_service: ServiceProcess, scripted_django: ScriptedDjango) -> None:
        scripted_django.status = 404
        with_service.client().send(5, 1, 2, "hello")
        status = with_service.client().metrics
        until(lambda: "messaging_drain_waiting 1" in status())
        text = fails("messaging_check")
        assert ["drain lag", "error"] in rows(text) and "misconfigured (" in text and "DJANGO_PERSIST_PATH" in text

    def test_the_drain_is_off(self, service_off: ServiceProcess, scripted_django: ScriptedDjango) -> None:
        text = run("messaging_check")
        assert ["drain lag", "warning"] in rows(text) and "the drain is off" in text and "0 messages" in text
        service_off.client().send(5, 1, 2, "hello")
        text = run("messaging_check")
        assert ["drain lag", "warning"] in rows(text) and "; 1 messages, the oldest" in text and "DJANGO_API_URL" in text
        service_off.stop()
        service_off.environment["DJANGO_API_URL"] = scripted_django.url
        service_off.start()
        until(lambda: scripted_django.stored)
        until(lambda: not service_off.client().stats()["drain_lag_messages"])
        assert ["drain lag", "ok"] in rows(fails("messaging_check"))

    def test_messages_arrive_elsewhere(self, with_service: ServiceProcess) -> None:
        with_service.client().send(5, 1, 2, "hello")
        until(lambda: with_service.client().stats()["messages_persisted"])
        text = fails("messaging_check")
        assert ["arrival", "error"] in rows(text) and "this database has none" in text

    def test_the_endpoint_is_posted_to(self, with_service: ServiceProcess, settings: Any, live_server: Any) -> None:
        settings.STAYAFRICA_MESSAGING = {
            **settings.STAYAFRICA_MESSAGING, "DJANGO_URL": live_server.url, "SIGNING_KEYS": ["k" * 32],
        }
        assert ["endpoint", "ok"] in rows(run("messaging_check"))

    def test_a_closed_endpoint(self, with_service: ServiceProcess, settings: Any, live_server: Any) -> None:
        settings.STAYAFRICA_MESSAGING = {**settings.STAYAFRICA_MESSAGING, "SECRET": ""}
        text = fails("messaging_check", "--url", live_server.url)
        assert ["check W009", "warning"] in rows(text) and ["endpoint", "error"] in rows(text)
        hint = text.partition("responds with 403\n")[2].strip()
        assert hint.startswith("The endpoint has neither a secret nor signing keys") and "CSRF" in hint

    def test_an_endpoint_that_says_it_is_closed(
        self, with_service: ServiceProcess, scripted_django: ScriptedDjango, monkeypatch: Any
    ) -> None:
        """The process that serves the endpoint may have other settings than the command."""
        scripted_django.status = 403
        for error, named in ((conf.CLOSED, True), ("X-Erlang-Secret does not match the shared secret", False)):
            monkeypatch.setattr(scripted_django, "answer", lambda messages, error=error: {"error": error})
            text = fails("messaging_check", "--url", scripted_django.url)
            assert ["endpoint", "error"] in rows(text) and "CSRF" in text
            assert ("The endpoint has neither a secret nor signing keys" in text) is named

    def test_an_open_endpoint(self, with_service: ServiceProcess, settings: Any, live_server: Any) -> None:
        settings.STAYAFRICA_MESSAGING = {**settings.STAYAFRICA_MESSAGING, "SECRET": "", "ALLOW_UNSIGNED": True}
        text = run("messaging_check", "--url", live_server.url)
        assert ["check W002", "warning"] in rows(text) and ["endpoint", "ok"] in rows(text)

    def test_no_address_of_django(self, with_service: ServiceProcess) -> None:
        text = run("messaging_check")
        assert ["endpoint", "note"] in rows(text) and "not checked" in text

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"PREPEND_WWW": True}, "a redirect to http://www."),
            ({"ALLOWED_HOSTS": ["example.com"]}, "Is the host in ALLOWED_HOSTS?"),
            ({"ROOT_URLCONF": "tests.test_commands"}, "no endpoint at this path"),
        ],
    )
    def test_an_endpoint_that_cannot_be_posted_to(
        self, with_service: ServiceProcess, settings: Any, live_server: Any, change: Any, words: str
    ) -> None:
        for name, value in change.items():
            setattr(settings, name, value)
        text = fails("messaging_check", "--url", live_server.url)
        assert ["endpoint", "error"] in rows(text) and words in text

    def test_an_address_where_nobody_is(self, with_service: ServiceProcess) -> None:
        text = fails("messaging_check", "--url", f"http://127.0.0.1:{free_port()}/")
        assert ["endpoint", "error"] in rows(text) and "cannot be reached" in text

    def test_a_wrong_option(self, with_service: ServiceProcess) -> None:
        assert "has no scheme" in fails("messaging_check", "--url", "backend:8000")


@pytest.mark.django_db(transaction=True)
def test_messages_arrive_here(service_binary: str, tmp_path: Path, live_server: Any, settings: Any) -> None:  # noqa: F811
    here = ServiceProcess(service_binary, tmp_path, live_server.url, DJANGO_SHARED_SECRET="a long random text")
    try:
        here.start()
        settings.STAYAFRICA_MESSAGING = {"URL": here.url, "TOKEN": TOKEN, "SECRET": "a long random text"}
        sequence = here.client().send(5, 1, 2, "hello").sequence
        until(lambda: here.client().stats()["messages_persisted"])
        text = run("messaging_check")
        assert ["arrival", "ok"] in rows(text) and f"up to sequence {sequence}" in text
        assert Message.objects.get().text == "hello"
    finally:
        here.stop()


urlpatterns: List[Any] = []  # this module is the URLconf of a test


def sent(service: ServiceProcess, django: ScriptedDjango, *conversations: int) -> List[str]:
    """Sends messages that Django stores and then loses. Returns their ids."""
    ids = [service.client().send(conversation, 1, 2, "hello").id for conversation in conversations]
    until(lambda: set(ids) <= set(django.stored))
    django.stored.clear()
    return ids


class TestReplay:
    """manage.py messaging_replay"""

    def test_it_waits_and_shows_how_far_it_is(self, service: ServiceProcess, scripted_django: ScriptedDjango) -> None:
        ids = sent(service, scripted_django, 5, 6)
        text = run("messaging_replay", "--from-sequence", "1", "--wait", "--yes")
        assert re.search(r"job \S+: sending", text) and text.rstrip().endswith("done")
        assert set(scripted_django.stored) == set(ids)

    def test_a_part(self, service: ServiceProcess, scripted_django: ScriptedDjango) -> None:
        ids = sent(service, scripted_django, 5, 6, 6)
        part = ["--conversation", "6", "--user", "2", "--from-time", "2026-01-01", "--to-sequence", "2", "--rate", "100"]
        run("messaging_replay", *part, "--wait")
        assert set(scripted_django.stored) == {ids[1]}

    def test_a_whole_replay_asks(self, service: ServiceProcess, monkeypatch: Any) -> None:
        service.client().send(5, 1, 2, "hello")
        assert "Confirm with --yes" in fails("messaging_replay")
        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", lambda question: "n")
        assert "nothing was replayed" in fails("messaging_replay", "--from-sequence", "1", "--rate", "10")
        assert service.client().jobs() == []
        monkeypatch.setattr("builtins.input", lambda question: "y")
        assert "job" in run("messaging_replay")
        assert len(service.client().jobs()) == 1

    def test_without_waiting(self, service: ServiceProcess) -> None:
        service.client().send(5, 1, 2, "hello")
        text = run("messaging_replay", "--yes")
        assert service.client().jobs()[0].id in text

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--from-time", "yesterday"],
            ["--from-time", "2026-13-01"],
            ["--from-sequence", "1", "--from-time", "2026-01-01"],
            ["--to-sequence", "1", "--to-time", "2026-01-01"],
            ["--rate", "0", "--yes"],
            ["--from-sequence", "0"],
            ["--conversation", "a b"],
        ],
    )
    def test_what_cannot_be(self, service: ServiceProcess, arguments: List[str]) -> None:
        fails("messaging_replay", *arguments)
        assert service.client().jobs() == []

    def test_a_job_that_is_cancelled(self, service: ServiceProcess, scripted_django: ScriptedDjango) -> None:
        sent(service, scripted_django, 5)
        scripted_django.status = 503

        def cancel() -> None:
            job = until(lambda: service.client().jobs())[0]
            service.client().cancel_job(job.id)

        canceller = threading.Thread(target=cancel)
        canceller.start()
        assert "is cancelled" in fails("messaging_replay", "--yes", "--wait")
        canceller.join()

    def test_through_a_restart(self, service: ServiceProcess, scripted_django: ScriptedDjango) -> None:
        ids = sent(service, scripted_django, 5, 6)
        scripted_django.status = 503

        def restart() -> None:
            until(lambda: service.client().jobs())
            service.stop()
            service.start()
            scripted_django.status = 200

        restarter = threading.Thread(target=restart)
        restarter.start()
        assert run("messaging_replay", "--yes", "--wait").rstrip().endswith("done")
        restarter.join()
        assert set(scripted_django.stored) == set(ids)

    def test_the_service_is_down(self, no_service: str) -> None:
        assert "cannot be reached" in fails("messaging_replay", "--yes")


class TestTail:
    """manage.py messaging_tail"""

    def test_it_takes_nothing(self, service: ServiceProcess) -> None:
        client = service.client()
        for text in ("one", "two"):
            client.send(5, 1, 2, text)
        lines = run("messaging_tail", "2", "--count", "2").splitlines()
        assert [line.rpartition(": ")[2] for line in lines] == ["one", "two"]
        assert " normal text from 1 [5]: " in lines[0]
        assert client.queue_size(2).total == 2

    def test_it_takes(self, service: ServiceProcess) -> None:
        client = service.client()
        client.send_batch([{"conversation_id": 5, "sender_id": 1, "receiver_id": 2, "text": str(n)} for n in range(15)])
        lines = run("messaging_tail", "2", "--take", "--count", "12", "--json").splitlines()
        assert [json.loads(line)["text"] for line in lines] == [str(n) for n in range(12)]
        size = client.queue_size(2)
        assert (size.total, size.leased) == (3, 0)

    @pytest.mark.parametrize("take", [[], ["--take"]])
    def test_it_follows(self, service: ServiceProcess, take: List[str]) -> None:
        client = service.client()
        client.send(5, 1, 2, "before")
        later = threading.Timer(0.5, lambda: client.send(5, 1, 2, "behind"))
        later.start()
        text = run("messaging_tail", "2", "--count", "2", "--interval", "0.05", *take)
        later.join()
        assert [line.rpartition(": ")[2] for line in text.splitlines()] == ["before", "behind"]

    def test_a_message_does_not_steer_the_terminal(self, service: ServiceProcess) -> None:
        service.client().send(5, 1, 2, "a\x1b[2Jb\nc \u202e é")
        text = run("messaging_tail", "2", "--count", "1")
        assert "a\\x1b[2Jb\\nc \\u202e é" in text

    def test_through_a_restart(self, service: ServiceProcess) -> None:
        service.client().send(5, 1, 2, "before")

        def restart() -> None:
            time.sleep(0.3)
            service.stop()
            time.sleep(0.3)
            service.start()
            service.client().send(5, 1, 2, "behind")

        restarter = threading.Thread(target=restart)
        restarter.start()
        text = run("messaging_tail", "2", "--count", "2", "--interval", "0.05")
        restarter.join()
        assert [line.rpartition(": ")[2] for line in text.splitlines() if "#" in line] == ["before", "behind"]

    def test_what_cannot_be(self, service: ServiceProcess, settings: Any) -> None:
        assert "user_id" in fails("messaging_tail", "a b")
        fails("messaging_tail", "2", "--count", "0")
        fails("messaging_tail", "2", "--interval", "0")
        settings.STAYAFRICA_MESSAGING = {"URL": service.url, "TOKEN": "wrong-token"}
        assert "does not accept our token" in fails("messaging_tail", "2")

    @pytest.fixture
    def process(self, service: ServiceProcess) -> Iterator[subprocess.Popen]:
        service.client().send(5, 1, 2, "hello")
        environment = {
            **os.environ,
            "ERLANG_MESSAGING_URL": service.url,
            "MESSAGING_TOKEN": TOKEN,
            "DJANGO_SETTINGS_MODULE": "tests.settings_of_tail",
        }
        started = subprocess.Popen(
            [sys.executable, "-m", "django", "messaging_tail", "2", "--take"],
            cwd=PYTHON, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            # A background process of a shell ignores interrupts, and its children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        yield started
        started.kill()
        started.communicate()

    def test_an_interrupt_ends_it_cleanly(self, process: subprocess.Popen, service: ServiceProcess) -> None:
        assert process.stdout is not None and "hello" in process.stdout.readline()
        until(lambda: service.client().queue_size(2).total == 0)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out, err) == (0, "", "")

    def test_a_reader_that_leaves(self, process: subprocess.Popen, service: ServiceProcess) -> None:
        assert process.stdout is not None and "hello" in process.stdout.readline()
        process.stdout.close()
        service.client().send(5, 1, 2, "again")
        assert process.wait(10) == 0
        assert process.stderr is not None and process.stderr.read() == ""
