"""Fixtures of the tests of the outbox and the relay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest
from django.db import connections

import stayafrica_messaging as messaging
from stayafrica_messaging import outbox
from stayafrica_messaging.breaker import Breaker
from stayafrica_messaging.client import MessagingClient
from stayafrica_messaging.models import OutboxMessage

from .fixtures_client import Service

PYTHON = Path(__file__).resolve().parents[1]

#: The beginning of a program that uses the test database.
PRELUDE = """
import json, os, sys
from tests import settings
settings.DATABASES = json.loads(os.environ["TEST_DATABASES"])
settings.STAYAFRICA_MESSAGING = json.loads(os.environ["TEST_MESSAGING"])
import django
django.setup()
import stayafrica_messaging as messaging
from django.db import transaction
from stayafrica_messaging import claims, outbox
"""


@pytest.fixture(autouse=True)
def fresh_breaker() -> None:
    """A new breaker for each test, so that no outage of another test affects it."""
    outbox._breaker = Breaker(outbox.BREAKER_SECONDS)


@pytest.fixture
def use(settings: Any) -> Callable[..., None]:
    """Points the outbox at a URL, with further settings."""

    def point(url: str, **others: Any) -> None:
        settings.STAYAFRICA_MESSAGING = {"URL": url, **others}

    return point


@pytest.fixture
def live(service: Service, use: Callable[..., None]) -> MessagingClient:
    """Points the outbox at the shared service. Returns a client of it."""
    use(service.url)
    return MessagingClient(service.url)


@pytest.fixture
def left(use: Callable[..., None]) -> Callable[..., None]:
    """Points the outbox at a URL, and leaves the messages to the relay."""

    def point(url: str, **others: Any) -> None:
        use(url, OUTBOX_PUSH=False, **others)

    return point


def send(text: str, conversation: object = 1, user: str = "3", **options: Any) -> OutboxMessage:
    """Sends from user 2."""
    return messaging.send(conversation, 2, user, text, **options)  # type: ignore[arg-type]


def fill(users: List[str], count: int) -> None:
    """Sends messages 0, 1, … to each of the users in turn. Each user has a conversation."""
    for number in range(count):
        for user in users:
            send(f"{number}", conversation=user, user=user)


def some_users(count: int) -> List[str]:
    return [f"u-{uuid.uuid4()}" for _ in range(count)]


def received(client: MessagingClient, user: object) -> List[str]:
    """Returns the texts of all messages of a user, in order."""
    return [message.text for message in client.peek(user, 1000)]  # type: ignore[arg-type]


def states() -> List[str]:
    """Returns the states of all rows, in order."""
    return list(OutboxMessage.objects.values_list("state", flat=True))


def due_now() -> None:
    """Ends all back-offs and claims."""
    OutboxMessage.objects.update(next_attempt_at=None)


class Child:
    """A child process that uses the test database."""

    def __init__(self, program: str, url: str, **messaging: Any) -> None:
        connection = connections["default"]
        names = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")
        database = {name: connection.settings_dict.get(name) or "" for name in names}
        database["OPTIONS"] = connection.settings_dict.get("OPTIONS", {})
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "TEST_DATABASES": json.dumps({"default": database}),
            "TEST_MESSAGING": json.dumps({"URL": url, **messaging}),
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": "127.0.0.1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + program],
            cwd=PYTHON,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""

    def wait(self, seconds: float = 60) -> int:
        """Waits for the end of the process. Returns its exit status."""
        try:
            self.output, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.output, _ = self.process.communicate()
            raise AssertionError("the program did not end:\n" + self.output) from None
        return self.process.returncode

    def end(self) -> None:
        """Kills the process if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


StartChild = Callable[..., Child]


@pytest.fixture
def child() -> Iterator[StartChild]:
    """Starts child processes, with the URL of the service and further settings."""
    children: List[Child] = []

    def start(program: str, url: str, **messaging: Any) -> Child:
        children.append(Child(program, url, **messaging))
        return children[-1]

    yield start
    for started in children:
        started.end()


def relay_program(*arguments: str) -> str:
    """``manage.py messaging_relay``"""
    return f"from django.core.management import execute_from_command_line as run\nrun(['manage.py', 'messaging_relay', *{arguments!r}])"


def in_threads(*works: Callable[[], object]) -> None:
    """Runs functions concurrently, each with its own connection. Raises the first error."""
    errors: List[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]
