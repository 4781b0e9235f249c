"""Alembic's environment: reads the options, finds the database, runs the command in one schema."""

import logging.config
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from alembic import command, context
from sqlalchemy import URL

import alembic_drift.operations
import alembic_online
from nexus_schema import legacy, scripts
from nexus_schema.database import database_url, migration_url, parse_url
from nexus_schema.directives import prepare_merge, process_revision_directives
from nexus_schema.embedded import DATA_DIRECTORY, embedded_server
from nexus_schema.errors import TerminatedError, one_line_errors
from nexus_schema.lock import lock_migrations, name_lock_holder
from nexus_schema.models import Base
from nexus_schema.options import Options
from nexus_schema.session import migration_connection

config = context.config
command_line = hasattr(config.cmd_opts, "cmd")  # else a program calls alembic.command


def configure(**how: Any) -> None:
    """Configure Alembic for the models and our additions to autogenerate."""
    context.configure(
        target_metadata=Base.metadata,
        transaction_per_migration=True,
        compare_server_default=True,  # for roles without the privileges that the plugin needs
        process_revision_directives=process_revision_directives,
        autogenerate_plugins=[
            "alembic.autogenerate.*",
            alembic_drift.PLUGIN,
        ],
        **how,
    )
    alembic_online.enable(context)  # type: ignore[arg-type]


def run_offline(options: Options) -> None:
    """Run without a database: write the SQL of ``--sql``, or process files of revisions only."""
    # This paramstyle does not double the percent signs in the script.
    configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},
        literal_binds=True,
        as_sql=True,
        template_args=prepare_merge(context.script, config.cmd_opts) if merges else None,
    )
    if options.schema is not None and context.is_offline_mode():
        quoted = context.get_context().dialect.identifier_preparer.quote(options.schema)
        context.execute(f"SET search_path TO {quoted}")
    with context.begin_transaction():
        context.run_migrations()


def run_online(options: Options, stack: ExitStack) -> None:
    """Run the command on a program's connection, the database of the variables, or the embedded one."""
    migrates = alembic_online.migrates(context)  # type: ignore[arg-type]
    connection = config.attributes.get("prepared_connection")  # of nexus_schema.upgrade, which holds the lock
    if connection is None:
        # An Engine or a Connection, as Alembic's cookbook passes it.
        database = config.attributes.get("connection")
        if database is None:
            database = migration_url()
        if database is None:
            # Without the repository, there is no directory for an embedded server.
            embedded = "DATABASE_URL" not in os.environ and scripts.IN_REPOSITORY
            database = start_embedded(stack) if embedded else database_url()
        connection = stack.enter_context(migration_connection(database, schema=options.schema))
        if migrates and not alembic_online.plans(context):  # type: ignore[arg-type]
            lock_migrations(connection, wait=config.attributes.get("lock_wait", options.lock_wait))
    of_caller = connection.in_transaction()
    with name_lock_holder(connection):
        configure(connection=connection, on_version_apply=config.attributes.get("on_version_apply", ()))
        heads = context.get_context().get_current_heads()
        if not context.get_context().purge:
            scripts.check_known(context.script, heads)
        if not migrates and not heads:
            legacy.report(connection)
        if not of_caller:
            connection.rollback()  # Alembic begins the transactions
        with scripts.note_progress(context.get_context(), heads), context.begin_transaction():
            context.run_migrations()


def start_embedded(stack: ExitStack) -> URL:
    """Start the embedded PostgreSQL for this command, and print a line about it."""
    root = Path(str(config.config_file_name)).resolve().parent
    url = stack.enter_context(embedded_server(root / DATA_DIRECTORY))
    sys.stderr.write(
        f"DATABASE_URL is not set: using the embedded PostgreSQL in {DATA_DIRECTORY}/ ({url}) until this"
        " command ends; to keep it running and connect: python -m nexus_schema.embedded\n"
    )
    return parse_url(url)


def terminate(*_: object) -> None:
    """End as Ctrl-C does: the running statement on the server is cancelled."""
    raise TerminatedError


if command_line:
    signal.signal(signal.SIGTERM, terminate)
if command_line and config.config_file_name is not None:
    logging.config.fileConfig(config.config_file_name, disable_existing_loggers=False)
merges = getattr(config.cmd_opts, "cmd", (None,))[0] is command.merge
# `alembic revision` without --autogenerate and `alembic history` without --indicate-current need no database.
reads_files_only = (
    merges
    or getattr(config.cmd_opts, "autogenerate", None) is False
    or getattr(config.cmd_opts, "indicate_current", None) is False
)
with one_line_errors(exit_process=command_line), ExitStack() as exits:
    chosen = Options.current()
    scripts.check_numbers(context.script)
    if reads_files_only:  # Alembic would log that it generates SQL
        logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
    if context.is_offline_mode() or reads_files_only:
        run_offline(chosen)
    else:
        run_online(chosen, exits)
