"""The description of a call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Generic, Mapping, Optional, TypeVar, Union

from ..types import JSONObject

T = TypeVar("T")

Query = Dict[str, Union[str, int]]


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how to read its response.

    ``safe``
        The call may be repeated after an attempt with an unknown result. It changes
        nothing, has an idempotency key, or has the same effect and response when
        repeated.
    ``waits``
        How many seconds the service may wait before it responds.
    ``responses``
        Statuses other than 200 that are not an error. The value is the response to
        assume if a proxy sent the status.
    ``text``
        The response is text, not JSON.
    """

    method: str
    path: str
    parse: Callable[[Any], T]
    params: Query = field(default_factory=dict)
    body: Optional[bytes] = None
    headers: Mapping[str, str] = field(default_factory=dict)
    safe: bool = False
    waits: float = 0.0
    responses: Mapping[int, JSONObject] = field(default_factory=dict)
    text: bool = False


def success(parse: Callable[[Any], T]) -> Callable[[Any], T]:
    """Wraps a parse function so that it rejects a response without ``"status": "success"``."""

    def checked(response: JSONObject) -> T:
        if response.get("status") != "success":
            raise ValueError("the response does not report success")
        return parse(response)

    return checked
