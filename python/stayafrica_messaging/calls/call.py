"""What a call is, before it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Generic, Mapping, Optional, TypeVar, Union

from ..types import JSONObject

T = TypeVar("T")

Query = Dict[str, Union[str, int]]


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how its answer is read.

    ``safe``
        it may be made again when nobody knows whether it arrived: it changes
        nothing, or has an idempotency key, or does the same the second time and
        says so.
    ``waits``
        for how many seconds the service may wait before it answers.
    ``answers``
        statuses beside 200 that are an answer and not a refusal, and what each says
        where something in the service's place gave it.
    ``text``
        the answer is text, not JSON.
    """

    method: str
    path: str
    parse: Callable[[Any], T]
    params: Query = field(default_factory=dict)
    body: Optional[bytes] = None
    headers: Mapping[str, str] = field(default_factory=dict)
    safe: bool = False
    waits: float = 0.0
    answers: Mapping[int, JSONObject] = field(default_factory=dict)
    text: bool = False


def success(parse: Callable[[Any], T]) -> Callable[[Any], T]:
    """A parse of an answer that must say that it is a success."""

    def checked(answer: JSONObject) -> T:
        if answer.get("status") != "success":
            raise ValueError("the answer does not say success")
        return parse(answer)

    return checked
