"""The declarative base that every model shares."""

from typing import Any, ClassVar

from sqlalchemy import MetaData
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase

# The names that PostgreSQL chooses for unnamed objects, so that hand-written SQL and the models create the
# same names.
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
    """Columns that identify a row; never the contents of a request or response."""

    def __repr__(self) -> str:
        """Show the key, domain and time if they are loaded: logging a row never queries the database."""
        loaded = vars(self)
        shown = ", ".join(f"{name}={loaded[name]!r}" for name in self._in_repr if name in loaded)
        return f"{type(self).__name__}({shown})"
