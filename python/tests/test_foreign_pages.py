"""No foreign web page can empty a queue, and the service's own pages can read it: with a
real browser. A page is foreign if its scheme, host or port is not the service's.

Each test runs all attacks at once in one page, and waits until the service has refused
each of them. A control run without the headers that describe the page shows that the
same attacks empty the queue.
"""

from __future__ import annotations

import re
import socket
from typing import Any, Dict, Mapping

import pytest

from .fixtures_foreign import BROWSER, DRIVER, MESSAGES, NO_REFERRER, QUEUE, Exchange, Rig, StartRig, close_windows, until

pytest.importorskip("selenium.webdriver", reason="selenium is not installed: foreign pages are not tested in a browser")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="chromium and its driver are not installed: foreign pages are not tested in a browser"
)
pytest_plugins = ["tests.fixtures_foreign"]

TOKEN = "only-for-this-test-1"
LAN: Dict[str, Any] = {"ALLOW_ANONYMOUS": "true", "ALLOWED_HOSTS": "chat.lan"}
REFERRER_POLICIES = ("", NO_REFERRER)

#: What makes a browser send a GET to the queue. $url is a take; its max_count is the
#: number of the attack. A page loads videos only while no other window hides it, so
#: windows are opened when it has loaded.
TAKES = {
    "img": '<img src="$url">',
    "input": '<input type="image" src="$url">',
    "svg": '<svg><image href="$url"/></svg>',
    "css": '<p style="background: url($url)">.</p>',
    "font": '<style>@font-face { font-family: f; src: url($url) }</style><p style="font-family: f">.</p>',
    "stylesheet": '<link rel="stylesheet" href="$url">',
    "import": "<style>@import url($url)</style>",
    "script": '<script src="$url"></script>',
    "module": '<script type="module" src="$url"></script>',
    "worker": '<script>new Worker("/worker?$url")</script>',
    "preload": '<link rel="preload" as="image" href="$url">',
    "modulepreload": '<link rel="modulepreload" href="$url">',
    "prefetch": '<link rel="prefetch" href="$url">',
    "video": '<video src="$url" preload="auto"></video>',
    "audio": '<audio src="$url" preload="auto"></audio>',
    "track": '<video crossorigin><track default src="$url"></video>',
    "iframe": '<iframe src="$url"></iframe>',
    "sandbox": '<iframe sandbox src="$url"></iframe>',
    "image in a sandbox": """<iframe sandbox srcdoc="<img src='$url'>"></iframe>""",
    "image in a data URL": """<iframe src="data:text/html,<img src='$url'>"></iframe>""",
    "refresh": """<iframe srcdoc="<meta http-equiv='refresh' content='0; url=$url'>"></iframe>""",
    "object": '<object data="$url"></object>',
    "embed": '<embed src="$url">',
    "redirected image": '<img src="/redirect?$url">',
    "redirected frame": '<iframe src="/redirect?$url"></iframe>',
    "fetch": '<script>fetch("$url", {mode: "no-cors", credentials: "include"})</script>',
    "keepalive": '<script>fetch("$url", {mode: "no-cors", keepalive: true})</script>',
    "fetch by CORS": '<script>fetch("$url").catch(() => 0)</script>',
    "other agent": """<script>fetch("$url", {mode: "no-cors", headers: {"User-Agent": "curl/8", "X-Messaging-Take": "1"}})</script>""",
    "XMLHttpRequest": '<script>{ const x = new XMLHttpRequest(); x.open("GET", "$url"); x.send() }</script>',
    "EventSource": '<script>new EventSource("$url")</script>',
    "WebSocket": '<script>new WebSocket("$socket")</script>',
    "form": '<form id="f" action="$queue" target="_blank"><input name="max_count" value="$number"></form><script>loaded(() => f.submit())</script>',
    "link": '<a id="a" rel="noreferrer" target="_blank" href="$url">.</a><script>loaded(() => a.click())</script>',
    "window": '<script>loaded(() => window.open("$url"))</script>',
    "window without referrer": '<script>loaded(() => window.open("$url", "_blank", "noreferrer"))</script>',
}

#: What a browser asks for by OPTIONS first. The service does not allow it.
PREFLIGHTS = {
    "take header": '<script>fetch("$url", {headers: {"X-Messaging-Take": "1"}}).catch(() => 0)</script>',
    "DELETE": '<script>fetch("$url", {method: "DELETE"}).catch(() => 0)</script>',
}

#: What sends messages, as a flood that evicts those in the queue does.
SENDS = {
    "beacon": """<script>
        navigator.sendBeacon("$api/send?max_count=$number", '{"conversation_id":1,"sender_id":1,"receiver_id":789,"text":"."}')
    </script>""",
}

