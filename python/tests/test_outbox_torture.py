"""Writers, relays and a service run concurrently. Relays and the service are killed repeatedly."""

from __future__ import annotations

import random
import time
import uuid
from typing import Any, Callable

import pytest

from stayafrica_messaging.client import MessagingClient
from stayafrica_messaging.models import OutboxMessage

from .fixtures_client import StartService, eventually
from .fixtures_outbox import StartChild, received, relay_program

pytest_plugins = ["tests.fixtures_client", "tests.fixtures_outbox"]

SECONDS = 6
PATIENT = "outbox.CLAIM_SECONDS = 2.0\n"  # the wait for rows of a killed relay
TIMEOUTS: Any = {"TIMEOUT": 0.4, "CONNECT_TIMEOUT": 0.1}

WRITER = """
import random, time
until, committed = time.monotonic() + {seconds}, 0
while time.monotonic() < until:
    try:
        with transaction.atomic():
            for lane in {lanes!r}:
                messaging.send(lane, 2, lane, str(committed))
            if random.random() < 0.3:
                raise ZeroDivisionError
        committed += 1
    except ZeroDivisionError:
        pass
    time.sleep(random.random() * 0.05)
print("committed", committed)
"""


@pytest.mark.django_db(transaction=True)
def test_what_was_committed_is_sent_once_and_in_order(
    start_service: StartService, use: Callable[..., None], child: StartChild
) -> None:
    service = start_service()
    use(service.url)
    lanes = [[f"{uuid.uuid4()}" for _ in range(3)] for _ in range(2)]
    writers = [child(PATIENT + WRITER.format(seconds=SECONDS, lanes=own), service.url, **TIMEOUTS) for own in lanes]

    def relay() -> Any:
        return child(PATIENT + relay_program("--interval", "0.1", "--limit", "20"), service.url, **TIMEOUTS)

    relays = [relay(), relay()]
    while any(writer.process.poll() is None for writer in writers):
        time.sleep(random.uniform(0.3, 1))
        if random.random() < 0.5:
            relays.pop(0).end()
            relays.append(relay())
        else:
            service.kill()
            time.sleep(random.uniform(0, 0.5))
            service.start()
    assert [writer.wait() for writer in writers] == [0, 0], [writer.output for writer in writers]
    eventually(lambda: not OutboxMessage.objects.exclude(state="sent").exists(), 60)
    client = MessagingClient(service.url)
    for writer, own in zip(writers, lanes):
        committed = int(writer.output.rsplit("committed ", 1)[1])
        for lane in own:
            assert received(client, lane) == [str(number) for number in range(committed)]
