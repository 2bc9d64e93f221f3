"""What the tests of foreign web pages need: a browser, the site of an attacker, and a
service behind a recorder of the browser's requests.

Everything listens on loopback only: the browser resolves the names chat.lan and evil.lan
to 127.0.0.1. Test modules load this as a plugin after they have imported from it. The
errors here have their own messages, so PYTEST_DONT_REWRITE is correct.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import ssl
import subprocess
import threading
import time
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Type

import pytest

from .fixtures_client import Service, no_proxy, service_binary  # noqa: F401

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or ""
DRIVER = shutil.which("chromedriver") or ""
PATIENCE = 60  # seconds, for steps that take one or two on an idle machine
QUEUE = "/api/messages/queue/789"
MESSAGES = 3  # in the queue before each attack
FIRST = MESSAGES + 1  # number of the first attack of a page: each asks for all messages
NO_REFERRER = '<meta name="referrer" content="no-referrer">'

#: The headers by which the service recognizes a browser and its page.
PAGE_HEADERS = {"origin", "referer", "sec-fetch-site", "sec-purpose", "user-agent"}

#: Certificates of the tests are signed by themselves.
UNVERIFIED = ssl._create_unverified_context()


class QueueChanged(AssertionError):
    """A foreign page has changed the queue."""


def until(condition: Callable[[], Any], what: Callable[[], str]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not in time: {what()}")
        time.sleep(0.02)


# Servers


class _Server(ThreadingHTTPServer):
    """A server on a free loopback port, with TLS if there is a certificate."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: Type[BaseHTTPRequestHandler], certificate: Optional[Path]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.scheme = "http"
        if certificate:
            self.scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
            # The thread of the connection does the handshake, not the one that accepts.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def url(self, host: str) -> str:
        return f"{self.scheme}://{host}:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Browsers close connections at any moment."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": str(len(content)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _ForeignHandler(_Handler):
    def do_GET(self) -> None:
        path, _, argument = self.path.partition("?")
        if path == "/redirect":
            self.reply(302, b"", {"Location": argument})
        elif path == "/worker":
            self.reply(200, b"importScripts(location.search.slice(1))", {"Content-Type": "text/javascript"})
        elif path == "/":
            self.reply(200, self.server.page.encode(), {"Content-Type": "text/html"})  # type: ignore[attr-defined]
        else:
            self.reply(404, b"", {})


class ForeignSite(_Server):
    """The site of an attacker, with one page."""

    page = ""

    def __init__(self, certificate: Optional[Path]) -> None:
        super().__init__(_ForeignHandler, certificate)


@dataclass
class Exchange:
    """A request of the browser, and the status that the service returned."""

    method: str
    path: str
    headers: Dict[str, str]  # by their names in lower case
    status: int

    def __str__(self) -> str:
        shown = {"origin", "referer", "sec-fetch-site", "sec-purpose", "authorization", "x-messaging-take"}
        headers = {name: value for name, value in self.headers.items() if name in shown}
        return f"{self.status} {self.method} {self.headers['host']}{self.path} {headers}"


class _RecorderHandler(_Handler):
    server: Recorder

    def relay(self) -> None:
        if self.path == "/" and "Authorization" not in self.headers:
            self.reply(401, b"", {"WWW-Authenticate": 'Basic realm="a proxy"'})
            return
        connection = self.server.connect()
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if not (self.server.hides and name.lower() in PAGE_HEADERS):
                connection.putheader(name, value)
        connection.endheaders(self.rfile.read(int(self.headers.get("Content-Length", 0))) or None)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.exchanges.append(Exchange(self.command, self.path, headers, response.status))
        self.reply(response.status, content, {"Content-Type": response.headers["Content-Type"]})

    do_GET = do_HEAD = do_POST = do_DELETE = do_OPTIONS = relay


class Recorder(_Server):
    """Stands in front of a service and records each exchange.

    The headers of a request reach the service as the browser sent them. If hides is true,
    those that describe the page do not: then the service has no rule against pages. The
    path / asks for a password, so that the browser remembers one for this server, as
    it does for a proxy that asks.
    """

    def __init__(self, service: Service, certificate: Optional[Path], hides: bool) -> None:
        self.service, self.hides = service, hides
        self.exchanges: List[Exchange] = []
        super().__init__(_RecorderHandler, certificate)

    def connect(self) -> http.client.HTTPConnection:
        if self.scheme == "https":
            return http.client.HTTPSConnection("127.0.0.1", self.service.port, timeout=PATIENCE, context=UNVERIFIED)
        return http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=PATIENCE)


class SecureService(Service):
    """The service with TLS."""

    def __init__(self, binary: str, directory: Path, certificate: Path, **environment: str) -> None:
        super().__init__(binary, directory, TLS_CERT=str(certificate), TLS_KEY=str(certificate.with_suffix(".key")), **environment)
        self.url = f"https://127.0.0.1:{self.port}"

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/health/ready", timeout=5, context=UNVERIFIED) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


# The parts together


