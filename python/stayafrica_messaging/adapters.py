"""How messages become rows, and how a project puts its own models in.

The bundled models need nothing. For its own a project writes an adapter and names
it in its settings::

    STAYAFRICA_MESSAGING = {"ADAPTER": "chat.messaging.ChatAdapter"}

    class ChatAdapter(BaseAdapter):
        model = ChatMessage            # has uuid = models.UUIDField(unique=True)

        def build(self, message):
            return ChatMessage(
                uuid=message.id,
                conversation_id=message.conversation_id,   # foreign keys: what they refer to
                sender_id=message.sender_id,               # is looked up, once for the batch
                body=message.text,
                sent_at=message.created_at,
            )

That is all: the batch is stored in four queries, each message once, and a message
of a user or a conversation that does not exist is refused by itself.
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
from .receive import DUPLICATE, Outcome, ReceivedMessage, refused, stored

#: A message and the row that is made of it.
Pair = tuple[ReceivedMessage, models.Model]
#: What became of messages, by their ids.
Outcomes = dict[uuid.UUID, Outcome]

#: How long a reason may be, in characters.
MAX_ERROR = 500


class Refused(Exception):
    """An adapter will not have a message: the text says why.

    It is permanent, unless said otherwise: the service then gives the message up at
    once, and it stays among the dead letters until somebody redrives it.
    """

    def __init__(self, error: str, permanent: bool = True) -> None:
        super().__init__(error)
        self.permanent = permanent


class BaseAdapter:
    """Stores messages as rows of a model. A new one is made for each batch, so it
    may keep in itself what it looked up.

    A subclass has `model` and :meth:`build`. The other hooks are for what a project
    needs beside: :meth:`look_up`, :meth:`before_insert`, :meth:`after_insert`. One
    that keeps messages elsewhere replaces :meth:`store` whole.

    All rows of a batch are stored in one transaction. When the database refuses
    it, the batch is halved within that transaction until the bad messages stand
    alone, and those are refused by themselves. Such a refusal is permanent if the
    database took others of the same batch; if it took none, a column may be
    missing or a default, and the messages must not be given up for that.
    """

    #: The model whose rows messages become.
    model: ClassVar[type[models.Model]]
    #: Its field for the message's id: unique, and a UUIDField or a CharField(36).
    unique_field: ClassVar[str] = "uuid"
    #: The foreign keys of the model whose targets must exist, looked up once for the
    #: batch; None: all that the database enforces. Empty where the adapter itself
    #: makes sure of them.
    references: ClassVar[Optional[Sequence[str]]] = None

    # What a project writes.

    def build(self, message: ReceivedMessage) -> models.Model:
        """The row of a message, unsaved; :class:`Refused` if there can be none.

        It may be called again for the same message. It should not ask the database:
        that would be a query for each message; :meth:`look_up` asks once for all.
        """
        raise NotImplementedError

    def look_up(self, messages: Sequence[ReceivedMessage]) -> None:
        """Reads what :meth:`build` needs, for all messages at once, into the adapter.
        Runs before the transaction, and again if that failed."""

    def before_insert(self, pairs: Sequence[Pair]) -> None:
        """Writes what the rows need, in their transaction. It may be called again
        for some of them when all that it wrote was rolled back, so it must not
        remember that it did."""

    def after_insert(self, pairs: Sequence[Pair]) -> None:
        """Writes what follows from the new rows, in their transaction. Their primary
        keys are set where the database gives them back from a bulk insert
        (PostgreSQL does). What others should hear of belongs in the signal
        ``message_persisted``, which is sent after the commit."""

    # What there is.

    @cached_property
    def database(self) -> str:
        """The alias of the database that is written to, and read from, too: a replica
        may lag."""
        return router.db_for_write(self.model)

    def check(self) -> None:
        """Raises :class:`django.db.Error` when messages could not be stored now: the
        database is down, or the table is not there."""
        self.model._base_manager.using(self.database).order_by().values_list("pk").first()

    def store(self, messages: Sequence[ReceivedMessage]) -> list[Outcome]:
        """Stores messages, which all have different ids, in the order given; what
        became of each, in the same order.

        Raises :class:`django.db.Error` when the database is not in order: nothing
        is stored then.
        """
        try:
            outcomes = self._store_together(messages)
        except Exception as error:
            if not blames_a_row(error):
                raise
            outcomes = self._store_with_care(messages)
        return [outcomes[message.id] for message in messages]

    # How it is done.

    def _new_pairs(self, messages: Sequence[ReceivedMessage], outcomes: Outcomes) -> list[Pair]:
        """Rows for those messages that can be stored; outcomes for the others. It
        reads outside of the transaction: one of SQLite that reads before it writes
        cannot wait for another to end."""
        known = self._known(messages)
        outcomes.update((message.id, DUPLICATE) for message in messages if message.id in known)
        new = [message for message in messages if message.id not in known]
        if not new:
            return []
        self.look_up(new)
        pairs = self._built(new, outcomes)
        lacking = self._lacking(pairs)
        outcomes.update((key, refused(error, permanent=True)) for key, error in lacking.items())
        return [pair for pair in pairs if pair[0].id not in lacking]

    def _known(self, messages: Sequence[ReceivedMessage]) -> set[uuid.UUID]:
        """The ids of those that are stored."""
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
                outcomes[message.id] = refused(_sentence(error), permanent=False)  # or the adapter has a bug
        return pairs

    def _lacking(self, pairs: Sequence[Pair]) -> dict[uuid.UUID, str]:
        """Messages whose rows refer to what is not there: ids and reasons. One query
        for each model that they refer to."""
        lacking: dict[uuid.UUID, str] = {}
        for target, fields in self._references().items():
            values = [(message, row, field, _target(row, field)) for message, row in pairs for field in fields]
            wanted = {value for *_, value in values if value not in (None, _NONSENSE)}
            there = bulk.existing(target.model, target.name, wanted, self.database)
            for message, row, field, value in values:
                if value is not None and value not in there:
                    lacking.setdefault(message.id, _does_not_exist(row, field))
        return lacking

    def _references(self) -> dict[models.Field, list[models.ForeignKey]]:
        """The foreign keys to look up, by the fields that they refer to."""
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

    def _store_with_care(self, messages: Sequence[ReceivedMessage]) -> Outcomes:
        try:
            return self._store_apart(messages, checked=False)
        except Exception as error:
            if not blames_a_row(error):
                raise
            # It was the commit that failed: foreign keys, as Django declares them, are
            # checked only then, which is too late to tell the row. To check them before,
            # SQLite reads all its tables.
            return self._store_apart(messages, checked=True)

    def _store_apart(self, messages: Sequence[ReceivedMessage], checked: bool) -> Outcomes:
        """Stores what can be stored of a batch that the database has refused. What
        stood in its way may be gone, too: a request that brought the same."""
        outcomes: Outcomes = {}
        alone: dict[uuid.UUID, str] = {}
        pairs = self._new_pairs(messages, outcomes)
        with transaction.atomic(using=self.database):
            self._halve(pairs, outcomes, alone, checked)
        proved = any(outcome.state == "stored" for outcome in outcomes.values())
        outcomes.update((key, refused(error, permanent=proved)) for key, error in alone.items())
        return outcomes

    def _halve(self, pairs: Sequence[Pair], outcomes: Outcomes, alone: dict[uuid.UUID, str], checked: bool) -> None:
        try:
            with transaction.atomic(using=self.database):
                self._insert(pairs)
                if checked:
                    connections[self.database].check_constraints()
            outcomes.update((message.id, stored(row)) for message, row in pairs)
            return
        except Exception as error:
            if not blames_a_row(error):
                raise
            if len(pairs) == 1:
                self._blame(pairs[0][0], error, outcomes, alone)
                return
        middle = len(pairs) // 2
        for half in (pairs[:middle], pairs[middle:]):
            # New rows: what a database set in the old ones was rolled back.
            self._halve([(message, self.build(message)) for message, _ in half], outcomes, alone, checked)

    def _blame(
        self, message: ReceivedMessage, error: Exception, outcomes: Outcomes, alone: dict[uuid.UUID, str]
    ) -> None:
        """Settles a message that cannot be stored even by itself."""
        if self._known([message]):  # a twin came first after all
            outcomes[message.id] = DUPLICATE
        else:
            alone[message.id] = _sentence(error)


class ModelAdapter(BaseAdapter):
    """Stores messages in the bundled models; a conversation begins with its first message."""

    model = Message
    references = ()  # the conversation is made if it is not there

    def look_up(self, messages: Sequence[ReceivedMessage]) -> None:
        keys = {message.conversation_id for message in messages} - {None}
        self.conversations = bulk.existing(Conversation, "key", keys, self.database)

    def before_insert(self, pairs: Sequence[Pair]) -> None:
        begun: dict[str, datetime.datetime] = {}
        for message, _ in pairs:
            key = message.conversation_id
            if key is not None and key not in self.conversations:
                begun.setdefault(key, message.created_at)
        # In one order for all requests, so that no two wait for each other.
        rows = [Conversation(key=key, created_at=begun[key]) for key in sorted(begun)]
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
    """The adapter's class that the settings name; ImproperlyConfigured if it cannot work."""
    path = conf.get("ADAPTER")
    try:
        adapter = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"the adapter {path} cannot be imported: {error}") from error
    if not (isinstance(adapter, type) and issubclass(adapter, BaseAdapter)):
        raise ImproperlyConfigured(f"the adapter {path} is no subclass of BaseAdapter")
    if adapter.store is BaseAdapter.store and not _is_unique(adapter.model, adapter.unique_field):
        raise ImproperlyConfigured(
            f"{adapter.model._meta.label}.{adapter.unique_field} must be unique: it is what keeps {path} "
            "from storing a message twice"
        )
    return adapter


