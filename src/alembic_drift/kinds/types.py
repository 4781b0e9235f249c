"""Enumerated types and domains. Composite, range and base types are told."""

from copy import copy
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic_drift.mending import Kind, Mending
from alembic_drift.mending import Operations as Planned
from alembic_drift.objects import Facts, Key
from alembic_drift.operations import TYPE_DEFINITION, CreateTypeOp, DropTypeOp
from alembic_drift.order import Phase

_QUERY = """\
SELECT CASE typtype WHEN 'd' THEN 'domain' ELSE 'type' END, NULL, typname, jsonb_build_object(
    'definition', @DEFINITION,
    '_makeable', typtype IN ('d', 'e'),
    '_used_by', (SELECT jsonb_agg(DISTINCT relname) FROM pg_attribute JOIN heaps ON heaps.oid = attrelid
        WHERE atttypid IN (pg_type.oid, typarray) AND attnum > 0 AND NOT attisdropped),
    'comment', obj_description(pg_type.oid, 'pg_type'))
FROM pg_type
WHERE typnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :schema)
  AND (typtype IN ('e', 'd', 'r') OR typrelid IN (SELECT oid FROM relations WHERE relkind = 'c')
      OR (typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type AS element WHERE element.typarray = pg_type.oid)))
  AND ('pg_type'::regclass, oid) NOT IN (TABLE extensions)""".replace("@DEFINITION", TYPE_DEFINITION)

Type = sa.types.TypeEngine[Any]


def _mend(mending: Mending, key: Key, aspects: set[str]) -> set[str]:
    database, models = mending.sides(key)
    facts = models or database or {}
    if database is not None and models is not None:
        mending.comment(key)
        return aspects - {"comment"}
    if not facts["_makeable"]:
        return aspects
    drop: Planned = [DropTypeOp(key.name, kind=key.kind, schema=mending.schema)]
    if models is not None:
        mending.both(Phase.TYPES, _create(mending, key, facts), drop)
    else:
        mending.both(Phase.FUNCTIONS_GO, drop, _create(mending, key, facts))
    return set()


def _create(mending: Mending, key: Key, facts: Facts) -> Planned:
    create = CreateTypeOp(key.name, facts["definition"], kind=key.kind, schema=mending.schema)
    return [create, *mending.comment_of(key, facts)]


def plain(type_: Type) -> Type:
    """Return a column's type without what SQLAlchemy would make with the column.

    An enumerated type and a domain are made by operations of their own, once for all columns, and a check of
    the values by one that adds a constraint.
    """
    if isinstance(type_, sa.ARRAY):
        inner = plain(type_.item_type)
        if inner is type_.item_type:
            return type_
        array = copy(type_)
        array.item_type = inner
        return array
    if isinstance(type_, sa.TypeDecorator) and isinstance(type_.impl_instance, sa.Enum | postgresql.DOMAIN):
        return plain(type_.impl_instance)
    if isinstance(type_, sa.Enum) and type_.native_enum and type_.name:
        return postgresql.ENUM(*type_.enums, name=type_.name, schema=type_.schema, create_type=False)
    if isinstance(type_, postgresql.DOMAIN):
        domain = copy(type_)
        domain.create_type = False
        return domain
    if isinstance(type_, sa.Enum | sa.Boolean) and type_.create_constraint:
        unchecked = copy(type_)
        unchecked.create_constraint = False
        return unchecked
    return type_


TYPES = Kind(("type", "domain"), _QUERY, _mend)
