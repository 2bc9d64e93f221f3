"""The Django side of the messaging service: client, transactional outbox, receiving endpoint, admin.

::

    import stayafrica_messaging as messaging

    with transaction.atomic():
        ...
        messaging.send(conversation.pk, sender.pk, receiver.pk, "Hello!")

Each name is imported when it is first used. Importing this package needs
neither Django's settings nor its apps.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Dict, List

from .version import __version__

if TYPE_CHECKING:
    from . import errors
    from .aio import AsyncMessagingClient
    from .client import MessagingClient
    from .outbox import broadcast, send
    from .types import BroadcastReceipt, DeadLetter, DeadLetterPage, Job, Message, QueueSize, Receipt

__all__ = [
    "AsyncMessagingClient",
    "BroadcastReceipt",
    "DeadLetter",
    "DeadLetterPage",
    "Job",
    "Message",
    "MessagingClient",
    "QueueSize",
    "Receipt",
    "__version__",
    "broadcast",
    "errors",
    "send",
]

_MODULES: Dict[str, str] = {
    "AsyncMessagingClient": "aio",
    "MessagingClient": "client",
    "broadcast": "outbox",
    "send": "outbox",
    **dict.fromkeys(
        ["BroadcastReceipt", "DeadLetter", "DeadLetterPage", "Job", "Message", "QueueSize", "Receipt"], "types"
    ),
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module(".errors", __name__)
    if name in _MODULES:
        return getattr(importlib.import_module("." + _MODULES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
