"""Adapters turn received messages into database rows. A project can use its own models.

The bundled models need no adapter. A project with its own models writes an adapter
and names it in the settings::

    STAYAFRICA_MESSAGING = {"ADAPTER": "chat.messaging.ChatAdapter"}

    class ChatAdapter(BaseAdapter):
        model = ChatMessage            # has uuid = models.UUIDField(unique=True)

        def build(self, message):
            return ChatMessage(
                uuid=message.id,
                conversation_id=message.conversation_id,   # foreign keys: the targets are
                sender_id=message.sender_id,               # looked up once per batch
                body=message.text,
                sent_at=message.created_at,
            )

A batch is then stored in four queries, and each message once. A message whose user
or conversation does not exist is refused; the other messages are stored.
"""

from __future__ import annotations

import datetime
import uuid
from typing import Any, ClassVar, Optional, Sequence

from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist, ValidationError
from django.db import DataError, IntegrityError, OperationalError, connections, models, router, transaction
from django.utils.functional import cached_property
from django.utils.module_loading import import_string

from . import bulk, conf
from .models import Conversation, Message
from .received import DUPLICATE, Outcome, ReceivedMessage, refused, stored

__all__ = [
    "DUPLICATE",
    "BaseAdapter",
    "ModelAdapter",
    "Outcome",
    "ReceivedMessage",
    "Refused",
    "load",
    "refused",
    "stored",
]

#: A message and the row built from it.
Pair = tuple[ReceivedMessage, models.Model]
#: Outcomes by message id.
Outcomes = dict[uuid.UUID, Outcome]

#: Maximum length of an error text, in characters.
MAX_ERROR = 500


class Refused(Exception):
    """Raised by an adapter to refuse a message. The text is the reason.

    A refusal is permanent by default. The service then makes the message a dead letter
    at once. The dead letter stays until an operator redrives or drops it.
    """

    def __init__(self, error: str, permanent: bool = True) -> None:
        super().__init__(error)
        self.permanent = permanent


