"""`manage.py messaging_tail USER`: watch what comes into a user's queue."""

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

WINDOW = 1000  # the most messages that one call gives
REMEMBERED = 100_000  # ids
HANDFUL = 10  # messages taken at once
LEASE = 30  # seconds, in which they are printed
LONG_POLL = 20  # seconds


class Command(BaseCommand):
    """Prints the messages of a queue, those that are there and those that come."""

    help = (
        f"Follows a user's queue and prints its messages without taking them: the first {WINDOW} of those that are due. "
        "Ctrl-C ends it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="the user's id")
        parser.add_argument("--take", action="store_true", help="take the messages: their reader will not get them any more")
        parser.add_argument("--json", action="store_true", help="one JSON object a line, as the service gives it")
        parser.add_argument("--count", type=positive(int), metavar="N", help="end after so many messages")
        parser.add_argument(
            "--interval", type=positive(float), default=1.0, metavar="SECONDS", help="how long to wait between looks; 1 by default"
        )

    def handle(self, *args: Any, user: str, take: bool, count: Optional[int], interval: float, **options: Any) -> None:
        show = as_json if options["json"] else as_line
        try:
            with make_client() as client:
                tail = Tail(client, user, interval, self.complain)
                for message in tail.take(count) if take else tail.peek(count):
                    self.stdout.write(show(message))
                    self.stdout.flush()
        except KeyboardInterrupt:
            pass
        except BrokenPipeError:
            # Whoever read this has gone; the interpreter's last flush must not say so again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except MessagingError as error:
            raise CommandError(explain(error))

    def complain(self, error: MessagingError) -> None:
        self.stderr.write(f"{explain(error)}. Waiting for it.")


class Tail:
    """A user's messages, one after another, through outages of the service."""

    def __init__(self, client: MessagingClient, user: str, interval: float, complain: Callable[[MessagingError], None]) -> None:
        self.client, self.user, self.interval, self.complain = client, user, interval, complain

    def peek(self, count: Optional[int]) -> Iterator[Message]:
        """What stands in the queue, each message once; nothing is taken."""
        seen: OrderedDict[str, None] = OrderedDict()
        left = count
        while True:
            for message in self._patiently(lambda: self.client.peek(self.user, WINDOW)):
                if message.id in seen:
                    continue
                yield message
                seen[message.id] = None
                if len(seen) > REMEMBERED:
                    seen.popitem(last=False)
                if left is not None:
                    left -= 1
                    if not left:
                        return
            time.sleep(self.interval)

    def take(self, count: Optional[int]) -> Iterator[Message]:
        """The queue's messages, taken. They are leased and acknowledged when printed, so that an interrupt loses none."""
        taken = 0
        while count is None or taken < count:
            handful = HANDFUL if count is None else min(HANDFUL, count - taken)
            messages = self._patiently(lambda: self.client.lease(self.user, LEASE, handful, wait=LONG_POLL))
            yield from messages
            if messages:
                self.client.ack(self.user, messages)
            taken += len(messages)

    def _patiently(self, call: Callable[[], T]) -> T:
        """What a call gives, once the service is there; of an outage it speaks once."""
        complained = False
        while True:
            try:
                return call()
            except (ServiceUnreachable, Overloaded, ServerFault) as error:
                if not complained:
                    self.complain(error)
                complained = True
            time.sleep(self.interval)


def as_line(message: Message) -> str:
    """A message for a person's terminal, which what others wrote must not steer."""
    at = message.created_at.strftime("%Y-%m-%d %H:%M:%S")
    conversation = f" [{message.conversation_id}]" if message.conversation_id is not None else ""
    line = f"{at} #{message.sequence} {message.priority} {message.message_type} from {message.sender_id}{conversation}: {message.text}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def as_json(message: Message) -> str:
    """A message as the service gave it, on one line of ASCII."""
    return json.dumps(message.raw)


def positive(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """A number above zero, for the parser of arguments."""

    def read(text: str) -> Any:
        number = kind(text)
        if not number > 0:
            raise ArgumentTypeError("it must be more than 0")
        return number

    read.__name__ = "number"
    return read
