"""`manage.py messaging_replay`: sends a part of the service's log to Django again."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime
from typing import Any, Dict

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from stayafrica_messaging.client import MessagingClient
from stayafrica_messaging.errors import MessagingError, ServiceUnreachable
from stayafrica_messaging.service_status import explain, make_client
from stayafrica_messaging.types import Job

POLL_INTERVAL = 0.5  # seconds


class Command(BaseCommand):
    """Starts a replay, and optionally waits for its end."""

    help = (
        "Sends messages of the service's log to Django again, with the same ids, so Django stores each message once. "
        "Without --from-sequence and --from-time it starts at the beginning of the log."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        start = parser.add_mutually_exclusive_group()
        start.add_argument("--from-sequence", type=int, metavar="N", help="start here; 1 is the beginning of the log")
        start.add_argument(
            "--from-time",
            type=moment,
            metavar="TIME",
            help="start at this time, such as 2026-12-31T23:59:59Z; the default zone is TIME_ZONE",
        )
        end = parser.add_mutually_exclusive_group()
        end.add_argument("--to-sequence", type=int, metavar="N", help="end here, inclusive; the default is the end of the log")
        end.add_argument("--to-time", type=moment, metavar="TIME", help="end at this time, inclusive")
        parser.add_argument("--conversation", metavar="ID", help="only messages of this conversation")
        parser.add_argument("--user", metavar="ID", help="only messages to this user")
        parser.add_argument("--rate", type=int, metavar="N", help="maximum number of messages per second; 1000 by default")
        parser.add_argument("--wait", action="store_true", help="wait for the end and show the progress")
        parser.add_argument("--yes", action="store_true", help="replay the whole log without asking")

    def handle(self, *args: Any, wait: bool, yes: bool, **options: Any) -> None:
        request = chosen(options)
        if set(request) <= {"from_sequence", "rate"} and request.get("from_sequence") == 1 and not yes:
            self.ask()
        try:
            with make_client() as client:
                job = client.replay(**request)
                self.stdout.write(f"job {job.id}: sending {job.total} sequences of the log to Django again")
                if wait:
                    self.follow(client, job)
        except MessagingError as error:
            raise CommandError(explain(error))

    def ask(self) -> None:
        """Asks for confirmation before a replay of the whole log."""
        question = "This sends the whole log to Django again."
        if not sys.stdin.isatty():
            raise CommandError(f"{question} Confirm with --yes.")
        if input(f"{question} Continue? [y/N] ").strip().lower() not in ("y", "yes"):
            raise CommandError("nothing was replayed")

    def follow(self, client: MessagingClient, job: Job) -> None:
        """Shows the job's progress until it ends. An interrupt does not cancel the job."""
        shown = ""
        try:
            while job.running:
                shown = self.progress(job, shown)
                time.sleep(POLL_INTERVAL)
                job = refreshed(client, job)
        except KeyboardInterrupt:
            self.stdout.write(f"\nThe job continues. Follow or cancel it in the admin, or with `messaging jobs cancel {job.id}`.")
            raise SystemExit(130)
        self.progress(job, shown)
        if self.stdout.isatty():
            self.stdout.write()
        self.end(job)

    def progress(self, job: Job, shown: str) -> str:
        """Prints the progress: one changing line on a terminal, else a line per change."""
        left = f", {job.eta_seconds} s left" if job.eta_seconds is not None else ""
        line = f"{job.done} of {job.total}{left}"
        if self.stdout.isatty():
            self.stdout.write(f"\r{line:<60}", ending="")
            self.stdout.flush()
        elif line != shown:
            self.stdout.write(line)
        return line

    def end(self, job: Job) -> None:
        stayed = f"; {job.failed} messages are dead letters" if job.failed else ""
        if job.state != "done":
            raise CommandError(f"job {job.id} is {job.state}: {job.error or 'no reason given'}{stayed}")
        self.stdout.write(self.style.SUCCESS(f"done{stayed}"))


def refreshed(client: MessagingClient, job: Job) -> Job:
    """Returns the current job, or the given one if the service is unreachable. Jobs survive its restarts."""
    try:
        return client.job(job.id)
    except ServiceUnreachable:
        return job


def chosen(options: Dict[str, Any]) -> Dict[str, Any]:
    """Returns the arguments for `MessagingClient.replay`."""
    names = {"conversation": "conversation_id", "user": "user_id"}
    wanted = ("from_sequence", "from_time", "to_sequence", "to_time", "conversation", "user", "rate")
    request = {names.get(name, name): options[name] for name in wanted if options[name] is not None}
    if "from_sequence" not in request and "from_time" not in request:
        request["from_sequence"] = 1
    return request


def moment(text: str) -> datetime:
    """Parses a time. A date means the beginning of the day."""
    try:
        at = parse_datetime(text if len(text) > len("2026-12-31") else f"{text} 00:00")
    except ValueError:
        at = None
    if at is None:
        raise ArgumentTypeError(f"{text!r} is not a time such as 2026-12-31T23:59:59Z")
    return timezone.make_aware(at) if timezone.is_naive(at) else at
