"""Measures how fast batches of 500 are received into PostgreSQL, compared with the original.

    python3 -m tests.bench_receive [--rounds 7]

It starts a private PostgreSQL with the default configuration (each commit reaches the
disk). It calls Django's WSGI application like one worker of a server: sequential
requests, with the middleware and a persistent database connection. Each round measures
three variants, with 50 conversations and 100 users:

- `bundled`: the receiving view with the bundled models;
- `own models`: the receiving view with a project's models and an adapter, which looks
  up foreign keys;
- `one by one`: a view that looks up the rows and calls get_or_create for each message,
  as the original does, with the same table.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import time
import uuid
from typing import Callable

from . import postgres

BATCH = 500
#: Batches in a round. The slow variant has fewer, so that a run takes seconds.
BATCHES, BATCHES_ONE_BY_ONE = 20, 2
PERSIST = "/api/messaging/erlang/persist/"
OWN = {"ALLOW_UNSIGNED": True, "ADAPTER": "tests.chat.messaging.ChatAdapter"}

GOAL = 3_000  # messages per second
GOAL_RATIO = 10  # times the slow variant


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    missing = postgres.missing()
    if missing:
        print(missing)
        return 2
    with postgres.server() as server:
        prepare(server.dsn)
        return report(measure(rounds))


def prepare(dsn: str) -> None:
    """Sets Django up, and creates the tables, users and conversations."""
    os.environ.update(DJANGO_SETTINGS_MODULE="tests.settings", TEST_DATABASE="postgresql", TEST_POSTGRES_DSN=dsn)
    import django
    from django.conf import settings

    settings.ROOT_URLCONF = "tests.chat.urls"
    settings.DATABASES["default"]["CONN_MAX_AGE"] = None
    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    from .chat.models import Room

    call_command("migrate", verbosity=0)
    Room.objects.bulk_create(Room(pk=n) for n in range(1, 51))
    users = get_user_model()
    users.objects.bulk_create(users(pk=n, username=f"user{n}") for n in range(1, 101))


def measure(rounds: int) -> dict[str, list[float]]:
    """Returns the messages per second of each variant in each round."""
    from django.core.wsgi import get_wsgi_application
    from django.test import override_settings

    application = get_wsgi_application()

    def run(path: str, batches: int) -> float:
        bodies = [body() for _ in range(batches)]
        started = time.perf_counter()
        for one in bodies:
            answer = call(application, path, one)
            assert answer["persisted"] == BATCH and not answer["errors"], answer
        return batches * BATCH / (time.perf_counter() - started)

    def own() -> float:
        with override_settings(STAYAFRICA_MESSAGING=OWN):
            return run(PERSIST, BATCHES)

    ways: dict[str, Callable[[], float]] = {
        "bundled": lambda: run(PERSIST, BATCHES),
        "own models": own,
        "one by one": lambda: run("/one-by-one/", BATCHES_ONE_BY_ONE),
    }
    for way in ways.values():
        way()  # fills connections, caches and plans
    results: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            results[name].append(way())
    return results


_sequence = iter(range(1, 2**62))


def body() -> bytes:
    """Returns a new batch in the service's format."""
    batch = []
    for _ in range(BATCH):
        number = next(_sequence)
        batch.append(
            {
                "id": str(uuid.UUID(int=(0x0198 << 112) + number)),
                "sequence": number,
                "created_at": "2026-03-01T12:34:56.789Z",
                "message_type": "text",
                "priority": "normal",
                "metadata": {"client": "web"},
                "conversation_id": number % 50 + 1,
                "sender_id": number % 100 + 1,
                "receiver_id": (number + 1) % 100 + 1,
                "text": f"message {number}: {'as long as people write to each other ' * 2}",
            }
        )
    return json.dumps({"messages": batch}).encode()


def call(application: Callable, path: str, content: bytes) -> dict:
    """Makes a request as a WSGI server does."""
    statuses = []
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(content)),
        "HTTP_X_ERLANG_SERVICE": "messaging",
        "wsgi.input": io.BytesIO(content),
        "wsgi.url_scheme": "http",
    }
    response = application(environ, lambda status, headers: statuses.append(status))
    text = b"".join(response)
    response.close()
    assert statuses == ["200 OK"], (statuses, text[:500])
    return json.loads(text)


def report(results: dict[str, list[float]]) -> int:
    print(f"{'messages a second':<20}{'median':>10}{'lowest':>10}{'highest':>10}")
    for name, rates in results.items():
        print(f"{name:<20}{statistics.median(rates):>10,.0f}{min(rates):>10,.0f}{max(rates):>10,.0f}")
    slow = results["one by one"]
    met = True
    for name in ("bundled", "own models"):
        ratios = [rate / of for rate, of in zip(results[name], slow)]
        print(f"{name}: {statistics.median(ratios):.1f} times one by one ({min(ratios):.1f} to {max(ratios):.1f})")
        met &= statistics.median(results[name]) >= GOAL and statistics.median(ratios) >= GOAL_RATIO
    print(f"goals ({GOAL:,} a second, {GOAL_RATIO} times): {'met' if met else 'missed'}")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
