"""The documentation pages: sections by heading, examples by language."""

import re
import textwrap
from pathlib import Path

from programs import ROOT

PLUGIN_PAGES = {"alembic_drift.md", "alembic_online.md"}
"""Pages of the plugins: the tests of the plugins run their examples."""

PAGES = {
    str(file.relative_to(ROOT)): file
    for file in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted(file for file in (ROOT / "docs").glob("*.md") if file.name not in PLUGIN_PAGES),
    )
}


def page(name: str) -> str:
    """Return the text of a page: ``README.md``, ``docs/schema.md``."""
    return (ROOT / name).read_text()


def headings(text: str) -> list[tuple[int, int, str]]:
    """Return the headings of a page: position, level, words."""
    blank = re.sub(r"^ *```.*?^ *```$", lambda code: " " * len(code[0]), text, flags=re.DOTALL | re.MULTILINE)
    found = re.finditer(r"^(#+) (.*)$", blank, re.MULTILINE)
    return [(heading.start(), len(heading[1]), heading[2]) for heading in found]


def section(name: str, heading: str) -> str:
    """Return the text under a heading, up to the next heading of the same or a higher level."""
    text = page(name)
    found = headings(text)
    [(start, level)] = [(start, level) for start, level, words in found if words == heading]
    end = next((later for later, other, _ in found if later > start and other <= level), len(text))
    return text[start:end]


def examples(text: str, language: str) -> list[str]:
    """Return the code blocks of a language, without the indentation of a list around them."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(code) for _, code in found]


def cells(text: str) -> list[list[str]]:
    """Return the rows of all tables in a text, with the header rows, without the separators below them."""
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows]


def code(text: str) -> list[str]:
    """Return the texts in backticks, outside of code blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(file: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    words = [words for _, _, words in headings(file.read_text())]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in words}