class BaseAdapter:
    """Stores messages as rows of a model.

    Each batch gets a new adapter object, so an adapter may keep the result of its
    look-ups in attributes.

    A subclass sets `model` and implements :meth:`build`. The hooks :meth:`look_up`,
    :meth:`before_insert` and :meth:`after_insert` are optional. An adapter that does not
    store rows of one model overrides :meth:`store`.

    All rows of a batch are stored in one transaction. If the database refuses the
    batch, it is halved within that transaction until each bad message is isolated.
    Only the isolated messages are refused. The refusal is permanent if the database
    stored other messages of the same batch. If it stored none, the cause may be a
    missing column or default, so the refusal is temporary.
    """

    #: The model of the rows.
    model: ClassVar[type[models.Model]]
    #: The field for the message's id. It is unique, and a UUIDField or a CharField(36).
    unique_field: ClassVar[str] = "uuid"
    #: Names of the foreign keys whose targets must exist. They are looked up once per
    #: batch. None means all foreign keys that the database enforces. Empty means that
    #: the adapter checks the targets itself.
    references: ClassVar[Optional[Sequence[str]]] = None

    # Hooks for subclasses.

    def build(self, message: ReceivedMessage) -> models.Model:
        """Returns the unsaved row of a message. Raises :class:`Refused` if there can be none.

        It may be called again for the same message. It should not query the database,
        which would cost a query per message. :meth:`look_up` does that for the batch.
        """
        raise NotImplementedError

    def look_up(self, messages: Sequence[ReceivedMessage]) -> None:
        """Reads what :meth:`build` needs for all messages into the adapter.

        It runs before the transaction, and again if the transaction failed.
        """

    def before_insert(self, pairs: Sequence[Pair]) -> None:
        """Writes what the rows depend on, in the same transaction.

        It may be called again for some of the rows after its writes were rolled back.
        It must not remember that it wrote them.
        """

    def after_insert(self, pairs: Sequence[Pair]) -> None:
        """Writes what depends on the new rows, in the same transaction.

        The primary keys of the rows are set if the database returns them from a bulk
        insert (PostgreSQL does). To notify other code, use the signal
        ``message_persisted``, which is sent after the commit.
        """

    # The interface.

    @cached_property
    def database(self) -> str:
        """The alias of the database for writes. Reads use it too, because a replica may lag."""
        return router.db_for_write(self.model)

    def check(self) -> None:
        """Raises :class:`django.db.Error` if messages cannot be stored now.

        The database is down, for example, or the table does not exist.
        """
        self.model._base_manager.using(self.database).order_by().values_list("pk").first()

    def store(self, messages: Sequence[ReceivedMessage]) -> list[Outcome]:
        """Stores messages in the order given. All of them have different ids.

        Returns one outcome per message, in the same order. Raises
        :class:`django.db.Error` if the database fails; nothing is stored then.
        """
        try:
            outcomes = self._store_together(messages)
        except Exception as error:
            if not is_row_error(error):
                raise
            outcomes = self._store_after_refusal(messages)
        return [outcomes[message.id] for message in messages]

    # The implementation.

    def _new_pairs(self, messages: Sequence[ReceivedMessage], outcomes: Outcomes) -> list[Pair]:
        """Returns rows for the messages that can be stored, and adds outcomes for the others.

        It reads outside the transaction. A transaction in SQLite that reads before it
        writes cannot wait for another writer.
        """
        known = self._known(messages)
        outcomes.update((message.id, DUPLICATE) for message in messages if message.id in known)
        new = [message for message in messages if message.id not in known]
        if not new:
            return []
        self.look_up(new)
        pairs = self._built(new, outcomes)
        missing = self._missing_references(pairs)
        outcomes.update((key, refused(error, permanent=True)) for key, error in missing.items())
        return [pair for pair in pairs if pair[0].id not in missing]

    def _known(self, messages: Sequence[ReceivedMessage]) -> set[uuid.UUID]:
        """Returns the ids that are stored already."""
        as_text = not isinstance(self.model._meta.get_field(self.unique_field), models.UUIDField)
        ids = [str(message.id) if as_text else message.id for message in messages]
        found = bulk.existing(self.model, self.unique_field, ids, self.database)
        return {uuid.UUID(key) for key in found} if as_text else found

    def _built(self, messages: Sequence[ReceivedMessage], outcomes: Outcomes) -> list[Pair]:
        pairs = []
        for message in messages:
            try:
                pairs.append((message, self.build(message)))
            except Refused as error:
                outcomes[message.id] = refused(str(error), error.permanent)
            except (ObjectDoesNotExist, ValidationError, ValueError) as error:
                outcomes[message.id] = refused(_first_line(error), permanent=False)  # it may be a bug in the adapter
        return pairs

    def _missing_references(self, pairs: Sequence[Pair]) -> dict[uuid.UUID, str]:
        """Returns the messages whose rows reference missing targets, with the reasons.

        It makes one query for each referenced model.
        """
        missing: dict[uuid.UUID, str] = {}
        for target, fields in self._references().items():
            values = [(message, row, field, _target(row, field)) for message, row in pairs for field in fields]
            wanted = {value for *_, value in values if value not in (None, _INVALID)}
            found = bulk.existing(target.model, target.name, wanted, self.database)
            for message, row, field, value in values:
                if value is not None and value not in found:
                    missing.setdefault(message.id, _does_not_exist(row, field))
        return missing

    def _references(self) -> dict[models.Field, list[models.ForeignKey]]:
        """Returns the foreign keys to look up, grouped by the field they reference."""
        by_target: dict[models.Field, list[models.ForeignKey]] = {}
        for field in self.model._meta.concrete_fields:
            if not isinstance(field, models.ForeignKey):
                continue
            if field.db_constraint if self.references is None else field.name in self.references:
                by_target.setdefault(field.target_field, []).append(field)
        return by_target

    def _store_together(self, messages: Sequence[ReceivedMessage]) -> Outcomes:
        outcomes: Outcomes = {}
        pairs = self._new_pairs(messages, outcomes)
        with transaction.atomic(using=self.database):
            self._insert(pairs)
        outcomes.update((message.id, stored(row)) for message, row in pairs)
        return outcomes

    def _insert(self, pairs: Sequence[Pair]) -> None:
        if pairs:
            self.before_insert(pairs)
            bulk.insert([row for _, row in pairs], self.database)
            self.after_insert(pairs)

    def _store_after_refusal(self, messages: Sequence[ReceivedMessage]) -> Outcomes:
        try:
            return self._store_by_halves(messages, checked=False)
        except Exception as error:
            if not is_row_error(error):
                raise
            # The commit failed. Django declares foreign keys as deferred, so the database
            # checks them at the commit and does not name the row. Checking them earlier makes
            # SQLite read all its tables, so it is done only on this second attempt.
            return self._store_by_halves(messages, checked=True)

    def _store_by_halves(self, messages: Sequence[ReceivedMessage], checked: bool) -> Outcomes:
        """Stores the good messages of a batch that the database refused.

        The cause may be gone by now, such as a concurrent request with the same messages.
        """
        outcomes: Outcomes = {}
        isolated: dict[uuid.UUID, str] = {}
        pairs = self._new_pairs(messages, outcomes)
        with transaction.atomic(using=self.database):
            self._halve(pairs, outcomes, isolated, checked)
        database_works = any(outcome.state == "stored" for outcome in outcomes.values())
        outcomes.update((key, refused(error, permanent=database_works)) for key, error in isolated.items())
        return outcomes

    def _halve(self, pairs: Sequence[Pair], outcomes: Outcomes, isolated: dict[uuid.UUID, str], checked: bool) -> None:
        try:
            with transaction.atomic(using=self.database):
                self._insert(pairs)
                if checked:
                    connections[self.database].check_constraints()
            outcomes.update((message.id, stored(row)) for message, row in pairs)
            return
        except Exception as error:
            if not is_row_error(error):
                raise
            if len(pairs) == 1:
                self._isolate(pairs[0][0], error, outcomes, isolated)
                return
        middle = len(pairs) // 2
        for half in (pairs[:middle], pairs[middle:]):
            # Build new rows: the insert may have set fields of the old ones before its rollback.
            self._halve([(message, self.build(message)) for message, _ in half], outcomes, isolated, checked)

    def _isolate(
        self, message: ReceivedMessage, error: Exception, outcomes: Outcomes, isolated: dict[uuid.UUID, str]
    ) -> None:
        """Adds the outcome of a message that the database refuses on its own."""
        if self._known([message]):  # a concurrent request stored it first
            outcomes[message.id] = DUPLICATE
        else:
            isolated[message.id] = _first_line(error)


