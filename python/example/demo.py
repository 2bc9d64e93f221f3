"""`make demo`: the example project and the service together, until Ctrl-C.

    python3 demo.py --program ../../bin/messaging

It makes a directory for all data (or takes --dir, and keeps that), starts Django,
the outbox's relay and the service, feeds them, and prints where to look. The service
is started again when it ends by itself, as a machine's supervisor would: kill it
and see that nothing is lost.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What the last lines of a log are worth, when a process does not come up.
LOG_TAIL = 2000


class Failed(Exception):
    """Something did not come up; the message says what, and what it said."""


class Process:
    """A process of the demo with its log. It is not in our group, so that Ctrl-C
    reaches only us and things end in their order."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], directory: Path) -> None:
        self.name, self.command, self.env = name, command, env
        self.log, self.pid_file = directory / f"{name}.log", directory / f"{name}.pid"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.env, cwd=HERE, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.pid_file.write_text(f"{self.process.pid}\n")

    def ended(self) -> int | None:
        return self.process.poll() if self.process else None

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-LOG_TAIL:] if self.log.exists() else ""

    def stop(self, timeout: float = 30) -> int | None:
        """Ends it as an operator does, and gives its status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def free_port(wanted: int) -> int:
    """Gives the port, or another one where it is taken."""
    for port in (wanted, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise Failed("no port is free")


def wait_for(process: Process, url: str, seconds: float = 60) -> None:
    """Waits until a process answers."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.ended() is not None:
            raise Failed(f"{process.name} ended with status {process.ended()}:\n{process.said()}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise Failed(f"{process.name} does not answer at {url}:\n{process.said()}")


class Demo:
    """All that runs, and the order in which it comes and goes."""

    def __init__(self, program: Path, directory: Path, port: int, service_port: int) -> None:
        self.site = f"http://127.0.0.1:{free_port(port)}"
        self.service_url = f"http://127.0.0.1:{free_port(service_port)}"
        env = {
            **os.environ,
            "EXAMPLE_DATA": str(directory),
            "EXAMPLE_SECRET_KEY": secrets.token_urlsafe(),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")])),
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": "example.settings",
            "MESSAGING_URL": self.service_url,
            "MESSAGING_SIGNING_KEYS": secrets.token_hex(32),
            "DJANGO_SHARED_SECRET": secrets.token_hex(16),
            "DJANGO_API_URL": self.site,
            "DATA_DIR": str(directory / "messages"),
            "HTTP_PORT": self.service_url.rsplit(":", 1)[1],
            "PERSIST_MAX_BACKOFF": "2s",
        }
        manage = [sys.executable, str(HERE / "manage.py")]
        self.manage, self.env = manage, env
        self.django = Process("django", [*manage, "runserver", "--noreload", self.site.split("//")[1]], env, directory)
        self.relay = Process("relay", [*manage, "messaging_relay", "--interval", "0.5"], env, directory)
        self.service = Process("service", [str(program), "serve"], env, directory)
        self.over = threading.Event()

    def run_command(self, *args: str) -> None:
        """Runs one of Django's commands to its end."""
        done = subprocess.run([*self.manage, *args], env=self.env, cwd=HERE, capture_output=True, text=True, start_new_session=True)
        if done.returncode:
            raise Failed(f"manage.py {args[0]} ended with status {done.returncode}:\n{(done.stdout + done.stderr)[-LOG_TAIL:]}")

    def start(self) -> None:
        self.run_command("migrate", "--verbosity", "0")
        self.django.start()
        self.service.start()
        self.relay.start()
        wait_for(self.django, self.site + "/admin/login/")
        wait_for(self.service, self.service_url + "/health/ready")
        self.run_command("feed")

    def watch(self) -> None:
        """Waits for the end. It is no failure that the service ends: it comes back."""
        while not self.over.wait(0.2):
            if self.service.ended() is not None:
                print(f"the service ended with status {self.service.ended()}: starting it again", flush=True)
                self.service.start()
                self.over.wait(0.5)  # one that cannot start does not spin
            for process in (self.django, self.relay):
                if process.ended() is not None:
                    raise Failed(f"{process.name} ended with status {process.ended()}:\n{process.said()}")

    def stop(self) -> list[str]:
        """Ends all, the service first: its last messages still go to Django. It
        gives what did not end well."""
        statuses = [(p.name, p.stop()) for p in (self.service, self.relay, self.django)]
        # Django's server for development has no end of its own but the signal.
        good = {"django": (None, 0, -signal.SIGTERM)}
        return [f"{name} ended with status {status}" for name, status in statuses if status not in good.get(name, (None, 0))]


def say(demo: Demo, directory: Path) -> None:
    print(
        f"""
  Alice     {demo.site}/chat/alice/
  Bob       {demo.site}/chat/bob/
  Admin     {demo.site}/admin/    (admin, admin)
  Service   {demo.service_url}/health    process {demo.service.process.pid if demo.service.process else '?'}
  Logs      {directory}

Write from one page to the other, or stop the service in between:  kill -9 $(cat {directory}/service.pid)
Ctrl-C ends everything.
""",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="The example project with the messaging service, until Ctrl-C.")
    parser.add_argument("--program", type=Path, required=True, help="the built service")
    parser.add_argument("--dir", type=Path, help="where all data is kept; without it a temporary one, removed at the end")
    parser.add_argument("--port", type=int, default=8000, help="of Django; another one if it is taken")
    parser.add_argument("--service-port", type=int, default=8765, help="of the service; another one if it is taken")
    options = parser.parse_args()
    directory = options.dir or Path(tempfile.mkdtemp(prefix="messaging-demo."))
    directory.mkdir(parents=True, exist_ok=True)
    demo = Demo(options.program.resolve(), directory.resolve(), options.port, options.service_port)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: demo.over.set())
    failure = ""
    try:
        demo.start()
        if not demo.over.is_set():
            say(demo, directory)
        demo.watch()
    except Failed as error:
        failure = str(error)
    problems = ([failure] if failure else []) + demo.stop()
    if not options.dir:
        shutil.rmtree(directory, ignore_errors=True)
    for problem in problems:
        print(problem, file=sys.stderr)
    print("ended cleanly" if not problems else "ended", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
