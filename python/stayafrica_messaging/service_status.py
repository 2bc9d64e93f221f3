"""What the messaging service says of itself, gathered for a person to look at.

The admin and `manage.py messaging_check` show the same things; this is where they come from.
"""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Tuple, TypeVar
from urllib.parse import urlsplit, urlunsplit

from django.core.exceptions import ImproperlyConfigured

from . import conf
from .client import MessagingClient
from .errors import BadAnswer, Forbidden, MessagingError, ServiceUnreachable, Unauthorized

Labels = FrozenSet[Tuple[str, str]]
T = TypeVar("T")

_SERIES = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')

# A person waits for the page: one try, and not for long.
PATIENCE = 3.0


class Misconfigured(MessagingError):
    """Our own settings do not make a client."""


class Metrics:
    """The numbers of a page in Prometheus' text format."""

    def __init__(self, text: str = "") -> None:
        self._values: Dict[Tuple[str, Labels], float] = {}
        for line in text.splitlines():
            self._read(line)

    def _read(self, line: str) -> None:
        found = _SERIES.match(line)
        if not found:
            return
        name, labels, value = found.groups()
        try:
            self._values[name, frozenset(_LABEL.findall(labels or ""))] = float(value)
        except ValueError:
            return

    def value(self, name: str, default: float = 0.0) -> float:
        """The series of this name that has no labels."""
        return self._values.get((name, frozenset()), default)

    def by(self, name: str, label: str) -> Dict[str, int]:
        """The series of this name by the value of their one label, as whole numbers."""
        return {
            dict(labels)[label]: int(value)
            for (series, labels), value in self._values.items()
            if series == name and label in dict(labels)
        }


@dataclass
class ServiceStatus:
    """The state of the service at one moment. What could not be learned is empty, and `errors` says why."""

    url: str
    reachable: bool = False
    readiness: Mapping[str, Any] = field(default_factory=dict)
    stats: Mapping[str, Any] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)
    errors: List[MessagingError] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Whether it takes messages: recovered, its disk writable, not about to stop."""
        return bool(self.readiness.get("ready"))

    @property
    def known(self) -> bool:
        """Whether it told its numbers."""
        return bool(self.stats)

    @property
    def lag_messages(self) -> int:
        """How many messages Django has not been given yet."""
        return int(self.stats.get("drain_lag_messages") or 0)

    @property
    def lag_seconds(self) -> float:
        """The age of the oldest message that Django has not been given yet, in seconds."""
        return float(self.stats.get("drain_lag_seconds") or 0)

    @property
    def waiting(self) -> bool:
        """Whether it has stopped sending to Django until Django is well again."""
        return self.metrics.value("messaging_drain_waiting") > 0

    @property
    def dead_letters(self) -> Dict[str, int]:
        """How many dead letters there are of each kind."""
        return self.metrics.by("messaging_dead_letters", "kind")

    @property
    def dead_total(self) -> int:
        return sum(self.dead_letters.values())

    @property
    def failures(self) -> Dict[str, int]:
        """Deliveries to Django that failed since the service started, by what went wrong; only what happened."""
        return {kind: n for kind, n in self.metrics.by("messaging_persist_failures_total", "kind").items() if n}


def make_client(**options: Any) -> MessagingClient:
    """A client by the settings; Misconfigured where they make none."""
    try:
        return MessagingClient(**options)
    except (ImproperlyConfigured, TypeError, ValueError) as error:
        raise Misconfigured(str(error)) from error


def quick_client() -> MessagingClient:
    """A client for someone who waits for a page: a short time-out and no retries."""
    return make_client(timeout=PATIENCE, connect_timeout=PATIENCE, retries=0)


def look() -> ServiceStatus:
    """Ask the service for all of it. Never raises for what the service does or fails to do."""
    status = ServiceStatus(url=shown_url())
    try:
        with closing(quick_client()) as client:
            _fill(status, client)
    except Misconfigured as error:
        status.errors.append(error)
    return status


def _fill(status: ServiceStatus, client: MessagingClient) -> None:

    def ask(call: Callable[[], T]) -> Optional[T]:
        try:
            return call()
        except MessagingError as error:
            status.errors.append(error)
            return None

    status.reachable = ask(client.health) is not None
    if not status.reachable:
        return
    status.readiness = ask(client.ready) or {}
    status.stats = ask(client.stats) or {}
    if status.known:
        status.metrics = Metrics(ask(client.metrics) or "")


def shown_url() -> str:
    """The service's address as it may be shown: without user and password."""
    try:
        url = str(conf.get("URL"))
        parts = urlsplit(url)
    except (ImproperlyConfigured, ValueError):
        return "?"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def explain(error: MessagingError) -> str:
    """What went wrong and what to look at, in a sentence."""
    where, said = f"The messaging service at {shown_url()}", f"It said: {error}"
    if isinstance(error, Misconfigured):
        return f"The settings of this project do not make a client of the messaging service: {error}."
    if isinstance(error, BadAnswer):
        return f"What answers at {shown_url()} is not the messaging service, or another version of it: {error}"
    if isinstance(error, ServiceUnreachable):
        return f"The messaging service cannot be reached: {error}"
    if isinstance(error, Unauthorized):
        return f"{where} does not know our token: {conf.SETTING}['TOKEN'] must be one of its API_TOKENS. {said}"
    if isinstance(error, Forbidden):
        return f"{where} does not let us in; without API_TOKENS it answers on its own machine only. {said}"
    return f"{where} says: {error}"
