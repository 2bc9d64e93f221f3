"""A drop-in replacement for the original's module ``services.erlang_messaging``.

Only the import changes::

    from stayafrica_messaging.erlang import erlang_client

The methods never raise. They log a failure and return False, None or an empty list,
as the original's methods do. The settings ``ERLANG_MESSAGING_URL`` and
``ERLANG_SHARED_SECRET`` are read, as well as ``STAYAFRICA_MESSAGING``. Code that needs
the reason for a failure uses :class:`~stayafrica_messaging.client.MessagingClient`.
"""

from __future__ import annotations

import logging
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple, TypeVar

from . import calls
from .calls import Call
from .client import MessagingClient
from .options import Options, setting
from .types import Identifier

__all__ = ["ErlangMessagingClient", "erlang_client"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


class ErlangMessagingClient:
    """The original's client, with the same methods, arguments and results.

    ``base_url`` is the URL of the service. Without one, it is read from the settings at
    each call. ``timeout`` is in seconds; None means the setting ``TIMEOUT``. Temporary
    failures are retried within that time.
    """

    def __init__(self, base_url: Optional[str] = None) -> None:
        self._base_url = base_url
        self.timeout: Optional[float] = None
        self._made: Optional[Tuple[Options, str, MessagingClient]] = None

    @property
    def base_url(self) -> str:
        """The URL of the service."""
        return self._base_url or str(setting()("URL"))

    @base_url.setter
    def base_url(self, url: Optional[str]) -> None:
        self._base_url = url

    def health_check(self) -> bool:
        """Whether the service responds now. It is asked once."""
        return self._try("health_check", False, lambda client: bool(client.perform(calls.health(), retries=0)))

    def send_message(
        self,
        conversation_id: Identifier,
        sender_id: Identifier,
        receiver_id: Identifier,
        text: str,
        message_type: str = "text",
        priority: str = "normal",
        metadata: Optional[Mapping[str, Any]] = None,
    ) -> bool:
        """Send a message. True means that the service has stored it on disk."""
        return self._try(
            "send_message",
            False,
            lambda client: bool(
                client.send(
                    conversation_id,
                    sender_id,
                    receiver_id,
                    text,
                    message_type=message_type,
                    priority=priority,
                    metadata=metadata,
                )
            ),
        )

    def get_user_messages(self, user_id: Identifier, max_count: int = 10) -> List[Dict[str, Any]]:
        """Take messages from a user's queue, as the service's JSON objects. Returns an empty list on failure."""

        def take(client: MessagingClient) -> List[Dict[str, Any]]:
            call = calls.take(user_id, max_count)
            return client.perform(Call(call.method, call.path, _messages, params=call.params))

        return self._try("get_user_messages", [], take)

    def broadcast_message(
        self,
        sender_id: Identifier,
        user_ids: Iterable[Identifier],
        text: str,
        message_type: str = "system",
        metadata: Optional[Mapping[str, Any]] = None,
    ) -> bool:
        """Send a message to many users. True means that the service has stored it on disk for all of them."""
        return self._try(
            "broadcast_message",
            False,
            lambda client: bool(
                client.broadcast(sender_id, user_ids, text, message_type=message_type, metadata=metadata)
            ),
        )

    def get_stats(self) -> Optional[Dict[str, Any]]:
        """Get the service's counters, or None."""
        return self._try("get_stats", None, lambda client: client.stats())

    def _try(self, name: str, otherwise: T, ask: Callable[[MessagingClient], T]) -> T:
        try:
            return ask(self._client())
        except Exception as error:  # callers rely on it that no method raises
            logger.error("%s failed: %s: %s", name, type(error).__name__, error)
            return otherwise

    def _client(self) -> MessagingClient:
        """The client for the current settings. It is reused until they change."""
        options = Options.resolve(url=self._base_url or None, timeout=self.timeout)
        secret = str(setting()("SECRET") or "")
        made = self._made
        if made is None or made[:2] != (options, secret):
            # The service itself needs no secret from its callers, but a proxy may.
            headers = {"X-Erlang-Secret": secret} if secret else {}
            # Callers expect to wait for one time-out in total, not for one per try.
            client = MessagingClient(
                self._base_url or None, timeout=self.timeout, give_up_after=options.timeout, headers=headers
            )
            made = self._made = (options, secret, client)
        return made[2]


def _messages(response: Dict[str, Any]) -> List[Dict[str, Any]]:
    # The messages have left the queue, so validation must not drop any of them.
    return [message for message in response["messages"] if isinstance(message, dict)]


#: The shared client.
erlang_client = ErlangMessagingClient()
