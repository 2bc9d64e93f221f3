"""`manage.py messaging_replay`: send a part of the service's log to Django again."""

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

LOOK_EVERY = 0.5  # seconds


class Command(BaseCommand):
    """Starts a replay, and waits for it where that is wanted."""

    help = (
        "Sends messages of the service's log to Django again, under the ids that they had: what Django still has is not stored "
        "twice. Without --from-sequence and --from-time it begins where the log does."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        start = parser.add_mutually_exclusive_group()
        start.add_argument("--from-sequence", type=int, metavar="N", help="begin here; 1 is the beginning of the log")
        start.add_argument(
            "--from-time", type=moment, metavar="TIME", help="such as 2026-12-31T23:59:59Z; without a zone it is in TIME_ZONE"
        )
        end = parser.add_mutually_exclusive_group()
        end.add_argument("--to-sequence", type=int, metavar="N", help="end here, included; by default at the end of the log")
        end.add_argument("--to-time", type=moment, metavar="TIME", help="or with what was sent at this time")
        parser.add_argument("--conversation", metavar="ID", help="only messages of this conversation")
        parser.add_argument("--user", metavar="ID", help="only messages to this user")
        parser.add_argument("--rate", type=int, metavar="N", help="messages a second at the most; 1000 by default")
        parser.add_argument("--wait", action="store_true", help="wait for the end and show how far it is")
        parser.add_argument("--yes", action="store_true", help="replay the whole log without asking")

    def handle(self, *args: Any, wait: bool, yes: bool, **options: Any) -> None:
        request = chosen(options)
        if set(request) <= {"from_sequence", "rate"} and request.get("from_sequence") == 1 and not yes:
            self.ask()
        try:
            with make_client() as client:
                job = client.replay(**request)
                self.stdout.write(f"job {job.id}: sends {job.total} sequences of the log to Django again")
                if wait:
                    self.follow(client, job)
        except MessagingError as error:
            raise CommandError(explain(error))

    def ask(self) -> None:
        """Makes sure that the whole log is meant."""
        question = "This sends the whole log to Django again."
        if not sys.stdin.isatty():
            raise CommandError(f"{question} Say --yes if that is meant.")
        if input(f"{question} Go on? [y/N] ").strip().lower() not in ("y", "yes"):
            raise CommandError("nothing was replayed")

    def follow(self, client: MessagingClient, job: Job) -> None:
        """Shows how far the job is until it ends. An interrupt leaves the job running."""
        shown = ""
        try:
            while job.running:
                shown = self.progress(job, shown)
                time.sleep(LOOK_EVERY)
                job = look_again(client, job)
        except KeyboardInterrupt:
            self.stdout.write(f"\nThe job goes on. Follow or cancel it in the admin, or with `messaging jobs cancel {job.id}`.")
            raise SystemExit(130)
        self.progress(job, shown)
        if self.stdout.isatty():
            self.stdout.write()
        self.end(job)

    def progress(self, job: Job, shown: str) -> str:
        """One line that changes on a terminal; else a line for each change."""
        left = f", {job.eta_seconds} s to go" if job.eta_seconds is not None else ""
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
            raise CommandError(f"job {job.id} is {job.state}: {job.error or 'it was ended by someone'}{stayed}")
        self.stdout.write(self.style.SUCCESS(f"done{stayed}"))


def look_again(client: MessagingClient, job: Job) -> Job:
    """The job as it is now; as it was where the service does not answer: jobs survive its restarts."""
    try:
        return client.job(job.id)
    except ServiceUnreachable:
        return job


def chosen(options: Dict[str, Any]) -> Dict[str, Any]:
    """The arguments of `MessagingClient.replay`."""
    names = {"conversation": "conversation_id", "user": "user_id"}
    wanted = ("from_sequence", "from_time", "to_sequence", "to_time", "conversation", "user", "rate")
    request = {names.get(name, name): options[name] for name in wanted if options[name] is not None}
    if "from_sequence" not in request and "from_time" not in request:
        request["from_sequence"] = 1
    return request


def moment(text: str) -> datetime:
    """A time as a person writes it; a date alone is its beginning."""
    try:
        at = parse_datetime(text if len(text) > len("2026-12-31") else f"{text} 00:00")
    except ValueError:
        at = None
    if at is None:
        raise ArgumentTypeError(f"{text!r} is no time such as 2026-12-31T23:59:59Z")
    return timezone.make_aware(at) if timezone.is_naive(at) else at
