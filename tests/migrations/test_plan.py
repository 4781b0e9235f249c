"""-x online=plan for this project's chain: what adoption would resolve, and that nothing changes."""

import logging
import re
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from alembic.config import Config
from databases import Database, as_role, catalog, content, url_of
from legacy_databases import KINDS, build
from marks import quick
from migrations.fitting import store
from online.planned import Printed, Watched, agree, plan_of, steps
from programs import ROOT, alembic_program
from sqlalchemy import Engine, event
from support import HEAD, run_alembic

FEW = ["bootstrap", *[*KINDS][::14]]


class _Ours:
    """This project, as :func:`plan_of` takes it."""

    def config(self, *, online: bool, options: Any = (), **_: Any) -> Config:
        assert online
        return Config(ROOT / "alembic.ini", cmd_opts=Namespace(x=options))


def plan(database: Database, monkeypatch: pytest.MonkeyPatch, target: str = "head") -> Printed:
    monkeypatch.setenv("DATABASE_URL", url_of(database))
    return plan_of(_Ours(), target)


def everything(database: Database) -> Any:
    tables = database.execute("SELECT oid::regclass::text, xmin::text FROM pg_class ORDER BY 1").fetchall()
    return catalog(database), content(database), tables


@pytest.mark.parametrize("kind", quick(FEW, "bootstrap"))
def test_it_prints_what_adoption_resolves(
    empty: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    build(empty, KINDS[kind])
    before = everything(empty)
    printed = plan(empty, monkeypatch)
    assert everything(empty) == before
    assert printed.error == ""
    first = printed.text.partition("\nupgrade 000 -> 001")[0]
    assert "only to this point" not in first
    caplog.set_level(logging.INFO, "nexus_schema.legacy")
    caplog.clear()
    run_alembic("upgrade", "000", url=url_of(empty))
    logged = [re.sub(r" in \d+ rows?$", "", record.getMessage()) for record in caplog.records]
    said = re.findall(
        r"^  (?:adoption: (.*)|((?:found |missing, |index .* dropped: ).*))$", first, re.MULTILINE
    )
    said = [adopted or other for adopted, other in said]
    assert said == logged


@contextmanager
def watching(watched: Watched) -> Iterator[None]:
    """Watch the statements of all engines."""
    event.listen(Engine, "before_cursor_execute", watched.before)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", watched.before)


@pytest.mark.parametrize("kind", quick(FEW, "bootstrap"))
def test_its_first_revision_is_exact(empty: Database, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Except for the indexes of the view: it is not known whether it will have rows."""
    build(empty, KINDS[kind])
    printed = plan(empty, monkeypatch, "000")
    watched = Watched(empty)
    with watching(watched):
        run_alembic("upgrade", "000", url=url_of(empty), x={"online": "true"})
    planned, ran = (
        [step for step in found if "onhourly_stats(" not in step.statements]
        for found in (steps(printed), watched.steps)
    )
    agree(planned, ran)


def test_007_is_exact(at_revision: Callable[[str], Database], monkeypatch: pytest.MonkeyPatch) -> None:
    database = at_revision("006")
    store(database, [{"name": "Task", "prompt": "go"}], [])
    printed = plan(database, monkeypatch, "007")
    watched = Watched(database)
    with watching(watched):
        run_alembic("upgrade", "007", url=url_of(database), x={"online": "true"})
    agree(steps(printed), watched.steps)


@pytest.mark.thorough
def test_by_a_role_that_may_only_read(empty: Database, role: str) -> None:
    build(empty, KINDS["bootstrap"])
    empty.execute(
        f"REVOKE TEMP ON DATABASE {empty.info.dbname} FROM PUBLIC;"
        f" GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    )
    before = everything(empty)
    with psycopg.connect(url_of(empty), autocommit=True) as other:  # a running migration
        other.execute("SELECT pg_advisory_lock(hashtextextended('nexus_schema public', 0))")
        done = alembic_program("-x", "online=plan", "upgrade", "head", url=as_role(empty, role))
    assert everything(empty) == before
    assert done.returncode == 0, done.stderr
    assert "  this role cannot run it: " in done.stdout
    assert "  adoption: index idx_requests_domain renamed to idx_api_requests_domain\n" in done.stdout
    assert "not known: it cannot be tried on an empty copy (permission denied" in done.stdout


def test_what_cannot_be_adopted_is_refused_with_status_1(empty: Database) -> None:
    empty.execute("CREATE TABLE api_requests (request_id text)")
    before = everything(empty)
    done = alembic_program("-x", "online=plan", "upgrade", "head", url=url_of(empty))
    assert done.returncode == 1
    assert (
        '  refused: nothing was changed: the upgrade cannot adopt this database: "api_requests' in done.stdout
    )
    assert done.stdout.endswith("; 1 refused\n")
    assert everything(empty) == before


@pytest.mark.thorough
def test_at_head_there_is_nothing_to_do(head: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan(head, monkeypatch).text == f"nothing to do: the database is at {HEAD}\n0 revisions, 0 steps\n"


@pytest.mark.thorough
def test_a_downgrade_that_checks_for_data_loss_is_refused(at_revision: Callable[[str], Database]) -> None:
    database = at_revision("006")
    done = alembic_program("-x", "online=plan", "downgrade", "-1", url=url_of(database))
    assert done.returncode == 1
    assert "  refused: this downgrade has to lock conversation_metrics" in done.stdout
    allowed = ("-x", "online=plan", "-x", "allow_data_loss=true")
    done = alembic_program(*allowed, "downgrade", "-1", url=url_of(database))
    assert done.returncode == 0
    assert "-- ACCESS EXCLUSIVE on conversation_metrics: everybody waits, briefly" in done.stdout


def test_a_command_without_a_plan_is_one_line(head: Database) -> None:
    done = alembic_program("-x", "online=plan", "check", url=url_of(head))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        "error: -x online=plan is for alembic upgrade and alembic downgrade",
    )
