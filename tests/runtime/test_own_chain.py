"""An application with its own Alembic chain in the same database, as docs/applications.md shows."""

import re
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from databases import Database, catalog, url_of
from marks import quick
from pages import examples, section
from support import run_alembic

from nexus_schema import Outcome, upgrade_database
from nexus_schema.database import parse_url

APPLICATION = """
from nexus_schema.models import ApiRequest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table

target_metadata = MetaData()
Table(
    "invoices",
    target_metadata,
    Column("id", Integer, primary_key=True),
    Column("request_id", ForeignKey(ApiRequest.request_id, name="invoices_request_id_fkey"), index=True),
)
"""


class Application:
    """A project of ``alembic init``, with the lines that docs/applications.md adds to its env.py."""

    def __init__(self, directory: Path, url: str) -> None:
        self.config = Config()
        self.config.set_main_option("script_location", str(directory / "alembic"))
        self.config.set_main_option("sqlalchemy.url", str(parse_url(url)).replace("%", "%%"))
        self.versions = directory / "alembic" / "versions"
        ini = Config(directory / "alembic.ini")
        command.init(ini, str(directory / "alembic"), template="generic")
        [example] = examples(section("docs/applications.md", "Beside an application's own chain"), "py")
        helper, _, configure = example.partition("context.configure(")
        added = configure.removeprefix("..., ").partition(")\n")[0]
        env = directory / "alembic" / "env.py"
        text = env.read_text().replace("target_metadata = None", APPLICATION + helper)
        text, number = re.subn(r"(?<=target_metadata=target_metadata)(?=\s*\n)", f", {added}", text)
        assert number == 1
        env.write_text(text)

    def run(self, name: str, *arguments: Any, **options: Any) -> Any:
        return getattr(command, name)(self.config, *arguments, **options)


@pytest.mark.parametrize("first", quick(["theirs", "ours"]))
def test_both_chains_are_independent(empty: Database, head: Database, tmp_path: Path, first: str) -> None:
    url = url_of(empty)
    application = Application(tmp_path, url)
    if first == "ours":
        run_alembic("upgrade", "head", url=url)
    else:  # an existing chain, with a table that is not ours
        (application.versions / "a1.py").write_text(
            "from alembic import op\nrevision, down_revision = 'a1', None\n"
            "def upgrade(): op.execute('CREATE TABLE old_invoices (id int)')\ndef downgrade(): pass\n"
        )
        application.run("upgrade", "head")
        assert upgrade_database(url).outcome is Outcome.UPGRADED
        empty.execute("DROP TABLE old_invoices")
    written = Path(application.run("revision", "invoices", autogenerate=True).path).read_text()
    upgrade = written.partition("def upgrade")[2].partition("def downgrade")[0]
    assert re.findall(r"op\.(\w+)\(", upgrade) == ["create_table", "create_index", "f"]
    application.run("upgrade", "head")
    application.run("check")
    run_alembic("check", url=url)
    assert upgrade_database(url).outcome is Outcome.AT_HEAD
    ours = {key: value for key, value in catalog(empty).items() if "invoices" not in str(key)}
    del ours["relation", "alembic_version_app"]
    assert {key for key in ours if "alembic_version_app" not in key[1]} == set(catalog(head))
    run_alembic("downgrade", "005", url=url)
    run_alembic("upgrade", "head", url=url)
    application.run("downgrade", "base" if first == "ours" else "a1")
    assert "invoices" not in str(catalog(empty))
