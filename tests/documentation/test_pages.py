"""Every page: its links work, its commands and paths exist, and a test runs its examples."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest
from alembic.config import CommandLine
from documentation.shell import command_lines
from pages import PAGES, anchors, cells, code, page, section
from programs import ROOT

MADE = {"alembic/versions/008_add_request_region.py", "src/models/daily_metrics.py"}
"""Files that the reader creates when following docs/revisions.md."""

EXAMPLES = {
    "README.md": {"mermaid": 1, "py": 1, "python": 1, "sh": 5, "text": 1},
    "CONTRIBUTING.md": {"sh": 3},
    "docs/adopting.md": {"sh": 4, "text": 2},
    "docs/applications.md": {"py": 1, "python": 4, "sh": 2},
    "docs/autogenerate.md": {"py": 2, "toml": 1},
    "docs/benchmarks.md": {"sh": 1},
    "docs/growing.md": {"sh": 2, "sql": 4},
    "docs/online.md": {"sh": 1, "sql": 1, "text": 1},
    "docs/operating.md": {"sh": 2, "toml": 1},
    "docs/revisions.md": {"console": 1, "diff": 4, "py": 6, "sh": 3, "text": 1},
    "docs/schema.md": {"sql": 1},
    "docs/troubleshooting.md": {"sh": 1},
}
"""The number of examples in each page. A new example needs a test that runs it from the text."""


def test_every_example_has_a_test() -> None:
    """In this folder, or where benchmarks, wheel and embedded server are tested."""
    found = {
        name: dict(Counter(re.findall(r"^ *```(\w+)$", file.read_text(), re.MULTILINE)))
        for name, file in PAGES.items()
    }
    assert found == EXAMPLES


@pytest.mark.parametrize("name", PAGES)
def test_its_links_work(name: str) -> None:
    file = PAGES[name]
    for target in re.findall(r"\]\(([^)]+)\)", file.read_text()):
        path, _, heading = target.partition("#")
        if path.startswith("https:"):
            continue
        linked = file.parent / path if path else file
        assert linked.exists(), target
        assert not heading or heading in anchors(linked), target


def named_commands(name: str) -> Iterator[str]:
    """Yield the commands of Alembic that a page names, in its text or its examples."""
    for line in [*code(page(name)), *command_lines(page(name))]:
        found = re.search(r"(?:^|&& )(?:alembic|python -m nexus_schema) (.*)$", line)
        if found is not None and "NAME=VALUE" not in line:
            yield found[1].rstrip("…")


@pytest.mark.parametrize("name", PAGES)
def test_the_commands_it_names_exist(name: str) -> None:
    parser = CommandLine().parser
    for line in named_commands(name):
        words = re.findall(r"'[^']*'|\S+", line)
        if words[-1] in {"upgrade", "downgrade", "merge", "stamp", "-m"}:  # the text can omit the arguments
            words.append("x")
        options = parser.parse_args(words)
        for option in options.x or ():
            named = option.partition("=")[0]
            assert named in {"schema", "online", "lock_wait", "allow_data_loss", "account_domains"}, line


@pytest.mark.parametrize("name", PAGES)
def test_the_paths_it_names_exist(name: str) -> None:
    for place in code(page(name)):
        if re.match(r"(src|tests|docs|alembic|benchmarks|examples|\.ci|\.github)/\S*$", place):
            assert (ROOT / place).exists() or place in MADE, place


def test_the_layout_is_complete() -> None:
    """The table has each module of nexus_schema."""
    named: set[str] = set()
    for places, _ in cells(section("CONTRIBUTING.md", "Layout"))[1:]:
        folder = ""
        for place in code(places):
            folder = place.rpartition("/")[0] if "/" in place else folder
            named.add(place if "/" in place else f"{folder}/{place}")
    assert all((ROOT / place).exists() for place in named)
    modules = {f"src/nexus_schema/{file.name}" for file in (ROOT / "src" / "nexus_schema").glob("*.py")}
    assert modules - named == {"src/nexus_schema/__init__.py"}
