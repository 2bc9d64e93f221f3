"""Where the project mounts the endpoint that the service posts to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Iterator, List

from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver

#: The tail of the endpoint's path, and the whole of it where the service looks by default (DJANGO_PERSIST_PATH).
TAIL = "erlang/persist"
DEFAULT_PATH = "/api/messaging/erlang/persist/"


@dataclass(frozen=True)
class Endpoint:
    """A route that takes, or looks as if it took, the service's messages."""

    path: str
    view: Callable[..., Any]

    @property
    def view_class(self) -> Any:
        """The class of a class-based view, of Django or of REST framework; else None."""
        return getattr(self.view, "cls", None) or getattr(self.view, "view_class", None)

    @property
    def ours(self) -> bool:
        """Whether it is this package's view and not one of the project's own."""
        return (self.view_class or self.view).__module__.partition(".")[0] == __name__.partition(".")[0]


def endpoints() -> List[Endpoint]:
    """All of the project's endpoints for the service. Whatever importing the URLconf raises is raised here too."""
    prefix = "/" + (settings.FORCE_SCRIPT_NAME or "").strip("/")
    return [
        Endpoint(path, route.callback)
        for path, route in _routes(get_resolver(), prefix.rstrip("/") + "/")
        if path.rstrip("/").endswith(TAIL)
    ]


def _routes(resolver: URLResolver, prefix: str) -> Iterator[tuple[str, URLPattern]]:
    for entry in resolver.url_patterns:
        path = prefix + _text(entry)
        if isinstance(entry, URLResolver):
            yield from _routes(entry, path)
        else:
            yield path, entry


def _text(entry: Any) -> str:
    """The path that a route spells; of a regular expression what is left without anchors and escapes."""
    return str(entry.pattern).lstrip("^").rstrip("$").replace("\\", "")
