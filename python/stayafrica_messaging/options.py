"""The clients' options, from arguments, settings and the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional
from urllib.parse import urlsplit

_DEFAULTS: Dict[str, Any] = {
    "URL": "http://127.0.0.1:8765",
    "TOKEN": "",
    "SECRET": "",
    "TIMEOUT": 5.0,
    "CONNECT_TIMEOUT": 2.0,
    "RETRIES": 3,
    "POOL": 10,
}
# Environment variables, used without Django.
_ENVIRONMENT = {"URL": "ERLANG_MESSAGING_URL", "TOKEN": "MESSAGING_TOKEN", "SECRET": "ERLANG_SHARED_SECRET"}


@dataclass(frozen=True)
class Options:
    """How a client calls the service. Times are in seconds."""

    url: str
    token: str = field(repr=False)
    timeout: float
    connect_timeout: float
    retries: int
    pool: int

    @classmethod
    def resolve(
        cls,
        url: Optional[str] = None,
        token: Optional[str] = None,
        timeout: Optional[float] = None,
        connect_timeout: Optional[float] = None,
        retries: Optional[int] = None,
    ) -> Options:
        """Returns the given options, and settings for the others. Raises ValueError for unusable ones."""
        get = setting()
        options = cls(
            url=str(get("URL") if url is None else url).rstrip("/"),
            token=str(get("TOKEN") if token is None else token),
            timeout=float(get("TIMEOUT") if timeout is None else timeout),
            connect_timeout=float(get("CONNECT_TIMEOUT") if connect_timeout is None else connect_timeout),
            retries=int(get("RETRIES") if retries is None else retries),
            pool=int(get("POOL")),
        )
        options._check()
        return options

    def _check(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the URL of the messaging service must begin with http:// or https:// and name a host")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("the URL of the messaging service must have no user, query or fragment")
        if not _visible(self.token) or " " in self.token:
            raise ValueError("the token of the messaging service must be visible ASCII characters")
        if self.timeout <= 0 or self.connect_timeout <= 0:
            raise ValueError("the time-outs of the messaging client must be more than 0 seconds")
        if self.retries < 0 or self.pool < 1:
            raise ValueError("RETRIES of the messaging client must be 0 or more, POOL 1 or more")


def checked_headers(headers: Optional[Mapping[str, str]]) -> Dict[str, str]:
    """Returns the headers for each request. Raises ValueError for invalid ones, without their values."""
    for name, value in (headers or {}).items():
        if not (name.strip() and _visible(name) and _visible(value)):
            raise ValueError(f"the header {name!r} of the messaging client must be visible ASCII characters")
    return dict(headers or {})


def _visible(text: str) -> bool:
    return text.isascii() and text.isprintable()


def setting() -> Callable[[str], Any]:
    """Returns a function that reads a setting: from Django if it is configured, else from the environment."""
    try:
        from django.conf import settings
    except ImportError:
        return _without_django
    if not (settings.configured or os.environ.get("DJANGO_SETTINGS_MODULE")):
        return _without_django
    from . import conf

    return conf.get


def _without_django(name: str) -> Any:
    return os.environ.get(_ENVIRONMENT.get(name, "")) or _DEFAULTS[name]
