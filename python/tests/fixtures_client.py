"""Servers for the tests of the clients: the real service, and a scripted server.

Test modules load this as a plugin after they have imported from it. There are no
assertions here, so PYTEST_DONT_REWRITE is correct.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Set

import pytest

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def eventually(holds: Callable[[], object], seconds: float = 20) -> None:
    """Waits until a condition holds. Raises AssertionError if it does not in time."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise AssertionError("the condition did not become true in time")
        time.sleep(0.02)


# The service


class Service:
    """The service as a process, on a free loopback port."""

    def __init__(self, binary: str, directory: Path, **environment: str) -> None:
        self.binary = binary
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "PATH": os.environ.get("PATH", ""),
            "HTTP_PORT": str(self.port),
            "DATA_DIR": str(directory / "data"),
            "DJANGO_API_URL": "off",
            **environment,
        }
        self.log = directory / "log"
        self.process: Optional[subprocess.Popen[bytes]] = None

    def start(self) -> "Service":
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve"], env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        until = time.monotonic() + 30
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the service did not start:\n" + self.log.read_text(errors="replace"))
            time.sleep(0.02)
        return self

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(signal_number)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def kill(self) -> None:
        self.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def service_binary() -> str:
    """The program, built from this repository, or the one that MESSAGING_TEST_BINARY names."""
    given = os.environ.get("MESSAGING_TEST_BINARY")
    if given:
        return given
    binary = ROOT / "bin" / "messaging"
    if shutil.which("go"):
        subprocess.run(["go", "build", "-o", str(binary), "./cmd/messaging"], cwd=ROOT, check=True)
    elif not binary.exists():
        pytest.skip("there is neither Go nor bin/messaging")
    return str(binary)


StartService = Callable[..., Service]


@pytest.fixture
def start_service(service_binary: str, tmp_path: Path) -> Iterator[StartService]:
    """Starts services for one test. The arguments are their environment."""
    started: List[Service] = []

    def start(**environment: str) -> Service:
        directory = tmp_path / f"service-{len(started)}"
        directory.mkdir()
        started.append(Service(service_binary, directory, **environment))
        return started[-1].start()

    yield start
    for service in started:
        service.stop()


@pytest.fixture(scope="session")
def service(service_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests that do not stop or reconfigure it."""
    directory = tmp_path_factory.mktemp("service")
    shared = Service(service_binary, directory, QUEUE_MAX_DELIVERIES="2").start()
    yield shared
    shared.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def user() -> str:
    """A user that no other test uses."""
    return f"user-{uuid.uuid4()}"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


# A server that follows a script


@dataclass
class Request:
    """A request of a client, with its connection."""

    method: str
    path: str
    headers: Dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


#: Responds to a request over its connection. Returns whether the connection stays open.
Step = Callable[[Request, socket.socket], bool]


@dataclass
class Script:
    """A server that takes one step per request. It repeats the last step."""

    steps: Deque[Step]
    url: str = ""
    requests: List[Request] = field(default_factory=list)
    connections: Set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def next(self, request: Request) -> Step:
        with self.lock:
            self.requests.append(request)
            self.connections.add(request.connection)
            return self.steps.popleft() if len(self.steps) > 1 else self.steps[0]


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        script: Script = self.server.script  # type: ignore[attr-defined]
        while True:
            request = self._read()
            if request is None or not script.next(request)(request, self.connection):
                return

    def _read(self) -> Optional[Request]:
        try:
            line = self.rfile.readline().decode("latin-1")
            if not line.strip():
                return None
            method, path, _ = line.split(" ", 2)
            headers: Dict[str, str] = {}
            while True:
                line = self.rfile.readline().decode("latin-1").strip()
                if not line:
                    break
                name, value = line.split(":", 1)
                headers[name.lower()] = value.strip()
            body = self.rfile.read(int(headers.get("content-length", 0)))
        except OSError:
            return None
        return Request(method, path, headers, body, self.client_address[1])


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    script: Script


StartScript = Callable[..., Script]


@pytest.fixture
def script() -> Iterator[StartScript]:
    """Starts servers that take the given steps."""
    servers: List[_Server] = []

    def start(*steps: Step) -> Script:
        server = _Server(("127.0.0.1", 0), _Handler)
        server.script = Script(deque(steps), url=f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return server.script

    yield start
    for server in servers:
        server.script.ended.set()
        server.shutdown()
        server.server_close()


def answer(status: int, body: Any = None, headers: Optional[Dict[str, str]] = None) -> Step:
    """A complete response: JSON, or the given bytes or text."""

    def step(request: Request, connection: socket.socket) -> bool:
        text = body if isinstance(body, (bytes, str)) else json.dumps(body)
        content = text if isinstance(text, bytes) else text.encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + content)
        return True

    return step


def refusal(status: int, code: str, headers: Optional[Dict[str, str]] = None, **more: Any) -> Step:
    """A refusal in the service's format."""
    body = {"status": "error", "message": f"it is {code}", "code": code, "field": None, **more}
    return answer(status, body, headers)


def raw(content: bytes) -> Step:
    """Sends some bytes and closes the connection."""

    def step(request: Request, connection: socket.socket) -> bool:
        connection.sendall(content)
        return False

    return step


def hang_up(request: Request, connection: socket.socket) -> bool:
    """No response: the connection ends."""
    return False


def reset(request: Request, connection: socket.socket) -> bool:
    """No response: the connection is reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    return False


def silence(seconds: float) -> Step:
    """No response: the connection ends after a time."""

    def step(request: Request, connection: socket.socket) -> bool:
        time.sleep(seconds)
        return False

    return step


def forward(url: str, answered: bool) -> Step:
    """Forwards the request to the service. The response is returned, or lost."""

    def step(request: Request, connection: socket.socket) -> bool:
        names = {"content-type", "idempotency-key"} & request.headers.keys()
        onward = urllib.request.Request(
            url + request.path,
            data=request.body or None,
            method=request.method,
            headers={name: request.headers[name] for name in names},
        )
        with urllib.request.urlopen(onward, timeout=10) as response:
            content = response.read()
        return answer(200, content)(request, connection) if answered else False

    return step


SENT = {"status": "success", "message": "Message queued", "id": "01a20b45-1895-76bd-b871-3ccb78a69ece", "sequence": 41}
BROADCAST = {**SENT, "message": "Broadcast queued", "recipients": 3}
NO_MESSAGES: Dict[str, Any] = {"status": "success", "user_id": "789", "messages": [], "count": 0}


class Pauses(List[float]):
    """Records the pauses of a client without sleeping."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)

    async def later(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def nobody() -> str:
    """A URL where nothing listens."""
    return f"http://127.0.0.1:{free_port()}"
