"""The state of the messaging service, for the admin and `manage.py messaging_check`."""

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

# A person waits for the page, so there is one try with a short time-out.
PAGE_TIMEOUT = 3.0


class Misconfigured(MessagingError):
    """The settings of this project are unusable for a client."""


class Metrics:
    """The values of a page in the Prometheus text format."""

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
        """The value of the series without labels."""
        return self._values.get((name, frozenset()), default)

    def by(self, name: str, label: str) -> Dict[str, int]:
        """The values of the series with this label, by label value, as integers."""
        return {
            dict(labels)[label]: int(value)
            for (series, labels), value in self._values.items()
            if series == name and label in dict(labels)
        }


@dataclass
class ServiceStatus:
    """The state of the service at one moment. Values that could not be read are empty, and `errors` has the reasons."""

    url: str
    reachable: bool = False
    readiness: Mapping[str, Any] = field(default_factory=dict)
    stats: Mapping[str, Any] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)
    errors: List[MessagingError] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Whether the service accepts messages: it has recovered, its disk is writable, and it is not stopping."""
        return bool(self.readiness.get("ready"))

    @property
    def known(self) -> bool:
        """Whether the service returned its counters."""
        return bool(self.stats)

    @property
    def lag_messages(self) -> int:
        """How many messages Django has not received yet."""
        return int(self.stats.get("drain_lag_messages") or 0)

    @property
    def lag_seconds(self) -> float:
        """The age of the oldest message that Django has not received yet, in seconds."""
        return float(self.stats.get("drain_lag_seconds") or 0)

    @property
    def drain(self) -> str:
        """The state of the drain: "running", "waiting" (paused until Django recovers) or "off" (DJANGO_API_URL=off)."""
        told = self.stats.get("drain")  # older services have neither this field nor messaging_drain_off
        return told if isinstance(told, str) and told else ("waiting" if self.waiting else "running")

    @property
    def off(self) -> bool:
        """Whether the drain is off, because the service has no address for Django."""
        return self.drain == "off"

    @property
    def waiting(self) -> bool:
        """Whether the drain is paused until Django recovers."""
        names = ("messaging_drain_stalled", "messaging_drain_waiting")  # the name in newer and in older services
        return any(self.metrics.value(name) > 0 for name in names)

    @property
    def dead_letters(self) -> Dict[str, int]:
        """The number of dead letters of each kind."""
        return self.metrics.by("messaging_dead_letters", "kind")

    @property
    def dead_total(self) -> int:
        return sum(self.dead_letters.values())

    @property
    def failures(self) -> Dict[str, int]:
        """Failed deliveries to Django since the service started, by kind. Kinds without failures are left out."""
        return {kind: n for kind, n in self.metrics.by("messaging_persist_failures_total", "kind").items() if n}


def make_client(**options: Any) -> MessagingClient:
    """Returns a client with this project's settings. Raises Misconfigured."""
    try:
        return MessagingClient(**options)
    except (ImproperlyConfigured, TypeError, ValueError) as error:
        raise Misconfigured(str(error)) from error


def quick_client() -> MessagingClient:
    """Returns a client for a page: a short time-out and no retries."""
    return make_client(timeout=PAGE_TIMEOUT, connect_timeout=PAGE_TIMEOUT, retries=0)


def fetch_status() -> ServiceStatus:
    """Reads the state from the service. It never raises an error of the service."""
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
    """The service's address without user and password."""
    try:
        url = str(conf.get("URL"))
        parts = urlsplit(url)
    except (ImproperlyConfigured, ValueError):
        return "?"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def explain(error: MessagingError) -> str:
    """Describes an error and its likely cause, in one sentence."""
    where, said = f"The messaging service at {shown_url()}", f"Its response: {error}"
    if isinstance(error, Misconfigured):
        return f"This project's settings for the messaging service are invalid: {error}."
    if isinstance(error, BadAnswer):
        return f"The server at {shown_url()} is not the messaging service, or has an incompatible version: {error}"
    if isinstance(error, ServiceUnreachable):
        return f"The messaging service cannot be reached: {error}"
    if isinstance(error, Unauthorized):
        return f"{where} does not accept our token: {conf.SETTING}['TOKEN'] must be one of its API_TOKENS. {said}"
    if isinstance(error, Forbidden):
        return f"{where} denies access. Without API_TOKENS it accepts only requests from its own machine. {said}"
    return f"{where} reports: {error}"