class Rig:
    """A service behind a recorder, a foreign site, and a browser."""

    def __init__(self, browser: Any, service: Service, recorder: Recorder, site: ForeignSite, token: str) -> None:
        self.browser, self.service, self.recorder, self.site, self.token = browser, service, recorder, site, token

    def call(self, path: str, body: Any = None) -> Any:
        """Calls the service directly, as a client that is no browser does."""
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self.token}"} if self.token else {})}
        request = urllib.request.Request(self.service.url + path, json.dumps(body).encode() if body else None, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE, context=UNVERIFIED) as response:
            content = response.read()
        return json.loads(content) if path != "/metrics" else content.decode()

    def fill(self) -> None:
        """Queues messages for user 789 up to the number MESSAGES."""
        for n in range(self.sizes()["total"], MESSAGES):
            self.call("/api/messages/send", {"conversation_id": 1, "sender_id": 456, "receiver_id": 789, "text": f"message {n}"})

    def sizes(self) -> Dict[str, int]:
        """The messages of each kind in the queue, the leased ones apart."""
        size = self.call(QUEUE + "/size")
        return {kind: size[kind] for kind in ("high", "normal", "low", "leased", "delayed", "total")}

    def assert_unchanged(self) -> None:
        sizes = self.sizes()
        if sizes != {"high": 0, "normal": MESSAGES, "low": 0, "leased": 0, "delayed": 0, "total": MESSAGES}:
            sent = "\n".join(map(str, self.recorder.exchanges))
            raise QueueChanged(f"{sizes} after these requests:\n{sent}")

    def open_page(self, page_host: str, url: str, attacks: Mapping[str, str], head: str) -> None:
        """Opens a page of the foreign site with attacks on the server at url."""
        parts = ["<!doctype html>", head, '<script>const loaded = f => addEventListener("load", f)</script>']
        for number, attack in enumerate(attacks.values(), FIRST):
            take = f"{QUEUE}?max_count={number}"
            parts.append(Template(attack).substitute(
                url=url + take, queue=url + QUEUE, api=url + "/api/messages", number=number, socket=url.replace("http", "ws", 1) + take,
                named=url.replace("://", f"://any:{self.token}@") + take,
            ))
        self.site.page = "\n".join(parts)
        self.recorder.exchanges.clear()
        self.browser.get(self.site.url(page_host) + "/")

    def attack(self, page_host: str, host: str, attacks: Mapping[str, str], head: str = "") -> Dict[str, Exchange]:
        """Runs the attacks of a foreign page on the service under a name of its host.
        Returns, by attack, the first exchange of each, when all were answered.
        """
        self.fill()
        self.open_page(page_host, self.recorder.url(host), attacks, head)
        until(lambda: self.seen(attacks).keys() == attacks.keys(), lambda: f"requests of {attacks.keys() - self.seen(attacks).keys()}")
        close_windows(self.browser)
        return self.seen(attacks)

    def seen(self, attacks: Mapping[str, str]) -> Dict[str, Exchange]:
        """Returns the first exchange of each attack so far."""
        names = list(attacks)
        seen: Dict[str, Exchange] = {}
        for exchange in list(self.recorder.exchanges):
            number = re.search(r"[?&]max_count=(\d+)", exchange.path)
            if number:
                seen.setdefault(names[int(number.group(1)) - FIRST], exchange)
        return seen

    def visit(self, host: str, path: str, named: bool = False) -> Exchange:
        """Opens a path of the service as if its address were typed, with a token if named."""
        self.recorder.exchanges.clear()
        url = self.recorder.url(host) + path
        self.browser.get(url.replace("://", f"://any:{self.token}@") if named else url)
        return self._last(path)

    def fetch(self, host: str, **headers: str) -> Exchange:
        """Takes from the queue in a page of the service itself."""
        self.visit(host, "/health")
        script = "const done = arguments[2]; fetch(arguments[0], {headers: arguments[1]}).then(() => done(), done)"
        self.browser.execute_async_script(script, QUEUE, {name.replace("_", "-"): value for name, value in headers.items()})
        return self._last(QUEUE)

    def _last(self, path: str) -> Exchange:
        return [e for e in self.recorder.exchanges if e.path == path][-1]

    def remember_password(self, host: str) -> None:
        """Makes the browser remember the token as a password for the service."""
        self.visit(host, "/", named=True)


def close_windows(browser: Any) -> None:
    """Closes the windows that a page has opened, and leaves the page."""
    first, *others = browser.window_handles
    for window in others:
        browser.switch_to.window(window)
        browser.close()
    browser.switch_to.window(first)
    browser.get("about:blank")


StartRig = Callable[..., Rig]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service as Driver

    profile = tmp_path_factory.mktemp("browser")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", f"--user-data-dir={profile}",
        "--host-resolver-rules=MAP chat.lan 127.0.0.1, MAP evil.lan 127.0.0.1", "--ignore-certificate-errors",
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(service=Driver(DRIVER), options=options)
    driver.set_page_load_timeout(PATIENCE)
    driver.set_script_timeout(PATIENCE)
    yield driver
    driver.quit()
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that is signed by itself; its key is beside it, with the suffix .key."""
    path = tmp_path_factory.mktemp("certificate") / "server.pem"
    key = path.with_suffix(".key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=chat.lan",
         "-addext", "subjectAltName=DNS:chat.lan,DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(path)],
        check=True, capture_output=True,
    )
    key.chmod(0o600)
    return path


@pytest.fixture
def start_rig(browser: Any, certificate: Path, service_binary: str, tmp_path: Path) -> Iterator[StartRig]:  # noqa: F811
    """Starts the parts for one test. secure is for TLS of the service, secure_site for
    that of the foreign site; the other arguments are the environment of the service.
    """
    services: List[Service] = []
    servers: List[_Server] = []

    def start(secure: bool = False, secure_site: bool = False, hides: bool = False, token: str = "", **environment: str) -> Rig:
        if token:
            environment["API_TOKENS"] = f"web:{token}"
        directory = tmp_path / f"service-{len(services)}"
        directory.mkdir()
        services.append(
            SecureService(service_binary, directory, certificate, **environment) if secure else Service(service_binary, directory, **environment)
        )
        recorder = Recorder(services[-1].start(), certificate if secure else None, hides)
        site = ForeignSite(certificate if secure_site else None)
        servers.extend((recorder, site))
        return Rig(browser, services[-1], recorder, site, token)

    yield start
    close_windows(browser)
    for server in servers:
        server.close()
    for service in services:
        service.stop()