#: All three, in one page.
ATTACKS = {**TAKES, **PREFLIGHTS, **SENDS}

#: Prefetches for which chromium says Sec-Fetch-Site: none. It makes them only over TLS
#: and to loopback.
SPECULATIONS = {
    kind: f'<script type="speculationrules">{{"{kind}": [{{"source": "list", "urls": ["$url"], "eagerness": "immediate"}}]}}</script>'
    for kind in ("prefetch", "prerender")
}


def assert_refused(sent: Mapping[str, Exchange], status: int = 403) -> None:
    for name, exchange in sent.items():
        want = 405 if name in PREFLIGHTS else status
        assert exchange.status == want, f"{name}: {exchange}"
        assert exchange.method == ("OPTIONS" if name in PREFLIGHTS else "POST" if name in SENDS else "GET"), f"{name}: {exchange}"
        assert exchange.headers["user-agent"].startswith("Mozilla/"), f"{name}: {exchange}"


def assert_takes(rig: Rig) -> None:
    """The same request by another client takes the messages."""
    assert rig.call(f"{QUEUE}?max_count=9")["count"] == MESSAGES


def is_described(exchange: Exchange) -> bool:
    return any(name in exchange.headers for name in ("sec-fetch-site", "origin", "referer"))


# Loopback, without tokens


@pytest.mark.parametrize("secure_site, page_host, host", [
    (False, "127.0.0.1", "127.0.0.1"), (False, "localhost", "localhost"), (False, "localhost", "127.0.0.1"),
    (False, "evil.lan", "localhost"), (True, "evil.lan", "127.0.0.1"),
])
def test_loopback(start_rig: StartRig, secure_site: bool, page_host: str, host: str) -> None:
    rig = start_rig(secure_site=secure_site)
    # A page with TLS loads no image that is redirected to a server without.
    attacks = {name: ATTACKS[name] for name in ATTACKS if not (secure_site and name == "redirected image")}
    for head in REFERRER_POLICIES:
        sent = rig.attack(page_host, host, attacks, head)
        rig.assert_unchanged()
        assert_refused(sent)
        assert all(is_described(exchange) for exchange in sent.values())
    assert_takes(rig)


def test_own_page_on_loopback(start_rig: StartRig) -> None:
    rig = start_rig()
    for host in ("127.0.0.1", "localhost"):
        rig.fill()
        assert rig.fetch(host).status == 200
        assert rig.sizes()["total"] == 0
        rig.fill()
        typed = rig.visit(host, QUEUE)
        assert (typed.status, typed.headers["sec-fetch-site"]) == (200, "none")
        assert rig.sizes()["total"] == 0


def test_loopback_by_its_mapped_address(start_rig: StartRig) -> None:
    """Chromium does not describe the page to this name of 127.0.0.1."""
    rig = start_rig()
    try:
        socket.create_connection(("::ffff:127.0.0.1", rig.service.port), timeout=5).close()
    except OSError:
        pytest.skip("this machine has no IPv6: it does not have this name of 127.0.0.1")
    sent = rig.attack("evil.lan", "[::ffff:127.0.0.1]", ATTACKS, NO_REFERRER)
    rig.assert_unchanged()
    assert_refused(sent)


@pytest.mark.parametrize("kind", SPECULATIONS)
@pytest.mark.parametrize("page_host", ["127.0.0.1", "evil.lan"])
def test_loopback_by_speculation(start_rig: StartRig, page_host: str, kind: str) -> None:
    rig = start_rig()
    sent = rig.attack(page_host, "127.0.0.1", {kind: SPECULATIONS[kind]}, NO_REFERRER)
    rig.assert_unchanged()
    assert_refused(sent)


# A name of the local network, over plain HTTP without tokens


@pytest.mark.parametrize("page_host", ["evil.lan", "chat.lan"])
def test_local_network(start_rig: StartRig, page_host: str) -> None:
    rig = start_rig(**LAN)
    for head in REFERRER_POLICIES:
        sent = rig.attack(page_host, "chat.lan", ATTACKS, head)
        rig.assert_unchanged()
        assert_refused(sent)
    assert not is_described(sent["img"]), "the browser describes the page here: this test shows nothing new"
    assert_takes(rig)


def test_own_page_in_the_local_network(start_rig: StartRig) -> None:
    rig = start_rig(**LAN)
    rig.fill()
    assert rig.visit("chat.lan", QUEUE).status == 403
    assert rig.fetch("chat.lan").status == 403
    rig.assert_unchanged()
    assert rig.fetch("chat.lan", X_Messaging_Take="1").status == 200
    assert rig.sizes()["total"] == 0