def _is_unique(model: type[models.Model], name: str) -> bool:
    constraints = [constraint.fields for constraint in model._meta.total_unique_constraints]
    return model._meta.get_field(name).unique or (name,) in constraints


def blames_a_row(error: Exception) -> bool:
    """Whether it is a row that the database refuses, or is the database out of order.

    PostgreSQL calls it operational when a row is too large for an index (class 54,
    program limit exceeded): waiting would not mend that.
    """
    if isinstance(error, OperationalError):
        cause = error.__cause__
        state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or ""
        return state.startswith("54")
    return isinstance(error, (IntegrityError, DataError, ValidationError, ValueError, OverflowError))


def _sentence(error: Exception) -> str:
    """The error's first line: what PostgreSQL says below it quotes the row."""
    text = "; ".join(error.messages) if isinstance(error, ValidationError) else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0][:MAX_ERROR]


#: Stands for a value that the target's field cannot have.
_NONSENSE = object()


def _target(row: models.Model, field: models.ForeignKey) -> Any:
    """What a row refers to, as a value of the target's field."""
    value = getattr(row, field.attname)
    if value is None:
        return None
    try:
        value = field.target_field.to_python(value)
    except ValidationError:
        return _NONSENSE
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return _NONSENSE
    setattr(row, field.attname, value)
    return value


def _does_not_exist(row: models.Model, field: models.ForeignKey) -> str:
    target = field.target_field.model._meta.object_name
    return f"{target} {getattr(row, field.attname)} does not exist ({field.name})"[:MAX_ERROR]
