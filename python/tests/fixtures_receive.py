"""Messages and requests in the service's format."""

from __future__ import annotations

import contextlib
import json
import uuid
from typing import Any, Iterator, Sequence

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from stayafrica_messaging.receive import ReceivedMessage, parse_message

PATH = "/api/messaging/erlang/persist/"
ADAPTERS = "tests.chat.messaging."


def message(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Returns a message of the service. A change to ... omits the field."""
    fields = {
        "id": str(uuid.UUID(int=0x0198_0000_0000_7000_8000_0000_0000_0000 + number)),
        "sequence": number,
        "created_at": "2026-03-01T12:34:56.789Z",
        "message_type": "text",
        "priority": "normal",
        "metadata": {},
        "conversation_id": 456,
        "sender_id": 123,
        "receiver_id": 789,
        "text": f"message {number}",
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not ...}


def messages(count: int, first: int = 1, **changes: Any) -> list[dict[str, Any]]:
    return [message(number, **changes) for number in range(first, first + count)]


def received(*raw: dict[str, Any]) -> list[ReceivedMessage]:
    return [parse_message(entry) for entry in raw]


def post(batch: Any, client: Client | None = None, **headers: str):
    """Posts a batch, or an unchanged body, as the service does."""
    body = batch if isinstance(batch, bytes) else json.dumps({"messages": batch}).encode()
    headers = {"HTTP_X_ERLANG_SERVICE": "messaging", **headers}
    return (client or Client()).post(PATH, body, content_type="application/json", **headers)


def accounted(batch: Sequence[Any], **headers: str) -> tuple[int, int, list[dict[str, Any]]]:
    """Posts a batch and expects 200. Returns the counts of persisted and duplicate messages, and the errors."""
    response = post(batch, **headers)
    assert response.status_code == 200, response.content
    answer = response.json()
    assert set(answer) == {"persisted", "duplicates", "errors"}
    assert answer["persisted"] + answer["duplicates"] + len(answer["errors"]) == len(batch)
    return answer["persisted"], answer["duplicates"], answer["errors"]


def is_bracket(sql: str) -> bool:
    """Whether a statement only opens or closes a transaction or a savepoint."""
    return sql.split(None, 1)[0].rstrip(";").upper() in ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "ROLLBACK")


@contextlib.contextmanager
def queries() -> Iterator[list[str]]:
    """Collects the statements, without those that only open or close a transaction."""
    seen: list[str] = []
    with CaptureQueriesContext(connection) as captured:
        yield seen
    seen.extend(query["sql"] for query in captured.captured_queries if not is_bracket(query["sql"]))
