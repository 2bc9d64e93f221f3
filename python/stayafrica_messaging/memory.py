"""The service's queues in memory, for tests.

It accepts the calls of the clients (:mod:`~stayafrica_messaging.calls`), and responds
with the service's results and errors. It has no restarts, no limits on size or time,
and no dead letters.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import secrets
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, TypeVar, Union

from . import drafts
from .responses import Response, read
from .calls import Call
from .errors import IdempotencyConflict, InvalidMessage, NotFound
from .types import JSONObject

T = TypeVar("T")


@dataclass(frozen=True)
class Sent:
    """A message to one user, or a broadcast to several.

    ``receiver_ids`` are as the sender gave them, each user once. ``idempotency_key`` is
    the sender's, or the one that the client made. Times that were not given are None.
    """

    id: str
    sequence: int
    sender_id: Union[int, str]
    receiver_ids: Tuple[Union[int, str], ...]
    text: str
    conversation_id: Union[int, str, None] = None
    message_type: str = "text"
    priority: str = "normal"
    metadata: JSONObject = field(default_factory=dict)
    persist: bool = True
    deliver_at: Optional[datetime] = None
    expires_at: Optional[datetime] = None
    extra: JSONObject = field(default_factory=dict)
    idempotency_key: str = ""
    is_broadcast: bool = False

    @property
    def receiver_id(self) -> Union[int, str]:
        """The receiver of a message. Raises ValueError for a broadcast to several users."""
        (receiver,) = self.receiver_ids
        return receiver


@dataclass
class _Entry:
    """A message in the queue of its receiver."""

    message: JSONObject
    due: Optional[datetime]
    expires: Optional[datetime]
    leased_until: Optional[datetime] = None
    receipts: List[str] = field(default_factory=list)  # one per delivery

    @property
    def place(self) -> Tuple[int, int]:
        return drafts.PRIORITIES.index(self.message["priority"]), self.message["sequence"]


class MemoryService:
    """Queues, and the sent messages. It is thread-safe."""

    def __init__(self) -> None:
        self.sent: List[Sent] = []
        self._queues: Dict[str, Dict[int, _Entry]] = {}
        self._by_idempotency_key: Dict[Tuple[str, str], Tuple[Optional[bytes], JSONObject]] = {}
        self._sequences = itertools.count(1)
        self._jobs: Dict[str, JSONObject] = {}
        self._taken = 0
        self._began = time.monotonic()
        self._lock = threading.RLock()

    def perform(self, call: Call[T]) -> T:
        """Makes a call. Returns or raises the same as a client."""
        with self._lock:
            response = self._respond(call)
        return read(call, Response(200, {}, (response if call.text else json.dumps(response)).encode()))

    def advance(self, seconds: float) -> None:
        """Moves the clock of the queues forward. Messages become due or expire, and leases end."""
        passed = timedelta(seconds=seconds)
        with self._lock:
            for queue in self._queues.values():
                for entry in queue.values():
                    entry.due = entry.due and entry.due - passed
                    entry.expires = entry.expires and entry.expires - passed
                    entry.leased_until = entry.leased_until and entry.leased_until - passed

    def _respond(self, call: Call[Any]) -> Any:
        for method, path, handle in self._routes():
            match = re.fullmatch(path, call.path)
            if match and method == call.method:
                body = None if call.body is None else json.loads(call.body)
                return handle(call, body, *match.groups())
        raise NotFound(404, "not_found", "there is no such call")

    def _routes(self) -> List[Tuple[str, str, Callable[..., Any]]]:
        queue = r"/api/messages/queue/([^/]+)"
        return [
            ("POST", "/api/messages/send", self._send),
            ("POST", "/api/messages/batch", self._batch),
            ("POST", "/api/messages/broadcast", self._broadcast),
            ("GET", queue, self._read),
            ("DELETE", queue, self._clear),
            ("GET", queue + "/size", self._size),
            ("POST", "/api/messages/(ack|nack|extend)", self._update_leases),
            ("GET", "/api/stats", self._stats),
            ("GET", "/health", lambda *_: {"status": "ok", "service": "messaging_service", "timestamp": int(time.time())}),
            ("GET", "/health/ready", lambda *_: _success(ready=True, recovered=True, disk=True, draining=False)),
            ("GET", "/api/dead-letters", lambda *_: _success(dead_letters=[], count=0, total=0, next=None)),
            ("POST", "/api/dead-letters/redrive", lambda *_: self._new_job("redrive")),
            ("POST", "/api/replay", lambda *_: self._new_job("replay")),
            ("GET", "/api/jobs", lambda *_: _success(jobs=list(reversed(list(self._jobs.values()))))),
            ("GET", "/api/jobs/([^/]+)", lambda _call, _body, id: _success(job=self._job(id))),
            ("DELETE", "/api/jobs/([^/]+)", lambda _call, _body, id: _success(job=self._jobs.pop(self._job(id)["id"]))),
            ("GET", "/metrics", lambda *_: f"messaging_messages_accepted_total {len(self.sent)}\n"),
        ]

    # Sending

    def _send(self, call: Call[Any], body: JSONObject) -> JSONObject:
        def store() -> JSONObject:
            sent = self._sent(_draft(body), call)
            self._enqueue(sent)
            return _success(message="Message queued", id=sent.id, sequence=sent.sequence)

        return self._idempotent(call, store)

    def _batch(self, call: Call[Any], body: JSONObject) -> JSONObject:
        def store() -> JSONObject:
            messages = [self._sent(draft, call) for draft in list(_drafts(body["messages"]))]
            for sent in messages:
                self._enqueue(sent)
            receipts = [{"id": sent.id, "sequence": sent.sequence} for sent in messages]
            return _success(message="Messages queued", accepted=len(receipts), messages=receipts)

        return self._idempotent(call, store)

    def _broadcast(self, call: Call[Any], body: JSONObject) -> JSONObject:
        def store() -> JSONObject:
            sent = self._sent(_draft(body["message"], body["user_ids"]), call)
            self._enqueue(sent)
            return _success(
                message="Broadcast queued", recipients=len(sent.receiver_ids), id=sent.id, sequence=sent.sequence
            )

        return self._idempotent(call, store)

    def _idempotent(self, call: Call[Any], store: Callable[[], JSONObject]) -> JSONObject:
        key = call.path, call.headers["Idempotency-Key"]
        if key in self._by_idempotency_key:
            body, response = self._by_idempotency_key[key]
            if body != call.body:
                raise IdempotencyConflict(
                    409,
                    "idempotency_conflict",
                    "the idempotency key was used before with another body: nothing was stored",
                    "idempotency_key",
                )
            return {**response, "duplicate": True}
        response = store()
        self._by_idempotency_key[key] = call.body, response
        return response

    def _sent(self, draft: drafts.Draft, call: Call[Any]) -> Sent:
        payload = dict(draft.payload)
        receivers = payload.pop("user_ids") if draft.kind == "broadcast" else [payload.pop("receiver_id")]
        return Sent(
            id=_uuid7(),
            sequence=next(self._sequences),
            receiver_ids=_distinct(receivers),
            deliver_at=_time(payload.pop("deliver_at", None)),
            expires_at=_time(payload.pop("expires_at", None)),
            idempotency_key=call.headers["Idempotency-Key"],
            is_broadcast=draft.kind == "broadcast",
            **payload,
        )

    def _enqueue(self, sent: Sent) -> None:
        self.sent.append(sent)
        created_at = _text(_now())
        for receiver in sent.receiver_ids:
            message = {
                "id": _copy_id(sent.id, receiver) if sent.is_broadcast else sent.id,
                "sequence": sent.sequence,
                "created_at": created_at,
                "deliver_at": sent.deliver_at and _text(sent.deliver_at),
                "expires_at": sent.expires_at and _text(sent.expires_at),
                "conversation_id": sent.conversation_id,
                "sender_id": sent.sender_id,
                "receiver_id": receiver,
                "text": sent.text,
                "message_type": sent.message_type,
                "priority": sent.priority,
                "metadata": sent.metadata,
                **sent.extra,
            }
            message = {name: value for name, value in message.items() if value is not None or name in sent.extra}
            queue = self._queues.setdefault(str(receiver), {})
            queue[sent.sequence] = _Entry(message, sent.deliver_at, sent.expires_at)

    # Reading

    def _read(self, call: Call[Any], _body: None, user: str) -> JSONObject:
        limit, lease = int(call.params.get("max_count", 10)), call.params.get("lease")
        entries = sorted(self._ready(user), key=lambda entry: entry.place)[:limit]
        if lease is not None:
            for entry in entries:
                entry.leased_until = _now() + timedelta(seconds=int(lease))
                entry.receipts.append(secrets.token_urlsafe(16))
        messages = [_delivered(entry, lease is not None) for entry in entries]
        if lease is None and "peek" not in call.params:
            self._taken += len(entries)
            for entry in entries:
                del self._queues[user][entry.message["sequence"]]
        return _success(user_id=user, messages=messages, count=len(messages))

    def _live(self, user: str) -> List[_Entry]:
        """The user's queue without expired messages."""
        now = _now()
        queue = self._queues.get(user, {})
        for sequence in [sequence for sequence, entry in queue.items() if entry.expires and entry.expires <= now]:
            del queue[sequence]
        return list(queue.values())

    def _ready(self, user: str) -> List[_Entry]:
        return [entry for entry in self._live(user) if not self._is_delayed(entry) and not self._is_leased(entry)]

    def _is_delayed(self, entry: _Entry) -> bool:
        return entry.due is not None and entry.due > _now()

    def _is_leased(self, entry: _Entry) -> bool:
        return entry.leased_until is not None and entry.leased_until > _now()

    def _update_leases(self, _call: Call[Any], body: JSONObject, verb: str) -> JSONObject:
        user = str(body["user_id"])
        results = [{"receipt": receipt, "result": self._outcome(user, receipt, verb, body)} for receipt in body["receipts"]]
        return _success(results=results)

    def _outcome(self, user: str, receipt: str, verb: str, body: JSONObject) -> str:
        entry = next((entry for entry in self._live(user) if receipt in entry.receipts), None)
        if entry is None:
            return "unknown"
        if receipt != entry.receipts[-1] or not self._is_leased(entry):
            return "expired"
        if verb == "ack":
            self._taken += 1
            del self._queues[user][entry.message["sequence"]]
            return "acked"
        if verb == "extend":
            entry.leased_until = _now() + timedelta(seconds=body["lease"])
            return "extended"
        entry.leased_until = None
        if body.get("delay_seconds"):
            entry.due = _now() + timedelta(seconds=body["delay_seconds"])
        return "nacked"

    def _size(self, _call: Call[Any], _body: None, user: str) -> JSONObject:
        size = dict.fromkeys([*drafts.PRIORITIES, "leased", "delayed"], 0)
        for entry in self._live(user):
            leased, delayed = self._is_leased(entry), self._is_delayed(entry)
            size["leased" if leased else "delayed" if delayed else entry.message["priority"]] += 1
        return _success(user_id=user, **size, total=sum(size.values()))

    def _clear(self, _call: Call[Any], _body: None, user: str) -> JSONObject:
        cleared = len(self._live(user))
        self._queues.pop(user, None)
        return _success(user_id=user, cleared=cleared)

    # Operating

    def _stats(self, *_: object) -> JSONObject:
        counters = {
            "messages_processed": sum(len(sent.receiver_ids) for sent in self.sent),
            "messages_persisted": 0,
            "persistence_failures": 0,
            "persistence_errors": 0,
        }
        uptime = int(time.monotonic() - self._began)
        return _success(**counters, counters=counters, uptime_seconds=uptime, memory={"total": 0}, process_count=1)

    def _new_job(self, kind: str) -> JSONObject:
        now = _text(_now())
        job: JSONObject = {"id": _uuid7(), "kind": kind, "state": "done", "done": 0, "total": 0, "failed": 0}
        job.update(eta_seconds=None, error=None, created_at=now, finished_at=now)
        self._jobs[job["id"]] = job
        return _success(job=job)

    def _job(self, id: str) -> JSONObject:
        if id not in self._jobs:
            raise NotFound(404, "not_found", "there is no such job")
        return self._jobs[id]


