"""`make demo` as a user runs it: two pages in a real browser, a kill of the service, and
Ctrl-C at the end.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
import requests

from .fixtures_client import service_binary  # noqa: F401

PYTHON_DIR = Path(__file__).resolve().parent.parent
PATIENCE = 60  # seconds, for steps that take one or two on an idle machine

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: the demo is not tested in a browser")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="chromium and its driver are not installed: the demo is not tested in a browser")


class Demo:
    """The demo as a child process."""

    def __init__(self, program: str, directory: Path) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [sys.executable, str(PYTHON_DIR / "example" / "demo.py"), "--program", program, "--dir", str(directory), "--port", "0", "--service-port", "0"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.output: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        until(lambda: "Ctrl-C ends everything" in self.said() or self.process.poll() is not None, "the demo is up")
        assert self.process.poll() is None, self.said()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.output.append(line)

    def said(self) -> str:
        return "".join(self.output)

    def page(self, name: str) -> str:
        found = re.search(rf"^\s+{name.title()}\s+(\S+)", self.said(), re.M)
        assert found, self.said()
        return found.group(1)

    def pid(self, name: str) -> int:
        return int((self.directory / f"{name}.pid").read_text())

    def kill_service(self) -> None:
        """Kills the service, and waits until the demo has restarted it."""
        before = self.pid("service")
        os.kill(before, signal.SIGKILL)
        until(lambda: self.pid("service") != before, "the service is started again")

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(PATIENCE)
        self.reader.join(5)
        return status


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def demo(service_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:  # noqa: F811
    directory = tmp_path_factory.mktemp("demo")
    d = Demo(service_binary, directory)
    yield d
    if d.process.poll() is None:
        d.interrupt()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(argument)
    driver = webdriver.Chrome(service=Service(DRIVER), options=options)
    driver.set_page_load_timeout(PATIENCE)
    yield driver
    driver.quit()


class Person:
    """A user of the chat with a browser window."""

    def __init__(self, browser: Any, demo: Demo, name: str) -> None:
        browser.switch_to.new_window("window")
        self.browser, self.url, self.window = browser, demo.page(name), browser.current_window_handle
        self.open()

    def open(self) -> None:
        self.browser.switch_to.window(self.window)
        self.browser.get(self.url)

    def leave(self) -> None:
        self.browser.switch_to.window(self.window)
        self.browser.get("about:blank")

    def write(self, text: str) -> None:
        self.browser.switch_to.window(self.window)
        field = self.browser.find_element("id", "text")
        field.send_keys(text)
        field.submit()
        until(lambda: self.count(text) == 1, f"{text!r} is on the writer's own page")

    def count(self, text: str) -> int:
        self.browser.switch_to.window(self.window)
        shown = self.browser.execute_script("return [...document.querySelectorAll('#messages li')].map(e => e.textContent)")
        return int(shown.count(text))

    def sees(self, text: str) -> None:
        until(lambda: self.count(text) > 0, f"{text!r} is on the page of the other")
        assert self.count(text) == 1


def test_two_people_talk_through_crashes_of_the_service(demo: Demo, browser: Any) -> None:
    alice, bob = Person(browser, demo, "alice"), Person(browser, demo, "bob")
    bob.sees("Then see you at the market at ten!")
    alice.write("Hello, Bob!")
    bob.sees("Hello, Bob!")
    bob.write("Hello, Alice!")
    alice.sees("Hello, Alice!")

    # A message sent while Bob is away survives a kill of the service.
    bob.leave()
    alice.write("Are you there?")
    demo.kill_service()
    bob.open()
    bob.sees("Are you there?")

    # A message written during an outage of the service arrives after it.
    os.kill(demo.pid("service"), signal.SIGKILL)
    alice.write("Into the gap")
    bob.sees("Into the gap")
    for text in ("Hello, Bob!", "Hello, Alice!", "Are you there?", "Into the gap"):
        assert (alice.count(text), bob.count(text)) == (1, 1), text

    # Django has all messages, too: a reloaded page shows them.
    until(lambda: alice.open() or alice.count("Into the gap") == 1, "Django has the last message")  # type: ignore[func-returns-value]


def test_only_its_service_can_store_messages(demo: Demo) -> None:
    endpoint = demo.page("alice").partition("/chat/")[0] + "/api/messaging/erlang/persist/"
    with requests.Session() as session:
        session.trust_env = False  # a proxy of the environment cannot reach the demo
        response = session.post(endpoint, json={"messages": []}, headers={"X-Erlang-Service": "messaging"}, timeout=PATIENCE)
    assert (response.status_code, response.json()["error"]) == (403, "X-Erlang-Secret does not match the shared secret")


def test_it_ends_cleanly(demo: Demo) -> None:
    pids = [demo.pid(name) for name in ("django", "relay", "service")]
    assert demo.interrupt() == 0, demo.said()
    assert "ended cleanly" in demo.said()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
