"""Autogenerate and check that miss nothing: an Alembic plugin for any project on PostgreSQL.

Alembic's comparators see tables, columns and most of their indexes and keys. This plugin has the server
make the models in a scratch schema, in a transaction that is undone, and reads both catalogs with the same
queries, so it sees whatever differs. It is installed by its entry point and runs where env.py lists it::

    context.configure(..., autogenerate_plugins=["alembic.autogenerate.*", "alembic_drift"])

It knows nothing about the tables, and imports Alembic and SQLAlchemy alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alembic.runtime.plugins import Plugin
    from alembic.util import PriorityDispatchResult

__all__ = ["PLUGIN", "setup"]

PLUGIN = "alembic_drift"
"""What ``autogenerate_plugins`` calls it."""


def setup(plugin: Plugin) -> None:
    """Register the comparators, and no more: Alembic calls this for the entry point, in every project.

    Alembic itself is half imported by then, or this module is what imports it: so nothing of Alembic is
    imported above, and the comparators import their modules when they are called.
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