def _success(**response: Any) -> JSONObject:
    return {"status": "success", **response}


def _delivered(entry: _Entry, leased: bool) -> JSONObject:
    lease = {"receipt": entry.receipts[-1], "deliveries": len(entry.receipts)} if leased else {}
    return {**entry.message, **lease}


def _drafts(messages: List[JSONObject]) -> Iterator[drafts.Draft]:
    if not 1 <= len(messages) <= 10_000:
        raise InvalidMessage(400, "invalid_field", "a batch has 1 to 10000 messages", "messages")
    for index, message in enumerate(messages):
        try:
            yield _draft(message)
        except InvalidMessage as error:
            error.index = index
            raise


def _draft(body: Any, user_ids: Optional[List[Any]] = None) -> drafts.Draft:
    """Parses and validates a message."""
    if not isinstance(body, dict):
        raise InvalidMessage(400, "invalid_json", "Invalid JSON: the body must be one JSON object")
    broadcast = user_ids is not None
    for name in ("sender_id", "text") if broadcast else ("conversation_id", "sender_id", "receiver_id", "text"):
        if name not in body:
            raise InvalidMessage(400, "missing_field", f"{name} is missing", name)
    if broadcast and "receiver_id" in body:
        raise InvalidMessage(400, "invalid_field", "a broadcast has no receiver_id: its receivers are user_ids", "receiver_id")
    known = {name: value for name, value in body.items() if name in drafts.KNOWN and name != "idempotency_key"}
    extra = {name: value for name, value in body.items() if name not in drafts.KNOWN}
    arguments: Dict[str, Any] = {**_DEFAULTS, **known, "extra": extra}
    return drafts.send(**arguments) if user_ids is None else drafts.broadcast(user_ids=user_ids, **arguments)


_DEFAULTS: JSONObject = {
    "message_type": "text",
    "priority": "normal",
    "metadata": {},
    "persist": True,
    "delay_seconds": None,
    "deliver_at": None,
    "ttl_seconds": None,
    "expires_at": None,
}


def _distinct(users: List[Union[int, str]]) -> Tuple[Union[int, str], ...]:
    first: Dict[str, Union[int, str]] = {}
    for user in users:
        first.setdefault(str(user), user)
    return tuple(first.values())


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _text(at: datetime) -> str:
    return at.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time(text: Optional[str]) -> Optional[datetime]:
    return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00"))


def _uuid7() -> str:
    milliseconds = int(_now().timestamp() * 1000)
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)))


def _copy_id(broadcast: str, user: Union[int, str]) -> str:
    """The id of a broadcast's copy for one receiver, derived as in the service."""
    sum = hashlib.sha256(uuid.UUID(broadcast).bytes + str(user).encode()).digest()[:16]
    number = int.from_bytes(sum, "big")
    number = number & ~(0xF << 76) | 8 << 76
    return str(uuid.UUID(int=number & ~(3 << 62) | 2 << 62))
