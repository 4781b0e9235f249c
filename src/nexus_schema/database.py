"""Database URLs: from the environment, and from the parameters of a connection."""

import os
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo
from sqlalchemy import URL

from nexus_schema.errors import SchemaError

_SCHEMES = {"postgres", "postgresql", "postgresql+psycopg"}
# SQLAlchemy masks the password of a URL, but no other parameter.
_SECRETS = {"sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
_EXAMPLE = "postgresql://user:password@host:5432/database"


def parse_url(value: str, variable: str = "DATABASE_URL") -> URL:
    """Return the SQLAlchemy URL (psycopg 3, for sync and async engines) of a libpq connection URI.

    libpq itself parses the URI, so everything that libpq supports works: several hosts, socket directories,
    sslmode, options. Raises :class:`SchemaError` without repeating the value, which contains a password.

    :param variable: the name of the value in the error message.
    """
    scheme, separator, rest = value.strip().partition("://")
    if not separator:
        raise SchemaError(f"{variable} is not a URL; expected {_EXAMPLE}")
    if scheme not in _SCHEMES:
        shown = f" {scheme}://" if re.fullmatch(r"[a-z0-9+]{1,30}", scheme) else ""
        raise SchemaError(f"{variable} has an unsupported scheme{shown}; expected {_EXAMPLE}")
    parameters: dict[str, Any] | None
    try:
        parameters = {**conninfo_to_dict(f"postgresql://{rest}")}
    except psycopg.ProgrammingError:
        parameters = None
    authority, _, path = rest.partition("?")[0].partition("/")
    # An unescaped @ ends the password early. The rest of it would be shown as the host or the database.
    misread = authority.count("@") > 1 or "@" in path
    if parameters is None or misread or not re.fullmatch(r"[0-9,]*", str(parameters.get("port", ""))):
        # Raised outside the handlers, because libpq's message repeats parts of the URL.
        if unknown := _unknown_parameters(rest):
            instead = "; alembic -x schema=NAME selects a schema" if "schema" in unknown else ""
            raise SchemaError(
                f"{variable} has parameters that libpq does not know: {', '.join(unknown)};"
                f" remove them{instead}"
            )
        raise SchemaError(
            f"{variable} is malformed; expected {_EXAMPLE}, with special characters in the"
            " user name and password percent-encoded (@ as %40, / as %2F)"
        )
    for name in sorted(_SECRETS & parameters.keys()):
        raise SchemaError(
            f"{variable} contains {name}, which would appear in logs; put it into a connection service file"
            " and use ?service=NAME"
        )
    return url_from(parameters)


def _unknown_parameters(rest: str) -> list[str]:
    """Return names after the ``?`` of a URL that libpq does not know; [] if they may be of the password."""
    query = rest.partition("?")[2]
    names = {pair.partition("=")[0] for pair in query.split("&")}
    if "@" in query or not all(re.fullmatch(r"[\w-]{1,40}", name) for name in names):
        return []
    return sorted(names - {option.keyword.decode() for option in Conninfo.get_defaults()})


def url_from(parameters: Mapping[str, Any]) -> URL:
    """Return the SQLAlchemy URL of libpq's connection parameters (``dbname``, ``user``, ``host``, …)."""
    rest = {name: str(value) for name, value in parameters.items()}
    return URL.create(
        "postgresql+psycopg",
        username=rest.pop("user", None),
        password=rest.pop("password", None),
        database=rest.pop("dbname", None),
        query=rest,  # includes host and port, because they may name several servers
    )


def database_url() -> URL:
    """Return the URL in DATABASE_URL, for ``create_engine`` and ``create_async_engine``.

    Raises :class:`SchemaError` when the variable is unset, empty or malformed.
    """
    value = os.environ.get("DATABASE_URL")
    if not (value and value.strip()):
        state = "not set" if value is None else "empty"
        raise SchemaError(f"DATABASE_URL is {state}; set it to {_EXAMPLE}")
    return parse_url(value)


def migration_url() -> URL | None:
    """Return the URL in MIGRATION_DATABASE_URL, which takes precedence for migrations; None when unset.

    Raises :class:`SchemaError` when the variable is malformed.
    """
    value = os.environ.get("MIGRATION_DATABASE_URL", "").strip()
    return parse_url(value, "MIGRATION_DATABASE_URL") if value else None


def in_background(work: Callable[[], Any]) -> "Future[Any]":
    """Run a function in a daemon thread, which does not delay the exit of the process."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised by result()
            future.set_exception(error)

    threading.Thread(target=run, name="nexus_schema", daemon=True).start()
    return future


def connection_parameters(
    connection: "psycopg.Connection[Any] | psycopg.AsyncConnection[Any]",
) -> dict[str, str]:
    """Return the parameters of a connection, including the password, to open another one like it."""
    info = connection.info
    return info.get_parameters() | ({"password": info.password} if info.password else {})
