"""Reads and writes many rows in few queries, on every database."""

from __future__ import annotations

from typing import Any, Iterable, Optional, Sequence

from django.db import connections, models


def existing(model: type[models.Model], field: str, values: Iterable[Any], using: str) -> set[Any]:
    """Returns those of `values` that some row has in `field`.

    It makes one query. If the database limits the parameters of a query (SQLite: 999),
    it makes one query per chunk.
    """
    wanted = list(values)
    found: set[Any] = set()
    if not wanted:
        return found
    size = connections[using].features.max_query_params or len(wanted)
    rows = model._base_manager.using(using)
    for start in range(0, len(wanted), size):
        chunk = wanted[start : start + size]
        found.update(rows.filter(**{f"{field}__in": chunk}).order_by().values_list(field, flat=True))
    return found


def insert(rows: Sequence[models.Model], using: str, ignore_conflicts: bool = False) -> None:
    """Inserts rows of one model in one query, in the given order.

    It calls ``bulk_create``, except on SQLite. There ``bulk_create`` splits the rows
    into statements of at most 999 parameters, which is 7 statements for 500 messages.
    One prepared statement, executed for each row, has no such limit.
    """
    if not rows:
        return
    statement = _for_each_row(rows, using, ignore_conflicts) if connections[using].vendor == "sqlite" else None
    if statement is None:
        type(rows[0])._base_manager.using(using).bulk_create(rows, ignore_conflicts=ignore_conflicts)
        return
    with connections[using].cursor() as cursor:
        cursor.executemany(*statement)
    for row in rows:
        row._state.adding = False
        row._state.db = using


def _for_each_row(
    rows: Sequence[models.Model], using: str, ignore_conflicts: bool
) -> Optional[tuple[str, list[list[Any]]]]:
    """Returns a statement and the parameters of each row.

    Returns None if one statement does not fit all rows: only some have a key, or the
    database computes a value.
    """
    connection = connections[using]
    meta = rows[0]._meta
    for row in rows:
        if row.pk is None:
            row.pk = meta.pk.get_pk_value_on_save(row)
    without_key = [row.pk is None for row in rows]
    if any(without_key) != all(without_key) or meta.parents:
        return None
    fields = [
        field
        for field in meta.local_concrete_fields
        if not (field.primary_key and all(without_key)) and not getattr(field, "generated", False)
    ]
    values = [[field.pre_save(row, True) for field in fields] for row in rows]
    if any(hasattr(value, "resolve_expression") for row in values for value in row):
        return None
    parameters = [[f.get_db_prep_save(value, connection) for f, value in zip(fields, row)] for row in values]
    quote = connection.ops.quote_name
    columns = ", ".join(quote(field.column) for field in fields)
    placeholders = ", ".join(["%s"] * len(fields))
    verb = "INSERT OR IGNORE INTO" if ignore_conflicts else "INSERT INTO"
    return f"{verb} {quote(meta.db_table)} ({columns}) VALUES ({placeholders})", parameters
