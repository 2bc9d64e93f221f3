"""The calls for operators: dead letters, replay, jobs, metrics and health."""

from __future__ import annotations

from typing import Any, Iterable, List, Optional
from urllib.parse import quote

from .. import types
from ..encoding import encode, moment
from ..types import DeadLetter, DeadLetterPage, Identifier, Job, JSONObject, Moment
from .call import Call, success


def dead_letters(
    after: Optional[str] = None,
    limit: Optional[int] = None,
    kind: Optional[str] = None,
    reason: Optional[str] = None,
) -> Call[DeadLetterPage]:
    """List dead letters after ``after``, up to ``limit`` (1 to 1000, 100 by default).

    ``kind`` is ``"refused"`` or ``"undeliverable"``. ``reason`` must match exactly. A
    page may have fewer than ``limit`` entries although ``next`` is set.
    """
    params = _given(after=after, limit=limit, kind=kind, reason=reason)
    return Call("GET", "/api/dead-letters", success(DeadLetterPage.from_json), params=params, safe=True)


def dead_letter(id: str) -> Call[DeadLetter]:
    """Get one dead letter (NotFound)."""
    return Call("GET", _letter_path(id), success(lambda response: DeadLetter.from_json(response["dead_letter"])), safe=True)


def drop_dead_letter(id: str) -> Call[None]:
    """Delete a dead letter and its message permanently (NotFound)."""
    return Call("DELETE", _letter_path(id), success(lambda response: None))


def _letter_path(id: str) -> str:
    return f"/api/dead-letters/{quote(str(id), safe='')}"


def redrive(
    ids: Optional[Iterable[str]] = None,
    reason: Optional[str] = None,
    all: bool = False,
    *,
    kind: Optional[str] = None,
) -> Call[Job]:
    """Send dead letters to their destination again: by id, by reason, or all of them.

    Exactly one of ``ids``, ``reason`` and ``all`` must be given. ``kind`` can be
    combined with ``reason`` or ``all``.
    """
    body = _given(ids=None if ids is None else list(ids), reason=reason, all=True if all else None, kind=kind)
    return Call("POST", "/api/dead-letters/redrive", success(_job), body=encode(body))


def replay(
    from_sequence: Optional[int] = None,
    to_sequence: Optional[int] = None,
    from_time: Optional[Moment] = None,
    to_time: Optional[Moment] = None,
    conversation_id: Optional[Identifier] = None,
    user_id: Optional[Identifier] = None,
    rate: Optional[int] = None,
) -> Call[Job]:
    """Send a part of the log to Django again, with the same ids.

    The range starts at a sequence or a time; one of them is required. It ends at a
    sequence or a time, inclusive, or at the current end of the log.
    ``conversation_id`` and ``user_id`` filter the messages. ``rate`` is the maximum
    number of messages per second (1,000 by default).
    """
    body = _given(
        from_sequence=from_sequence,
        to_sequence=to_sequence,
        from_time=None if from_time is None else moment(from_time),
        to_time=None if to_time is None else moment(to_time),
        conversation_id=conversation_id,
        user_id=user_id,
        rate=rate,
    )
    return Call("POST", "/api/replay", success(_job), body=encode(body))


def jobs() -> Call[List[Job]]:
    """List jobs, newest first: all running jobs, and the last hundred that ended."""
    return Call("GET", "/api/jobs", success(types.jobs_from_json), safe=True)


def job(id: str) -> Call[Job]:
    """Get one job (NotFound)."""
    return Call("GET", _job_path(id), success(_job), safe=True)


def cancel_job(id: str) -> Call[Job]:
    """Cancel a running job, or delete an ended one. Returns its last state (NotFound)."""
    return Call("DELETE", _job_path(id), success(_job))


def _job(response: JSONObject) -> Job:
    return Job.from_json(response["job"])


def _job_path(id: str) -> str:
    return f"/api/jobs/{quote(str(id), safe='')}"


def _given(**arguments: Any) -> JSONObject:
    return {name: value for name, value in arguments.items() if value is not None}


def stats() -> Call[JSONObject]:
    """Get the service's counters since its start, and its current state."""
    return Call("GET", "/api/stats", success(dict), safe=True)


def health() -> Call[JSONObject]:
    """Check that the process is alive. Needs no token."""

    def parse(response: JSONObject) -> JSONObject:
        if response.get("status") != "ok":
            raise ValueError("not the health of the service")
        return response

    return Call("GET", "/health", parse, safe=True)


def ready() -> Call[JSONObject]:
    """Check whether the service accepts requests. Needs no token.

    ``["ready"]`` is the result. ``["recovered"]``, ``["disk"]`` and ``["draining"]``
    are the reasons. A service that is not ready raises no error.
    """

    def parse(response: JSONObject) -> JSONObject:
        types.boolean(response, "ready")
        return response

    return Call("GET", "/health/ready", parse, safe=True, responses={503: {"status": "error", "ready": False}})


def metrics() -> Call[str]:
    """Get the metrics in the Prometheus text format. METRICS_TOKEN is accepted, too."""
    return Call("GET", "/metrics", str, safe=True, text=True)


def openapi() -> Call[JSONObject]:
    """Get the OpenAPI 3.1 description of the service."""

    def parse(response: JSONObject) -> JSONObject:
        if "openapi" not in response:
            raise ValueError("not an OpenAPI description")
        return response

    return Call("GET", "/openapi.json", parse, safe=True)
