"""The module of the original, ``services.erlang_messaging``, over this service.

One import is all that changes::

    from stayafrica_messaging.erlang import erlang_client

Its methods never raise: a failure is logged and answered with False, None or an
empty list, as before. The settings ``ERLANG_MESSAGING_URL`` and
``ERLANG_SHARED_SECRET`` are honoured, beside those of ``STAYAFRICA_MESSAGING``.
Code that wants to know what failed uses
:class:`~stayafrica_messaging.client.MessagingClient`.
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
    """The original's client: the same methods, arguments and returns.

    ``base_url`` is where the service is; without one the settings say it, read at
    each call. ``timeout`` is in seconds, None takes the setting ``TIMEOUT``; what can
    pass is tried again within that time.
    """

    def __init__(self, base_url: Optional[str] = None) -> None:
        self._base_url = base_url
        self.timeout: Optional[float] = None
        self._made: Optional[Tuple[Options, str, MessagingClient]] = None

    @property
    def base_url(self) -> str:
        """Where the service is."""
        return self._base_url or str(setting()("URL"))

    @base_url.setter
    def base_url(self, url: Optional[str]) -> None:
        self._base_url = url

    def health_check(self) -> bool:
        """Whether the service answers now; it is asked once."""
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
        """Send a message; True says that the service has it on disk."""
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
        """Take messages out of a user's queue, as the service's JSON has them; none where that fails."""

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
        """Send a message to many users; True says that the service has it on disk for all."""
        return self._try(
            "broadcast_message",
            False,
            lambda client: bool(
                client.broadcast(sender_id, user_ids, text, message_type=message_type, metadata=metadata)
            ),
        )

    def get_stats(self) -> Optional[Dict[str, Any]]:
        """What the service has counted, or None."""
        return self._try("get_stats", None, lambda client: client.stats())

    def _try(self, name: str, otherwise: T, ask: Callable[[MessagingClient], T]) -> T:
        try:
            return ask(self._client())
        except Exception as error:  # whatever it is: callers rely on it
            logger.error("%s failed: %s: %s", name, type(error).__name__, error)
            return otherwise

    def _client(self) -> MessagingClient:
        """The client for the settings in force, kept for as long as they are."""
        options = Options.resolve(url=self._base_url or None, timeout=self.timeout)
        secret = str(setting()("SECRET") or "")
        made = self._made
        if made is None or made[:2] != (options, secret):
            # The service needs no secret to be called; something in front of it may.
            headers = {"X-Erlang-Secret": secret} if secret else {}
            # Callers expect to wait for one time-out, not for one a try.
            client = MessagingClient(
                self._base_url or None, timeout=self.timeout, give_up_after=options.timeout, headers=headers
            )
            made = self._made = (options, secret, client)
        return made[2]


def _messages(answer: Dict[str, Any]) -> List[Dict[str, Any]]:
    # They have left the queue, so nothing about them is a reason to give none.
    return [message for message in answer["messages"] if isinstance(message, dict)]


#: The client that everybody shares.
erlang_client = ErlangMessagingClient()
