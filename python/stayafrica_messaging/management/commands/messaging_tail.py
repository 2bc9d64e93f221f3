"""`manage.py messaging_tail USER`: follows a user's queue."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections import OrderedDict
from typing import Any, Callable, Iterator, Optional, TypeVar

from django.core.management.base import BaseCommand, CommandError

from stayafrica_messaging.client import MessagingClient
from stayafrica_messaging.errors import MessagingError, Overloaded, ServerFault, ServiceUnreachable
from stayafrica_messaging.service_status import explain, make_client
from stayafrica_messaging.types import Message

T = TypeVar("T")

PEEK_LIMIT = 1000  # maximum number of messages in a response
MAX_SEEN = 100_000  # ids
BATCH = 10  # messages per lease
LEASE = 30  # seconds to print them
LONG_POLL = 20  # seconds


class Command(BaseCommand):
    """Prints the messages in a queue, and then new ones."""

    help = (
        f"Follows a user's queue and prints its messages without taking them, up to {PEEK_LIMIT} due messages at a time. "
        "Ctrl-C ends it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="the user's id")
        parser.add_argument("--take", action="store_true", help="take the messages, so their reader does not get them")
        parser.add_argument("--json", action="store_true", help="print one JSON object per line, as received")
        parser.add_argument("--count", type=positive(int), metavar="N", help="exit after N messages")
        parser.add_argument(
            "--interval", type=positive(float), default=1.0, metavar="SECONDS", help="seconds between requests; 1 by default"
        )

    def handle(self, *args: Any, user: str, take: bool, count: Optional[int], interval: float, **options: Any) -> None:
        show = as_json if options["json"] else as_line
        try:
            with make_client() as client:
                tail = Tail(client, user, interval, self.report)
                for message in tail.take(count) if take else tail.peek(count):
                    self.stdout.write(show(message))
                    self.stdout.flush()
        except KeyboardInterrupt:
            pass
        except BrokenPipeError:
            # The reader of the output has exited. The interpreter's last flush must not report that again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except MessagingError as error:
            raise CommandError(explain(error))

    def report(self, error: MessagingError) -> None:
        self.stderr.write(f"{explain(error)}. Retrying.")


class Tail:
    """Iterates over a user's messages, across outages of the service."""

    def __init__(self, client: MessagingClient, user: str, interval: float, report: Callable[[MessagingError], None]) -> None:
        self.client, self.user, self.interval, self.report = client, user, interval, report

    def peek(self, count: Optional[int]) -> Iterator[Message]:
        """Yields each message once, without taking it."""
        seen: OrderedDict[str, None] = OrderedDict()
        left = count
        while True:
            for message in self._retried(lambda: self.client.peek(self.user, PEEK_LIMIT)):
                if message.id in seen:
                    continue
                yield message
                seen[message.id] = None
                if len(seen) > MAX_SEEN:
                    seen.popitem(last=False)
                if left is not None:
                    left -= 1
                    if not left:
                        return
            time.sleep(self.interval)

    def take(self, count: Optional[int]) -> Iterator[Message]:
        """Takes messages. They are leased, and acknowledged after they are printed, so an interrupt loses none."""
        taken = 0
        while count is None or taken < count:
            size = BATCH if count is None else min(BATCH, count - taken)
            messages = self._retried(lambda: self.client.lease(self.user, LEASE, size, wait=LONG_POLL))
            yield from messages
            if messages:
                self.client.ack(self.user, messages)
            taken += len(messages)

    def _retried(self, call: Callable[[], T]) -> T:
        """Retries a call until the service responds. It reports an outage once."""
        reported = False
        while True:
            try:
                return call()
            except (ServiceUnreachable, Overloaded, ServerFault) as error:
                if not reported:
                    self.report(error)
                reported = True
            time.sleep(self.interval)


def as_line(message: Message) -> str:
    """Formats a message for a terminal. It escapes control characters, which could change the terminal."""
    at = message.created_at.strftime("%Y-%m-%d %H:%M:%S")
    conversation = f" [{message.conversation_id}]" if message.conversation_id is not None else ""
    line = f"{at} #{message.sequence} {message.priority} {message.message_type} from {message.sender_id}{conversation}: {message.text}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def as_json(message: Message) -> str:
    """Formats a message as the service's JSON, on one line of ASCII."""
    return json.dumps(message.raw)


def positive(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Returns an argument type for numbers above zero."""

    def read(text: str) -> Any:
        number = kind(text)
        if not number > 0:
            raise ArgumentTypeError("must be more than 0")
        return number

    read.__name__ = "number"
    return read
