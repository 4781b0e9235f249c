"""Compares the two sides of a schema, fact by fact."""

from collections.abc import Callable, Iterator

import sqlalchemy as sa

from alembic_drift.align import match_renamed, match_unnamed
from alembic_drift.catalog import without_parameters, without_server_options
from alembic_drift.kinds import KIND_OF
from alembic_drift.objects import NAME, REFUSED, Catalog, Difference, Facts, Key, parent, summary, view_of
from alembic_drift.scratch import Both

_EXPRESSIVE = {"index", "constraint", "view", "materialized view", "trigger", "rule", "policy"}
_RELATIONS = {"table", "view", "materialized view", "sequence"}


class Comparison:
    """The differences of one schema, and its unmanaged objects."""

    def __init__(
        self,
        both: Both,
        tables: dict[str, sa.Table],
        dialect: sa.Dialect,
        is_managed: Callable[[Key], bool],
        hidden: Callable[[Key, Catalog, Catalog], bool],
    ) -> None:
        """Compare.

        :param tables: the tables of the models in that schema, including views.
        :param is_managed: whether the revisions created an object.
        :param hidden: whether an object is excluded from the comparison.
        """
        self._is_managed = is_managed
        self._probes = both.probes
        self.database = _shown(both.database, both, hidden)
        self.models = _shown(both.models, both, hidden)
        self.hidden = {key: facts for key, facts in both.database.items() if key not in self.database}
        self.models = match_unnamed(self.database, self.models, tables, dialect)
        self.database, self.models = match_renamed(
            self.database, self.models, lambda key: not self._is_unmanaged(key)
        )
        self.models, self.warnings = both.doubts.apply(self.database, self.models, self._is_unmanaged)
        """Warnings about the objects that cannot be compared."""
        self.differences = [
            Difference(key, REFUSED, None, reason)
            for key, reason in sorted(both.refused.items(), key=str)
            if not hidden(key, both.database, both.models)
        ]
        self._without_refused(both.refused)
        self.clashing = self._clashes()
        self.unmanaged: set[Key] = set()
        for key in sorted({*self.database, *self.models}, key=str):
            if key.table in self.clashing or (key.name in self.clashing and key.kind in _RELATIONS):
                continue  # reported as a whole
            if self._is_unmanaged(key):
                self.unmanaged.add(key)
            else:
                self._compare(key)

    def unmanaged_to_report(self) -> Iterator[Key]:
        """Yield the unmanaged objects, except those that belong to another unmanaged object."""
        for key in sorted(self.unmanaged, key=str):
            if not any(self._is_unmanaged(whole) for whole in self._wholes(key)):
                yield key

    def _without_refused(self, refused: dict[Key, str]) -> None:
        """Leave out what was refused: the models' side lacks it, or has a stand-in."""
        tables = {key.name for key in refused if key.kind in {"table", "view", "materialized view"}}

        def is_compared(key: Key, facts: Facts) -> bool:
            owner = facts["_owner"][0] if key.kind == "sequence" else None
            name = key.name if key.kind == "table" else None
            return key not in refused and tables.isdisjoint({key.table, name, owner})

        self.database = {key: facts for key, facts in self.database.items() if is_compared(key, facts)}
        self.models = {key: facts for key, facts in self.models.items() if is_compared(key, facts)}

    def _clashes(self) -> set[str]:
        """Report relations of another kind in the database; return their names."""
        kinds: list[dict[str, str]] = [
            {key.name: key.kind for key in catalog if key.kind in _RELATIONS}
            for catalog in (self.database, self.models)
        ]
        clashing = {name for name, kind in kinds[0].items() if kinds[1].get(name, kind) != kind}
        for name in sorted(clashing):
            key = Key(kinds[1][name], None, name)
            self.differences.append(Difference(key, "kind", kinds[0][name], kinds[1][name]))
        return clashing

    def _is_unmanaged(self, key: Key) -> bool:
        """Return whether an object is unmanaged: it is in no model, and no revision created it.

        What belongs to an unmanaged table or column is unmanaged too. A trigger or rule on a table of the
        models, or a constraint of its columns, is a difference: it changes what can be written.
        """
        if key in self.models or self._is_managed(key):
            return False
        if key.kind == "sequence":
            numbered = parent(key, self.database)
            if numbered is not None and (numbered in self.models or self._is_managed(numbered)):
                return False  # it numbers a column of the models or revisions, and belongs to it
        if key.kind == "column" and self._is_of_view(key):
            return all(self._is_unmanaged(whole) for whole in self._wholes(key))
        if key.table is None or KIND_OF[key.kind].may_be_unmanaged:
            return True
        return any(self._is_unmanaged(whole) for whole in self._wholes(key))

    def _wholes(self, key: Key) -> Iterator[Key]:
        """Yield the table of an object and, for a constraint, its columns in the database."""
        whole = parent(key, self.database)
        if whole is not None:
            yield whole
        if key.kind == "constraint":
            yield from (Key("column", key.table, name) for name in self.database[key].get("_columns", ()))

    def _is_of_view(self, key: Key) -> bool:
        return view_of(key.table, self.database, self.models) is not None

    def _compare(self, key: Key) -> None:
        database, models = self.database.get(key), self.models.get(key)
        if database is None or models is None:
            # A table that exists on one side only is one difference, with all that is created with it.
            side = self.models if database is None else self.database
            other = self.database if database is None else self.models
            whole = parent(key, side)
            with_it = whole is not None and whole not in other and not KIND_OF[key.kind].separate
            of_view = key.kind == "column" and self._is_of_view(key)  # its query shows this
            if not with_it and not of_view:
                self.differences.append(Difference(key, "", summary(database), summary(models)))
            return
        for aspect in sorted({*database, *models}):
            if aspect == "definition" and NAME in database and key.kind == "index":
                continue  # only the name differs
            if aspect.startswith("_") or database.get(aspect) == models.get(aspect):
                continue
            if aspect in {"definition", "query"} and self._is_written_otherwise(key):
                continue
            self.differences.append(Difference(key, aspect, database.get(aspect), models.get(aspect)))

    def _is_written_otherwise(self, key: Key) -> bool:
        """Return whether the models' definition, executed once more, equals the database's."""
        database, models = self.database[key], self.models[key]
        if key.kind not in _EXPRESSIVE or models.get("_type") in {"p", "u", "f"}:
            return False
        said = self._probes.after_round_trip(key, models, KIND_OF[key.kind].recreate)
        if said is None:
            return False
        if "query" in database:
            return bool(database["query"] == said)
        if key.kind in {"index", "constraint"}:
            said = without_server_options(said)
        return bool(database["definition"] == (without_parameters(said) if key.kind == "index" else said))


def _shown(catalog: Catalog, both: Both, hidden: Callable[[Key, Catalog, Catalog], bool]) -> Catalog:
    def is_shown(key: Key) -> bool:
        if hidden(key, both.database, both.models):
            return False
        whole = parent(key, catalog)
        if whole is not None and not is_shown(whole):
            return False
        users = catalog[key].get("_used_by")  # a type that only hidden tables use
        return not users or any(is_shown(Key("table", None, user)) for user in users)

    return {key: facts for key, facts in catalog.items() if is_shown(key)}
