"""Views that read views of other schemas: in which order to drop and create all of them."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from alembic_drift.kinds.views import VIEWS
from alembic_drift.objects import Key
from alembic_drift.resolution import Resolution


def order(resolutions: Sequence[Resolution]) -> None:
    """Rebuild views that read what changes in another schema, and order all views that are rebuilt.

    A view comes after the views that it reads.
    """
    views = {
        (resolution.name, key.name): (resolution, key)
        for resolution in resolutions
        for key in (*resolution.database, *resolution.models)
        if key.kind in VIEWS.names and key.name not in resolution.clashing
    }
    reads = {view: {*_reads(*of)} for view, of in views.items()}
    changed = {
        (resolution.name, table, column)
        for resolution in resolutions
        for table, column in resolution.changed_columns()
    }
    rebuilt = {(resolution.name, key.name) for resolution in resolutions for key in resolution.rebuilt}

    def must_go(view: tuple[str, str]) -> bool:
        return any(read[:2] in rebuilt or (read[0] != view[0] and read in changed) for read in reads[view])

    own = {view for view, (resolution, key) in views.items() if key in resolution.unmanaged}
    while more := {view for view in views.keys() - rebuilt - own if must_go(view)}:
        rebuilt |= more
        for resolution, key in map(views.__getitem__, sorted(more)):
            resolution.rebuilt.append(key)
    for resolution, key in map(views.__getitem__, sorted(filter(must_go, own))):
        line = f"{key}: unmanaged, and depends on what changes; drop it first"
        resolution.unresolved += [line] if line not in resolution.unresolved else []
    places = count()
    while rebuilt:
        ready = sorted(view for view in rebuilt if not {read[:2] for read in reads[view]} & rebuilt - {view})
        for view in ready or sorted(rebuilt):
            resolution, key = views[view]
            resolution.places[key] = next(places)
            rebuilt.remove(view)


def _reads(resolution: Resolution, view: Key) -> Iterator[tuple[Any, ...]]:
    for catalog in (resolution.database, resolution.models):
        yield from map(tuple, catalog.get(view, {}).get("_reads_in", ()))
