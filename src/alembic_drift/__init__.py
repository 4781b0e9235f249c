"""An Alembic plugin for PostgreSQL: autogenerate and check that see every difference.

Alembic's comparators see tables, columns and most of their indexes and keys. This plugin creates the models
in a scratch schema, in a transaction that is rolled back. It reads both catalogs with the same queries, so it
sees every difference. It is installed by its entry point and runs where env.py lists it::

    context.configure(..., autogenerate_plugins=["alembic.autogenerate.*", "alembic_drift"])

It knows nothing about the tables of a project, and imports only Alembic and SQLAlchemy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alembic.runtime.plugins import Plugin
    from alembic.util import PriorityDispatchResult

__all__ = ["PLUGIN", "setup"]

PLUGIN = "alembic_drift"
"""The name of the plugin in ``autogenerate_plugins``."""


def setup(plugin: Plugin) -> None:
    """Register the comparators: Alembic calls this for the entry point, in every project.

    Alembic is only half imported at this point. Therefore this module imports nothing of Alembic at its top,
    and the comparators import their modules when they are called.
    """
    from alembic.util import DispatchPriority

    for comparator, priority in ((_begin, DispatchPriority.FIRST), (_end, DispatchPriority.LAST)):
        plugin.add_autogenerate_comparator(
            comparator, "schema", PLUGIN, qualifier="postgresql", priority=priority
        )


def _begin(*arguments: Any) -> PriorityDispatchResult:
    from alembic_drift.plugin import begin

    return begin(*arguments)


def _end(*arguments: Any) -> PriorityDispatchResult:
    from alembic_drift.plugin import end

    return end(*arguments)
