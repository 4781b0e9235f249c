"""The README is true: its two commands, the places it names."""

import re

from programs import ROOT

README = (ROOT / "README.md").read_text()


def test_its_two_commands_are_those_of_ci() -> None:
    ci = (ROOT / ".ci" / "run").read_text().replace("--quiet ", "")
    assert "pip install -e '.[embedded]' && alembic upgrade head\n" in README
    assert "pip install -e '.[embedded]' && alembic upgrade head\n" in ci
    assert "pip install -e '.[test]' && pytest\n" in README
    assert re.search(r"pip install -e '\.\[test\]'\n.*\npytest\npytest -m thorough\n", ci, re.DOTALL)


def test_the_places_it_names_exist() -> None:
    table = README.partition("## Where things are")[2].partition("##")[0]
    for cell in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE):
        folder = ""
        for name in re.findall(r"`([^`]+)`", cell):
            path = ROOT / (name if "/" in name else folder + name)
            assert path.exists(), name
            folder = name.rpartition("/")[0] + "/" if "/" in name else folder
