"""What differs between the two sides of a schema: facts against facts."""

from collections.abc import Callable, Iterator

import sqlalchemy as sa

from alembic_drift.align import match_renamed, match_unnamed
from alembic_drift.catalog import without_parameters, without_servers
from alembic_drift.kinds import KIND_OF
from alembic_drift.objects import NAME, UNMADE, Catalog, Difference, Facts, Key, parent, told, view_of
from alembic_drift.scratch import Both

_EXPRESSIVE = {"index", "constraint", "view", "materialized view", "trigger", "rule", "policy"}
_RELATIONS = {"table", "view", "materialized view", "sequence"}


class Comparison:
    """The differences of one schema, and what of it is the operator's own."""

    def __init__(
        self,
        both: Both,
        tables: dict[str, sa.Table],
        dialect: sa.Dialect,
        is_managed: Callable[[Key], bool],
        hidden: Callable[[Key, Catalog, Catalog], bool],
    ) -> None:
        """Compare.

        :param tables: the tables of the models in that schema, views among them.
        :param is_managed: whether the revisions made an object.
        :param hidden: whether an object is no part of the comparison.
        """
        self._is_managed = is_managed
        self._probes = both.probes
        self.database = _shown(both.database, both, hidden)
        self.models = _shown(both.models, both, hidden)
        self.hidden = {key: facts for key, facts in both.database.items() if key not in self.database}
        self.models = match_unnamed(self.database, self.models, tables, dialect)
        self.database, self.models = match_renamed(
            self.database, self.models, lambda key: not self._is_own(key)
        )
        self.models, self.spared = both.doubts.settled(self.database, self.models, self._is_own)
        """What is told of the objects that nobody can compare."""
        self.differences = [
            Difference(key, UNMADE, None, reason)
            for key, reason in sorted(both.unmade.items(), key=str)
            if not hidden(key, both.database, both.models)
        ]
        self._without_unmade(both.unmade)
        self.clashing = self._clashes()
        self.own: set[Key] = set()
        for key in sorted({*self.database, *self.models}, key=str):
            if key.table in self.clashing or (key.name in self.clashing and key.kind in _RELATIONS):
                continue  # told and settled as a whole
            if self._is_own(key):
                self.own.add(key)
            else:
                self._compare(key)

    def own_to_tell(self) -> Iterator[Key]:
        """Yield what is the operator's own, without what goes with a whole that is."""
        for key in sorted(self.own, key=str):
            if not any(self._is_own(whole) for whole in self._wholes(key)):
                yield key

    def _without_unmade(self, unmade: dict[Key, str]) -> None:
        """Leave out what cannot be compared: on the models' side it is not there, or a stand-in."""
        tables = {key.name for key in unmade if key.kind in {"table", "view", "materialized view"}}

        def is_compared(key: Key, facts: Facts) -> bool:
            owner = facts["_owner"][0] if key.kind == "sequence" else None
            name = key.name if key.kind == "table" else None
            return key not in unmade and tables.isdisjoint({key.table, name, owner})

        self.database = {key: facts for key, facts in self.database.items() if is_compared(key, facts)}
        self.models = {key: facts for key, facts in self.models.items() if is_compared(key, facts)}

    def _clashes(self) -> set[str]:
        """Tell of relations that are another kind of thing in the database; returns their names."""
        kinds: list[dict[str, str]] = [
            {key.name: key.kind for key in catalog if key.kind in _RELATIONS}
            for catalog in (self.database, self.models)
        ]
        clashing = {name for name, kind in kinds[0].items() if kinds[1].get(name, kind) != kind}
        for name in sorted(clashing):
            key = Key(kinds[1][name], None, name)
            self.differences.append(Difference(key, "kind", kinds[0][name], kinds[1][name]))
        return clashing

    def _is_own(self, key: Key) -> bool:
        """Return whether an object is the operator's own: no model has it, and no revision made it.

        What belongs to a table or column of the operator's is as well. A trigger or rule on a table of ours,
        or a constraint of its columns, is a difference: it changes what can be written.
        """
        if key in self.models or self._is_managed(key):
            return False
        if key.kind == "sequence":
            numbered = parent(key, self.database)
            if numbered is not None and (numbered in self.models or self._is_managed(numbered)):
                return False  # what numbers a column of ours is a part of it
        if key.kind == "column" and self._is_of_view(key):
            return all(self._is_own(whole) for whole in self._wholes(key))
        if key.table is None or KIND_OF[key.kind].may_be_own:
            return True
        return any(self._is_own(whole) for whole in self._wholes(key))

    def _wholes(self, key: Key) -> Iterator[Key]:
        """Yield the table and, for a constraint, the columns of the database that an object is a part of."""
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
            # A table that is missing or gone as a whole is one difference, and what does not go with it.
            side = self.models if database is None else self.database
            other = self.database if database is None else self.models
            whole = parent(key, side)
            with_it = whole is not None and whole not in other and not KIND_OF[key.kind].apart
            of_view = key.kind == "column" and self._is_of_view(key)  # which says so by its query
            if not with_it and not of_view:
                self.differences.append(Difference(key, "", told(database), told(models)))
            return
        for aspect in sorted({*database, *models}):
            if aspect == "definition" and NAME in database and key.kind == "index":
                continue  # the same but for the name
            if aspect.startswith("_") or database.get(aspect) == models.get(aspect):
                continue
            if aspect in {"definition", "query"} and self._is_written_otherwise(key):
                continue
            self.differences.append(Difference(key, aspect, database.get(aspect), models.get(aspect)))

    def _is_written_otherwise(self, key: Key) -> bool:
        """Return whether the models' definition, executed as the server writes it, is the database's."""
        database, models = self.database[key], self.models[key]
        if key.kind not in _EXPRESSIVE or models.get("_type") in {"p", "u", "f"}:
            return False
        said = self._probes.written_again(key, models, KIND_OF[key.kind].again)
        if said is None:
            return False
        if "query" in database:
            return bool(database["query"] == said)
        if key.kind in {"index", "constraint"}:
            said = without_servers(said)
        return bool(database["definition"] == (without_parameters(said) if key.kind == "index" else said))


def _shown(catalog: Catalog, both: Both, hidden: Callable[[Key, Catalog, Catalog], bool]) -> Catalog:
    def is_shown(key: Key) -> bool:
        if hidden(key, both.database, both.models):
            return False
        whole = parent(key, catalog)
        if whole is not None and not is_shown(whole):
            return False
        users = catalog[key].get("_used_by")  # a type that only hidden tables have
        return not users or any(is_shown(Key("table", None, user)) for user in users)

    return {key: facts for key, facts in catalog.items() if is_shown(key)}
