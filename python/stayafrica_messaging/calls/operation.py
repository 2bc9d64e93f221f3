"""The calls for those who run the service: dead letters, replay, jobs, numbers and health."""

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
    """List dead letters, ``limit`` (1 to 1000, 100 by default) from behind ``after``.

    ``kind`` is ``"refused"`` or ``"undeliverable"``; ``reason`` is matched whole. A
    page may be shorter than ``limit`` and yet have a ``next``.
    """
    params = _given(after=after, limit=limit, kind=kind, reason=reason)
    return Call("GET", "/api/dead-letters", success(DeadLetterPage.from_json), params=params, safe=True)


def dead_letter(id: str) -> Call[DeadLetter]:
    """Look at one dead letter (NotFound)."""
    return Call("GET", _letter_path(id), success(lambda answer: DeadLetter.from_json(answer["dead_letter"])), safe=True)


def drop_dead_letter(id: str) -> Call[None]:
    """Remove a dead letter, and the message in it, for good (NotFound)."""
    return Call("DELETE", _letter_path(id), success(lambda answer: None))


def _letter_path(id: str) -> str:
    return f"/api/dead-letters/{quote(str(id), safe='')}"


def redrive(
    ids: Optional[Iterable[str]] = None,
    reason: Optional[str] = None,
    all: bool = False,
    *,
    kind: Optional[str] = None,
) -> Call[Job]:
    """Send dead letters where they failed to go: those named, those with a reason, or all.

    Exactly one of ``ids``, ``reason`` and ``all`` must be given; ``kind`` goes with
    the latter two.
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
    """Send a part of the log to Django again, under the same ids.

    It begins at a sequence or a time (one is needed) and ends at one, included, or
    where the log ends now. ``conversation_id`` and ``user_id`` pick messages;
    ``rate`` is how many a second at the most (1,000 by default).
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
    """List jobs, the newest first: those that run, and the last hundred that ended."""
    return Call("GET", "/api/jobs", success(types.jobs_from_json), safe=True)


def job(id: str) -> Call[Job]:
    """Look at one job (NotFound)."""
    return Call("GET", _job_path(id), success(_job), safe=True)


def cancel_job(id: str) -> Call[Job]:
    """Cancel a job that runs, or forget one that has ended; gives it as it was left (NotFound)."""
    return Call("DELETE", _job_path(id), success(_job))


def _job(answer: JSONObject) -> Job:
    return Job.from_json(answer["job"])


def _job_path(id: str) -> str:
    return f"/api/jobs/{quote(str(id), safe='')}"


def _given(**arguments: Any) -> JSONObject:
    return {name: value for name, value in arguments.items() if value is not None}


def stats() -> Call[JSONObject]:
    """What the service has counted since it started, and where it stands."""
    return Call("GET", "/api/stats", success(dict), safe=True)


def health() -> Call[JSONObject]:
    """Whether the process is alive; needs no token."""

    def parse(answer: JSONObject) -> JSONObject:
        if answer.get("status") != "ok":
            raise ValueError("not the service's health")
        return answer

    return Call("GET", "/health", parse, safe=True)


def ready() -> Call[JSONObject]:
    """Whether requests would be served; needs no token.

    ``["ready"]`` says it in one word, ``["recovered"]``, ``["disk"]`` and
    ``["draining"]`` why not. A service that is not ready raises nothing.
    """

    def parse(answer: JSONObject) -> JSONObject:
        types.boolean(answer, "ready")
        return answer

    return Call("GET", "/health/ready", parse, safe=True, answers={503: {"status": "error", "ready": False}})


def metrics() -> Call[str]:
    """The service's metrics in Prometheus' text format; METRICS_TOKEN opens it too."""
    return Call("GET", "/metrics", str, safe=True, text=True)


def openapi() -> Call[JSONObject]:
    """The service's own description of its calls (OpenAPI 3.1)."""

    def parse(answer: JSONObject) -> JSONObject:
        if "openapi" not in answer:
            raise ValueError("not a description")
        return answer

    return Call("GET", "/openapi.json", parse, safe=True)
