"""`make demo`: the example project and the service together, until Ctrl-C.

    python3 demo.py --program ../../bin/messaging

It creates a temporary directory for all data, or uses --dir and keeps it. It starts
Django, the outbox's relay and the service, creates example data, and prints the
addresses. If the service ends, the demo restarts it, as a supervisor would. So it can
be killed to see that nothing is lost.
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
# Maximum number of characters of a log in an error.
LOG_TAIL = 2000


class Failed(Exception):
    """A process did not start. The message names it and has the end of its log."""


class Process:
    """A process of the demo with its log. It has its own process group, so Ctrl-C reaches
    only the demo, which stops the processes in order.
    """

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
        """Stops the process with SIGTERM and returns its exit status."""
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
    """Returns the wanted port, or another one if it is in use."""
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
    """Waits until a process responds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.ended() is not None:
            raise Failed(f"{process.name} ended with status {process.ended()}:\n{process.said()}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise Failed(f"{process.name} does not respond at {url}:\n{process.said()}")


class Demo:
    """All processes, and the order in which they start and stop."""

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
        """Runs a command of manage.py to its end."""
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
        """Waits for the end of the demo. Restarts the service when it ends."""
        while not self.over.wait(0.2):
            if self.service.ended() is not None:
                print(f"the service ended with status {self.service.ended()}: starting it again", flush=True)
                self.service.start()
                self.over.wait(0.5)  # a service that cannot start does not restart in a tight loop
            for process in (self.django, self.relay):
                if process.ended() is not None:
                    raise Failed(f"{process.name} ended with status {process.ended()}:\n{process.said()}")

    def stop(self) -> list[str]:
        """Stops all processes, the service first, so its last messages still reach Django.
        Returns the processes that failed.
        """
        statuses = [(p.name, p.stop()) for p in (self.service, self.relay, self.django)]
        # Django's development server ends only by the signal.
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
    parser.add_argument("--dir", type=Path, help="directory for all data; by default a temporary one, removed at the end")
    parser.add_argument("--port", type=int, default=8000, help="port of Django; another one if it is in use")
    parser.add_argument("--service-port", type=int, default=8765, help="port of the service; another one if it is in use")
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