def test_host_name_of_the_attacker(start_rig: StartRig) -> None:
    """A page whose name is rebound to the address of the service is of the same origin,
    and can send every header.
    """
    for rig, status in ((start_rig(**LAN), 421), (start_rig(), 403)):
        rig.fill()
        assert rig.fetch("evil.lan", X_Messaging_Take="1").status == status
        rig.assert_unchanged()


def test_lease_in_the_local_network(start_rig: StartRig) -> None:
    """A lease hides the messages from their reader. After QUEUE_MAX_DELIVERIES of them they
    leave the queue as dead letters.
    """
    rig = start_rig(**LAN)
    sent = rig.attack("evil.lan", "chat.lan", {"lease": '<img src="$url&lease=3600">'}, NO_REFERRER)
    rig.assert_unchanged()
    assert_refused(sent)


# TLS


@pytest.mark.parametrize("secure_site, page_host, host", [
    (True, "evil.lan", "chat.lan"), (False, "evil.lan", "chat.lan"), (True, "127.0.0.1", "127.0.0.1"),
])
def test_tls_with_tokens(start_rig: StartRig, secure_site: bool, page_host: str, host: str) -> None:
    rig = start_rig(secure=True, secure_site=secure_site, token=TOKEN)
    for head in REFERRER_POLICIES:
        sent = rig.attack(page_host, host, ATTACKS, head)
        rig.assert_unchanged()
        assert_refused(sent, 401)
    assert_takes(rig)


@pytest.mark.parametrize("secure_site", [True, False])
def test_tls_without_tokens(start_rig: StartRig, secure_site: bool) -> None:
    rig = start_rig(secure=True, secure_site=secure_site, **LAN)
    for head in REFERRER_POLICIES:
        sent = rig.attack("evil.lan", "chat.lan", ATTACKS, head)
        rig.assert_unchanged()
        assert_refused(sent)
    assert_takes(rig)


@pytest.mark.parametrize("kind", SPECULATIONS)
def test_tls_by_speculation(start_rig: StartRig, kind: str) -> None:
    rig = start_rig(secure=True, secure_site=True, **LAN)
    sent = rig.attack("evil.lan", "chat.lan", {kind: SPECULATIONS[kind]}, NO_REFERRER)
    rig.assert_unchanged()
    assert_refused(sent)


def test_own_page_with_tls(start_rig: StartRig) -> None:
    rig = start_rig(secure=True, token=TOKEN)
    rig.fill()
    assert rig.fetch("chat.lan").status == 401
    rig.assert_unchanged()
    assert rig.fetch("chat.lan", Authorization=f"Bearer {TOKEN}").status == 200
    assert rig.sizes()["total"] == 0


# Passwords


@pytest.mark.parametrize("page_host, host", [("evil.lan", "127.0.0.1"), ("evil.lan", "chat.lan")])
def test_password_in_the_address(start_rig: StartRig, page_host: str, host: str) -> None:
    """The service does not ask for a password, so the browser does not send the one of an
    address. It does not load parts of a page from such an address at all.
    """
    rig = start_rig(token=TOKEN)
    rig.fill()
    visited = rig.visit(host, QUEUE + "/size", named=True)
    assert (visited.status, visited.headers.get("authorization")) == (401, None)
    visited = rig.visit(host, QUEUE, named=True)
    assert (visited.status, visited.headers.get("authorization")) == (401, None)

    attacks = {
        "img": '<img src="$named" onerror="done.push(1)">',
        "iframe": '<iframe src="$named"></iframe>',
        "fetch": '<script>(async () => fetch("$named", {mode: "no-cors", credentials: "include"}))().catch(() => done.push(1))</script>',
        "window": '<script>loaded(() => window.open("$named"))</script>',
    }
    rig.open_page(page_host, rig.recorder.url(host), attacks, NO_REFERRER + "<script>const done = []</script>")
    until(lambda: "window" in rig.seen(attacks), lambda: "the request of the window")
    until(lambda: rig.browser.execute_script("return done.length") == 2, lambda: "errors of the image and of the fetch")
    close_windows(rig.browser)
    sent = rig.seen(attacks)
    assert sent.keys() == {"window"}
    assert (sent["window"].status, sent["window"].headers.get("authorization")) == (401, None)
    rig.assert_unchanged()
    assert_takes(rig)


