"""Every operation: the same result online and in one transaction, wherever a run stops."""

from contextlib import suppress
from itertools import chain, count

import pytest
from databases import dump_schema
from marks import quick
from online.cases import CASES, Case
from online.project import Fault, Project, Stop, reset, state
from sqlalchemy.exc import DBAPIError

by_name = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.mark.parametrize("case", quick(CASES, *[*CASES][::2]))
def test_the_result_is_that_of_one_transaction(project: Project, case: Case) -> None:
    project.revision(case.upgrade)
    project.upgrade()
    found = state(project.database)
    reset(project.database)
    before = state(project.database)
    project.upgrade(online=False)
    wanted = state(project.database)
    assert (found - wanted, wanted - found) == (set(), set())
    assert found - {("version", "r1")} != before - {("version",)}


@pytest.mark.thorough
@by_name
def test_a_run_that_stops_anywhere_is_finished_by_the_next(project: Project, case: Case) -> None:
    project.revision(case.upgrade)
    project.upgrade(online=False)
    wanted = state(project.database)
    # At every 12th place, and after 24 places at every 36th. The next cases stop at the places between.
    first = 1 + list(CASES.values()).index(case) % 12
    for number in chain(range(first, 24, 12), count(24 + 3 * first, 36)):
        reset(project.database)
        stop = Stop(number)
        with suppress(Fault):
            project.upgrade(hooks=[stop])
        if not stop.reached:
            break
        project.upgrade()
        found = state(project.database)
        assert (found - wanted, wanted - found) == (set(), set()), stop.reached
    assert number > 3


@pytest.mark.thorough
@pytest.mark.parametrize("case", list(CASES.values())[::8], ids=list(CASES)[::8])
def test_a_run_with_a_repeatedly_terminated_server_process(project: Project, case: Case) -> None:
    """Each run ends one statement later than the previous one, and begins with the state that it left."""
    project.revision(case.upgrade)
    project.upgrade(online=False)
    wanted, dumped = state(project.database), dump_schema(project.database)
    reset(project.database)
    for number in count(2):
        stop = Stop(number, kill=project.database)
        with suppress(DBAPIError):
            project.upgrade(hooks=[stop])
        if not stop.reached:
            break
    found = state(project.database)
    assert (found - wanted, wanted - found) == (set(), set())
    assert dump_schema(project.database) == dumped


@pytest.mark.parametrize(
    "case",
    quick(
        {name: case for name, case in CASES.items() if not case.reads},
        *[name for name, case in CASES.items() if case.stalls and not case.reads][::2],
    ),
)
def test_the_script_does_the_same(project: Project, case: Case) -> None:
    project.revision(case.upgrade)
    project.upgrade(online=False)
    wanted = state(project.database)
    reset(project.database)
    result = project.run_script()
    assert result.returncode == 0, result.stderr
    found = state(project.database)
    assert (found - wanted, wanted - found) == (set(), set())
