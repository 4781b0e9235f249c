"""Views that read views of other schemas: in which order to drop and create all of them."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from alembic_drift.kinds.views import VIEWS
from alembic_drift.mending import Mending
from alembic_drift.objects import Key


def order(mendings: Sequence[Mending]) -> None:
    """Rebuild views that read what changes in another schema, and order all views that are rebuilt.

    A view comes after the views that it reads.
    """
    views = {
        (mending.name, key.name): (mending, key)
        for mending in mendings
        for key in (*mending.database, *mending.models)
        if key.kind in VIEWS.names and key.name not in mending.clashing
    }
    reads = {view: {*_reads(*of)} for view, of in views.items()}
    changed = {
        (mending.name, table, column) for mending in mendings for table, column in mending.changed_columns()
    }
    rebuilt = {(mending.name, key.name) for mending in mendings for key in mending.rebuilt}

    def must_go(view: tuple[str, str]) -> bool:
        return any(read[:2] in rebuilt or (read[0] != view[0] and read in changed) for read in reads[view])

    own = {view for view, (mending, key) in views.items() if key in mending.own}
    while more := {view for view in views.keys() - rebuilt - own if must_go(view)}:
        rebuilt |= more
        for mending, key in map(views.__getitem__, sorted(more)):
            mending.rebuilt.append(key)
    for mending, key in map(views.__getitem__, sorted(filter(must_go, own))):
        line = f"{key}: unmanaged, and depends on what changes; drop it first"
        mending.by_hand += [line] if line not in mending.by_hand else []
    places = count()
    while rebuilt:
        ready = sorted(view for view in rebuilt if not {read[:2] for read in reads[view]} & rebuilt - {view})
        for view in ready or sorted(rebuilt):
            mending, key = views[view]
            mending.places[key] = next(places)
            rebuilt.remove(view)


def _reads(mending: Mending, view: Key) -> Iterator[tuple[Any, ...]]:
    for catalog in (mending.database, mending.models):
        yield from map(tuple, catalog.get(view, {}).get("_reads_in", ()))
