"""Finds the endpoints for the service in the project's URLconf."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Iterator, List

from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver

#: The end of the endpoint's path, and the service's default for the whole path (DJANGO_PERSIST_PATH).
PATH_SUFFIX = "erlang/persist"
DEFAULT_PATH = "/api/messaging/erlang/persist/"


@dataclass(frozen=True)
class Endpoint:
    """A route that receives the service's messages, judged by its path."""

    path: str
    view: Callable[..., Any]

    @property
    def view_class(self) -> Any:
        """The class of a class-based view of Django or REST framework, else None."""
        return getattr(self.view, "cls", None) or getattr(self.view, "view_class", None)

    @property
    def ours(self) -> bool:
        """Whether the view belongs to this package."""
        return (self.view_class or self.view).__module__.partition(".")[0] == __name__.partition(".")[0]


def find_endpoints() -> List[Endpoint]:
    """Returns all endpoints of the project. Raises whatever the import of the URLconf raises."""
    prefix = "/" + (settings.FORCE_SCRIPT_NAME or "").strip("/")
    return [
        Endpoint(path, route.callback)
        for path, route in _routes(get_resolver(), prefix.rstrip("/") + "/")
        if path.rstrip("/").endswith(PATH_SUFFIX)
    ]


def _routes(resolver: URLResolver, prefix: str) -> Iterator[tuple[str, URLPattern]]:
    for entry in resolver.url_patterns:
        path = prefix + _text(entry)
        if isinstance(entry, URLResolver):
            yield from _routes(entry, path)
        else:
            yield path, entry


def _text(entry: Any) -> str:
    """The path of a route. For a regular expression it is the pattern without anchors and escapes."""
    return str(entry.pattern).lstrip("^").rstrip("$").replace("\\", "")
