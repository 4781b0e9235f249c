"""Which database DATABASE_URL names, and which values are refused."""

import pytest
from sqlalchemy import create_engine

from nexus_schema.database import database_url, parse_url
from nexus_schema.errors import SchemaError


def connect_arguments(value: str) -> dict[str, object]:
    """Return the arguments that psycopg.connect receives."""
    engine = create_engine(parse_url(value))
    arguments = dict(engine.dialect.create_connect_args(engine.url)[1])
    del arguments["context"]  # SQLAlchemy's own
    return arguments


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_scheme_of_postgresql(scheme: str) -> None:
    found = connect_arguments(f"{scheme}://anna:p%40ss@db.example:5433/nexus")
    assert {key: str(value) for key, value in found.items()} == {
        "user": "anna",
        "password": "p@ss",
        "host": "db.example",
        "port": "5433",
        "dbname": "nexus",
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("postgresql://h/d?sslmode=require", {"host": "h", "dbname": "d", "sslmode": "require"}),
        ("postgresql:///d?host=/var/run/postgresql", {"host": "/var/run/postgresql", "dbname": "d"}),
        ("postgresql://%2Fvar%2Frun/d", {"host": "/var/run", "dbname": "d"}),
        (
            "postgresql://h/d?options=-c%20search_path%3Dx",
            {"host": "h", "dbname": "d", "options": "-c search_path=x"},
        ),
        ("postgresql://[::1]:5432/d", {"host": "::1", "port": "5432", "dbname": "d"}),
        ("postgresql://a:1,b:2/d", {"host": "a,b", "port": "1,2", "dbname": "d"}),
        ("postgresql://h/d?password=secret", {"host": "h", "dbname": "d", "password": "secret"}),
        ("postgresql://", {}),
    ],
)
def test_parameters_of_libpq(value: str, expected: dict[str, str]) -> None:
    assert {key: str(given) for key, given in connect_arguments(value).items()} == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("mysql://u:secret@h/d", "unsupported scheme mysql://"),
        ("postgresql+asyncpg://u:secret@h/d", "unsupported scheme postgresql[+]asyncpg://"),
        ("SECRET secret://h", "unsupported scheme;"),
        ("host=h password=secret", "not a URL"),
        ("postgresql://u:secret@h:54x2/d", "malformed"),
        ("postgresql://u:secret/with#slash@h/d", "malformed"),
        ("postgresql://u:%zzsecret@h/d", "malformed"),
        ("postgresql://u:secret@h/d?nonsense=1", "libpq does not know: nonsense; remove"),
        (
            "postgresql://u:secret@h/d?schema=public&sslmode=require&pgbouncer=true",
            "know: pgbouncer, schema; remove them; alembic -x schema=NAME",
        ),
        ("postgresql://u:se?secret=1@h/d?nonsense=1", "malformed"),
        ("postgresql://h/d?se%zzcret=1", "malformed"),
        ("postgresql://h/d?sslmode=%zzsecret", "malformed"),
        ("postgresql://u:p@secret@h/d", "malformed"),
        ("postgresql://u:12/secret@h/d", "malformed"),
        ("postgresql://u:p@secret/x@h/d", "malformed"),
        ("postgresql://h/d?sslpassword=secret", "sslpassword"),
    ],
)
def test_errors_never_show_the_password(value: str, reason: str) -> None:
    with pytest.raises(SchemaError, match=reason) as caught:
        parse_url(value)
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(caught.value.__context__)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["postgresql://u:secret@h/d", "postgresql://h/d?user=u&password=secret"])
def test_a_repr_hides_the_password(value: str) -> None:
    url = parse_url(value)
    assert "secret" not in repr(url) + str(url) + repr(create_engine(url))


@pytest.mark.parametrize(("value", "reason"), [(None, "is not set"), (" ", "is empty")])
def test_the_variable_has_to_be_set(monkeypatch: pytest.MonkeyPatch, value: str | None, reason: str) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    if value is not None:
        monkeypatch.setenv("DATABASE_URL", value)
    with pytest.raises(SchemaError, match=reason):
        database_url()