@pytest.mark.parametrize("secure, page_host, host", [
    (False, "127.0.0.1", "127.0.0.1"), (False, "evil.lan", "127.0.0.1"), (False, "chat.lan", "chat.lan"), (False, "evil.lan", "chat.lan"),
    (True, "chat.lan", "chat.lan"), (True, "evil.lan", "chat.lan"),
])
def test_remembered_password(start_rig: StartRig, secure: bool, page_host: str, host: str) -> None:
    """A browser that remembers the password sends it with the requests of other pages: of
    all on the same host, and of windows that the others open.
    """
    rig = start_rig(secure=secure, secure_site=secure, token=TOKEN)
    rig.remember_password(host)
    for head in REFERRER_POLICIES:
        sent = rig.attack(page_host, host, ATTACKS, head)
        rig.assert_unchanged()
        with_password = {name: e for name, e in sent.items() if "authorization" in e.headers}
        assert with_password.keys() >= {"form", "link", "window"} | ({"img", "iframe", "fetch"} if page_host == host else set())
        assert_refused(with_password)
        assert_refused({name: e for name, e in sent.items() if name not in with_password}, 401)
    assert_takes(rig)


@pytest.mark.parametrize("kind", SPECULATIONS)
@pytest.mark.parametrize("secure, host", [(False, "127.0.0.1"), (True, "chat.lan")])
def test_remembered_password_by_speculation(start_rig: StartRig, secure: bool, host: str, kind: str) -> None:
    """Chromium sends the password here only for a page on another port of the same host."""
    rig = start_rig(secure=secure, secure_site=secure, token=TOKEN)
    rig.remember_password(host)
    sent = rig.attack(host, host, {kind: SPECULATIONS[kind]}, NO_REFERRER)
    rig.assert_unchanged()
    assert_refused(sent)


def test_remembered_password_with_a_lease(start_rig: StartRig) -> None:
    rig = start_rig(token=TOKEN)
    rig.remember_password("chat.lan")
    sent = rig.attack("evil.lan", "chat.lan", {"lease": '<script>loaded(() => window.open("$url&lease=3600"))</script>'}, NO_REFERRER)
    rig.assert_unchanged()
    assert_refused(sent)


def test_own_page_with_a_remembered_password(start_rig: StartRig) -> None:
    rig = start_rig(token=TOKEN)
    for host in ("127.0.0.1", "chat.lan"):
        rig.remember_password(host)
        rig.fill()
        if host == "chat.lan":
            assert rig.visit(host, QUEUE).status == 403
            assert rig.fetch(host).status == 403
            rig.assert_unchanged()
        own = rig.fetch(host, X_Messaging_Take="1")
        assert (own.status, own.headers["authorization"][:6]) == (200, "Basic ")
        assert rig.sizes()["total"] == 0


# The attacks are real


@pytest.mark.parametrize("secure, host, environment", [(False, "127.0.0.1", {}), (False, "chat.lan", LAN), (True, "chat.lan", LAN)])
def test_the_attacks_take_where_the_page_is_not_described(start_rig: StartRig, secure: bool, host: str, environment: Dict[str, Any]) -> None:
    rig = start_rig(secure=secure, secure_site=secure, hides=True, **environment)
    sent = rig.attack("evil.lan", host, TAKES, NO_REFERRER)
    assert {name: e.status for name, e in sent.items()} == dict.fromkeys(TAKES, 200)
    assert rig.sizes()["total"] == 0
    for name in ("img", "iframe", "fetch", "form", "window"):
        rig.attack("evil.lan", host, {name: TAKES[name]}, NO_REFERRER)
        assert rig.sizes()["total"] == 0, name


@pytest.mark.parametrize("host, environment", [("localhost", {}), ("chat.lan", LAN)])
def test_the_attacks_reach_the_service_itself(start_rig: StartRig, host: str, environment: Dict[str, Any]) -> None:
    """Without the recorder: the service counts the refusals."""
    rig = start_rig(**environment)
    rig.fill()
    rig.open_page("evil.lan", f"http://{host}:{rig.service.port}", TAKES, NO_REFERRER)
    until(lambda: refusals(rig) >= len(TAKES), lambda: f"{len(TAKES)} refusals: there are {refusals(rig)}")
    close_windows(rig.browser)
    rig.assert_unchanged()
    assert_takes(rig)


def refusals(rig: Rig) -> int:
    """The takes that the service has refused with 403."""
    labels = re.escape('{route="/api/messages/queue/:user_id",method="GET",code="403"}')
    found = re.search(rf"^messaging_http_request_seconds_count{labels} (\d+)$", rig.call("/metrics"), re.M)
    return int(found.group(1)) if found else 0
