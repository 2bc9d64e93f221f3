"""A private PostgreSQL for a test run, in a temporary directory and on a free loopback
port. It is removed afterwards.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from typing import Iterator, Optional
from urllib.parse import unquote, urlsplit

#: The role and database that tests connect as.
ROLE = "tests"


def missing() -> Optional[str]:
    """Returns why the tests cannot use PostgreSQL, as a sentence, or None."""
    try:
        import psycopg2  # noqa: F401
    except ImportError:
        return "psycopg2 is not installed (Debian's package python3-psycopg2)"
    if not os.environ.get("TEST_POSTGRES_DSN") and not directory():
        return "PostgreSQL is not installed (Debian's package postgresql)"
    return None


def directory() -> Optional[str]:
    """Returns the directory of the server's commands. Debian does not add it to PATH."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=_version)
    initdb = found[-1] if found else shutil.which("initdb")
    return os.path.dirname(initdb) if initdb else None


def _version(path: str) -> int:
    return int(path.split("/")[4])


def settings_of(dsn: str) -> dict:
    """Returns Django's settings for ``postgresql://user:password@host:port/name``."""
    url = urlsplit(dsn)
    return {
        "HOST": url.hostname or "",
        "PORT": str(url.port or ""),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "NAME": url.path.lstrip("/") or "postgres",
    }


@contextlib.contextmanager
def server(**parameters: str) -> Iterator["Server"]:
    """Starts a server and stops it at the end. The parameters are its configuration."""
    started = Server(parameters)
    try:
        started.start()
        yield started
    finally:
        started.close()


class Server:
    """A private cluster. If this process is root, it runs as the user postgres."""

    def __init__(self, parameters: dict) -> None:
        self.parameters = parameters
        self.bin = directory()
        self.root = tempfile.mkdtemp(prefix="messaging-postgres-")
        self.data = os.path.join(self.root, "data")
        self.password = secrets.token_urlsafe(12)
        self.port = _free_port()
        self.process: Optional[subprocess.Popen] = None
        self._initialised = False

    @property
    def dsn(self) -> str:
        return f"postgresql://{ROLE}:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Starts or restarts the server, and waits until it accepts connections."""
        if not self._initialised:
            self._initialise()
        parameters = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **self.parameters}
        options = [f"--{name}={value}" for name, value in parameters.items()]
        with open(os.path.join(self.root, "log"), "ab") as log:
            self.process = subprocess.Popen(
                [f"{self.bin}/postgres", "-D", self.data, "-p", str(self.port), *options],
                stdout=log, stderr=log, cwd="/", preexec_fn=self._as_postgres,
            )
        self._wait()

    def stop(self) -> None:
        """Stops the server at once. Its clients are disconnected."""
        if self.process is not None:
            self.process.send_signal(2)  # SIGINT: the fast mode
            self.process.wait(30)
            self.process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def log(self) -> str:
        with open(os.path.join(self.root, "log"), encoding="utf-8", errors="replace") as log:
            return log.read()

    def _initialise(self) -> None:
        password = os.path.join(self.root, "password")
        with open(password, "w", encoding="ascii") as file:
            file.write(self.password)
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            for path in (self.root, password):
                os.chown(path, account.pw_uid, account.pw_gid)
        subprocess.run(
            [f"{self.bin}/initdb", "-D", self.data, "-U", ROLE, "--auth=md5", "--pwfile", password,
             "--encoding=UTF8", "--locale=C", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, cwd="/", preexec_fn=self._as_postgres,
        )
        self._initialised = True

    @staticmethod
    def _as_postgres() -> None:
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.initgroups("postgres", account.pw_gid)
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)

    def _wait(self) -> None:
        import psycopg2

        until = time.monotonic() + 30
        while True:
            try:
                psycopg2.connect(self.dsn).close()
                return
            except psycopg2.OperationalError:
                if self.process is None or self.process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("PostgreSQL did not start:\n" + self.log()) from None
                time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
