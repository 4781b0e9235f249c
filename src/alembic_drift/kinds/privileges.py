"""Owner and privileges of a view or routine that is dropped and created again.

They differ between databases, so they are not written into the revision: the drop saves them in a table, and
the creation restores them from it. The table is still there if an online run ends between the two.
"""

from typing import NamedTuple

from alembic.operations import Operations

from alembic_drift.sql import filled, literal, qualified

_RELATION = """\
SELECT pg_class.oid, format('%I.%I', nspname, relname) AS name, relowner AS owner, relacl AS set,
    acldefault('r', relowner) AS usual
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = to_regclass(@NAME)"""

_ROUTINE = """\
SELECT pg_proc.oid, format('%I.%I(%s)', nspname, proname, types) AS name, proowner AS owner,
    proacl AS set, acldefault('f', proowner) AS usual
FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace, oidvectortypes(proargtypes) AS types
WHERE pg_proc.oid = to_regprocedure(@NAME)"""


class Kind(NamedTuple):
    """The word for a kind of object in GRANT, and the query of one object."""

    word: str
    query: str


RELATION = Kind("TABLE", _RELATION)
ROUTINE = Kind("ROUTINE", _ROUTINE)

_KEEP = """\
DO $keep$ DECLARE object record; routines bigint; BEGIN
SELECT * INTO object FROM (@OBJECT) AS object;
IF object.set IS NOT NULL OR object.owner::regrole <> current_user::regrole
    OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = object.oid AND attacl IS NOT NULL)
    OR (object.oid IS NOT NULL AND EXISTS (SELECT FROM pg_default_acl))
THEN
    CREATE TABLE IF NOT EXISTS @TABLE (
        number integer GENERATED ALWAYS AS IDENTITY, object text, attribute text, statement text);
    DELETE FROM @TABLE AS kept WHERE kept.object = object.name;
    INSERT INTO @TABLE (object, attribute, statement)
    VALUES (object.name, NULL,
        format('ALTER @KIND %s OWNER TO %I', object.name, pg_get_userbyid(object.owner)));
    INSERT INTO @TABLE (object, attribute, statement)
    SELECT object.name, NULL,
        format('REVOKE ALL ON @KIND %s FROM %I', object.name, pg_get_userbyid(object.owner))
    WHERE object.set IS NOT NULL;
    INSERT INTO @TABLE (object, attribute, statement)
    SELECT object.name, attname, format('GRANT %s%s ON @KIND %s TO %s%s', privilege_type,
        '(' || quote_ident(attname) || ')', object.name,
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END)
    FROM (
        SELECT NULL AS attname, coalesce(object.set, object.usual) AS acl
        UNION ALL SELECT attname, attacl FROM pg_attribute WHERE attrelid = object.oid
    ) AS lists, aclexplode(acl) WHERE grantee <> object.owner OR object.set IS NOT NULL;
END IF;
SELECT count(*) INTO routines FROM pg_proc;
@DROP;
IF object.oid IS NULL AND routines > (SELECT count(*) FROM pg_proc) THEN
    RAISE EXCEPTION 'the privileges of % cannot be kept', @NAME
    USING HINT = 'Write only the types of its arguments, without their names.';
END IF;
END $keep$"""

_RESTORE = """\
DO $restore$ DECLARE object record; step record; BEGIN
IF to_regclass(@KEPT) IS NULL THEN
    RETURN;
END IF;
SELECT * INTO object FROM (@OBJECT) AS object;
IF NOT EXISTS (SELECT FROM @TABLE AS kept WHERE kept.object = object.name) THEN
    RETURN;
END IF;
FOR step IN SELECT DISTINCT grantee FROM aclexplode(coalesce(object.set, object.usual))
    WHERE grantee <> object.owner
LOOP
    EXECUTE format('REVOKE ALL ON @KIND %s FROM %s', object.name,
        CASE step.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(step.grantee)) END);
END LOOP;
FOR step IN
    SELECT statement FROM @TABLE AS kept WHERE kept.object = object.name AND (attribute IS NULL OR EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = object.oid AND attname = attribute)) ORDER BY number
LOOP
    EXECUTE step.statement;
END LOOP;
DELETE FROM @TABLE AS kept WHERE kept.object = object.name;
IF NOT EXISTS (SELECT FROM @TABLE) THEN
    DROP TABLE @TABLE;
END IF;
END $restore$"""


def dropped(operations: Operations, kind: Kind, name: str, drop: str) -> str:
    """Return what drops a view or routine and saves its owner and privileges for :func:`restored`.

    :param name: its name as written in SQL, for a routine with its argument types.
    :param drop: the statement that drops it.
    """
    return _of(_KEEP, operations, kind, name, drop)


def restored(operations: Operations, kind: Kind, name: str) -> str:
    """Return what restores the owner and privileges of a view or routine that :func:`dropped` saved."""
    return _of(_RESTORE, operations, kind, name)


def argument(keep: bool) -> str:  # noqa: FBT001 - an argument of operations
    """Return the argument to keep privileges, if they are kept."""
    return ", keep_privileges=True" if keep else ""


def _of(text: str, operations: Operations, kind: Kind, name: str, drop: str = "") -> str:
    context = operations.get_context()
    table = qualified(f"{context.version_table}_privileges", context.version_table_schema)
    names = {"@NAME": literal(name), "@TABLE": table, "@KEPT": literal(table), "@KIND": kind.word}
    return filled(text, names | {"@OBJECT": filled(kind.query, names), "@DROP": drop})
