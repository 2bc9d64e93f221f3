"""The real service for the tests of admin, checks and commands, with a scripted Django."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from stayafrica_messaging.client import MessagingClient

from .fixtures_client import Service, free_port, no_proxy, service_binary  # noqa: F401

TOKEN = "token-of-the-tests"


def until(happens: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Returns the first true result of a condition. Raises AssertionError if there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = happens()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("the condition did not become true in time")


class ScriptedDjango:
    """An endpoint that stores messages. It permanently refuses those whose text begins with "refuse "."""

    def __init__(self) -> None:
        self.stored: Dict[str, Any] = {}
        self.well = True
        self.status = 200
        django = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = json.dumps(django.answer(json.loads(body)["messages"])).encode()
                self.send_response(django.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, messages: List[Dict[str, Any]]) -> Dict[str, Any]:
        errors = []
        for message in messages:
            if self.well and message["text"].startswith("refuse "):
                errors.append({"message": message, "error": message["text"][len("refuse "):], "permanent": True})
            else:
                self.stored[message["id"]] = message
        return {"persisted": len(messages) - len(errors), "duplicates": 0, "errors": errors}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class ServiceProcess(Service):
    """The service with a token. It drains to the Django at the given address."""

    def __init__(self, binary: str, directory: Path, django: str, **environment: str) -> None:
        quick = {"PERSIST_LINGER": "10ms", "PERSIST_MAX_BACKOFF": "300ms"}
        tokens = {"API_TOKENS": f"tests:{TOKEN}"}
        super().__init__(binary, directory, **{"DJANGO_API_URL": django, **quick, **tokens, **environment})

    def client(self, **options: Any) -> MessagingClient:
        return MessagingClient(self.url, TOKEN, **options)


@pytest.fixture
def scripted_django() -> Iterator[ScriptedDjango]:
    django = ScriptedDjango()
    yield django
    django.close()


@pytest.fixture
def service(
    service_binary: str, tmp_path: Path, scripted_django: ScriptedDjango, settings: Any  # noqa: F811
) -> Iterator[ServiceProcess]:
    """A running service. The settings name its address."""
    process = ServiceProcess(service_binary, tmp_path, scripted_django.url)
    process.start()
    settings.STAYAFRICA_MESSAGING = {"URL": process.url, "TOKEN": TOKEN}
    yield process
    process.stop()


@pytest.fixture
def service_off(service_binary: str, tmp_path: Path, settings: Any) -> Iterator[ServiceProcess]:  # noqa: F811
    """A running service whose drain is off. The settings name its address."""
    process = ServiceProcess(service_binary, tmp_path, "off")
    process.start()
    settings.STAYAFRICA_MESSAGING = {"URL": process.url, "TOKEN": TOKEN}
    yield process
    process.stop()


@pytest.fixture
def no_service(settings: Any) -> str:
    """Settings with an address where nothing listens. Returns the address."""
    url = f"http://127.0.0.1:{free_port()}"
    settings.STAYAFRICA_MESSAGING = {"URL": url, "CONNECT_TIMEOUT": 0.5, "RETRIES": 0}
    return url


def make_dead_letters(service: ServiceProcess, *reasons: str) -> List[str]:
    """Creates a dead letter for each reason. Returns their ids."""
    client = service.client()
    ids = [client.send(5, 1, 2, f"refuse {reason}").id for reason in reasons]
    until(lambda: {f"refused-{i}" for i in ids} <= {letter.id for letter in client.iter_dead_letters()})
    return [f"refused-{i}" for i in ids]
