"""`manage.py messaging_relay`: pushes the outbox's messages to the service."""

from __future__ import annotations

import contextlib
import signal
import threading
from argparse import ArgumentParser
from typing import Any, Iterator

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from stayafrica_messaging import claims, outbox
from stayafrica_messaging.relay import Relay


class Command(BaseCommand):
    help = (
        "Pushes messages of the outbox that could not be pushed at their commit. Run it as a service next to Django; "
        "several relays may run at once. SIGTERM and SIGINT end it after the current message."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--once",
            action="store_true",
            help="push what can be pushed now, then exit; status 1 if a push failed",
        )
        parser.add_argument("--interval", type=float, default=1.0, help="seconds between pushes (1)")
        parser.add_argument("--limit", type=int, default=200, help="maximum number of messages per push (200)")
        parser.add_argument("--workers", type=int, default=8, help="number of messages to push concurrently (8)")

    def handle(self, *, once: bool, interval: float, limit: int, workers: int, **options: Any) -> None:
        if interval <= 0 or limit < 1 or workers < 1:
            raise CommandError("--interval must be more than 0 seconds, --limit and --workers 1 or more")
        try:
            outbox.relay_client()
        except ValueError as error:
            raise CommandError(str(error)) from error
        relay = Relay(interval, limit, workers)
        with _ended_by_signals(relay):
            if once:
                self._drain(relay)
            else:
                relay.run()
                self.stdout.write(f"stopped; {_count(relay)}")

    def _drain(self, relay: Relay) -> None:
        result = relay.drain()
        self.stdout.write(_count(relay))
        if result.trouble is not None:
            raise CommandError(f"messages are pending: {result.trouble.reason}")


def _count(relay: Relay) -> str:
    done = f"{relay.total.sent} sent, {relay.total.refused} refused"
    try:
        return f"{done}, {claims.rows().filter(state=claims.PENDING).count()} pending"
    except Error:
        return done  # the database is down; end with status 0 all the same


@contextlib.contextmanager
def _ended_by_signals(relay: Relay) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set signal handlers
        return
    before = {number: signal.signal(number, lambda *_: relay.stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