class ModelAdapter(BaseAdapter):
    """Stores messages in the bundled models. The first message of a conversation creates it."""

    model = Message
    references = ()  # before_insert creates missing conversations

    def look_up(self, messages: Sequence[ReceivedMessage]) -> None:
        keys = {message.conversation_id for message in messages} - {None}
        self.conversations = bulk.existing(Conversation, "key", keys, self.database)

    def before_insert(self, pairs: Sequence[Pair]) -> None:
        new: dict[str, datetime.datetime] = {}
        for message, _ in pairs:
            key = message.conversation_id
            if key is not None and key not in self.conversations:
                new.setdefault(key, message.created_at)
        # Sorted, so that concurrent requests lock rows in the same order and cannot deadlock.
        rows = [Conversation(key=key, created_at=new[key]) for key in sorted(new)]
        bulk.insert(rows, self.database, ignore_conflicts=True)

    def build(self, message: ReceivedMessage) -> Message:
        return Message(
            uuid=message.id,
            sequence=message.sequence,
            conversation_id=message.conversation_id,
            sender_id=message.sender_id,
            receiver_id=message.receiver_id,
            text=message.text,
            message_type=message.message_type,
            priority=message.priority,
            metadata=message.metadata,
            extra=message.extra,
            created_at=message.created_at,
            deliver_at=message.deliver_at,
            expires_at=message.expires_at,
        )


def load() -> type[BaseAdapter]:
    """Returns the adapter class named in the settings. Raises ImproperlyConfigured if it is unusable."""
    path = conf.get("ADAPTER")
    try:
        adapter = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"the adapter {path} cannot be imported: {error}") from error
    if not (isinstance(adapter, type) and issubclass(adapter, BaseAdapter)):
        raise ImproperlyConfigured(f"the adapter {path} is not a subclass of BaseAdapter")
    if adapter.store is BaseAdapter.store and not _is_unique(adapter.model, adapter.unique_field):
        raise ImproperlyConfigured(
            f"{adapter.model._meta.label}.{adapter.unique_field} must be unique, so that {path} "
            "stores a message once"
        )
    return adapter


def _is_unique(model: type[models.Model], name: str) -> bool:
    constraints = [constraint.fields for constraint in model._meta.total_unique_constraints]
    return model._meta.get_field(name).unique or (name,) in constraints


def is_row_error(error: Exception) -> bool:
    """Whether the database refuses a row. False means that the database itself fails.

    PostgreSQL reports an operational error for a row that is too large for an index
    (class 54, program limit exceeded). A retry does not help there.
    """
    if isinstance(error, OperationalError):
        cause = error.__cause__
        state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or ""
        return state.startswith("54")
    return isinstance(error, (IntegrityError, DataError, ValidationError, ValueError, OverflowError))


def _first_line(error: Exception) -> str:
    """Returns the first line of an error. PostgreSQL quotes the row in the lines below it."""
    text = "; ".join(error.messages) if isinstance(error, ValidationError) else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0][:MAX_ERROR]


#: Marks a value that the target's field cannot have.
_INVALID = object()


def _target(row: models.Model, field: models.ForeignKey) -> Any:
    """Returns the value that a foreign key references, converted to the type of the target's field."""
    value = getattr(row, field.attname)
    if value is None:
        return None
    try:
        value = field.target_field.to_python(value)
    except ValidationError:
        return _INVALID
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return _INVALID
    setattr(row, field.attname, value)
    return value


def _does_not_exist(row: models.Model, field: models.ForeignKey) -> str:
    target = field.target_field.model._meta.object_name
    return f"{target} {getattr(row, field.attname)} does not exist ({field.name})"[:MAX_ERROR]
