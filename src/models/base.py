"""The declarative base that every model shares."""

from typing import Any, ClassVar

from sqlalchemy import MetaData
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase

# The names PostgreSQL itself gives to what is left unnamed, so that a database made by hand-written SQL
# and one made from the models carry the same names.
NAMING_CONVENTION = {
    "pk": "%(table_name)s_pkey",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ck": "%(table_name)s_%(constraint_name)s_check",
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
}

# An attribute set to None is stored as SQL NULL, not as the JSON value null.
Json = JSONB(none_as_null=True)


class Base(AsyncAttrs, DeclarativeBase):
    """Declarative base; ``AsyncAttrs`` lets ``await row.awaitable_attrs.chunks`` load a relationship."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {dict[str, Any]: Json}  # noqa: RUF012 - SQLAlchemy reads it as it is

    _in_repr: ClassVar[tuple[str, ...]]
    """Columns that tell one row from another; never what a request or response holds."""

    def __repr__(self) -> str:
        """Show key, domain and time, as far as they are loaded: logging a row reads no database."""
        loaded = vars(self)
        shown = ", ".join(f"{name}={loaded[name]!r}" for name in self._in_repr if name in loaded)
        return f"{type(self).__name__}({shown})"
