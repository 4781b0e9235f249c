"""Triggers, rules and policies: told, and settled by hand."""

from alembic_drift.mending import Kind, nothing

_TRIGGERS = """\
SELECT 'trigger', heaps.relname, tgname, jsonb_build_object(
    'definition', pg_get_triggerdef(pg_trigger.oid, true),
    'enabled', CASE tgenabled WHEN 'O' THEN 'enabled' WHEN 'D' THEN 'disabled' WHEN 'A' THEN 'enabled always'
        ELSE 'enabled on replicas' END,
    'comment', obj_description(pg_trigger.oid, 'pg_trigger'))
FROM heaps JOIN pg_trigger ON tgrelid = heaps.oid WHERE NOT tgisinternal"""

_RULES = """\
SELECT 'rule', heaps.relname, rulename, jsonb_build_object('definition', pg_get_ruledef(pg_rewrite.oid, true),
    'enabled', CASE ev_enabled WHEN 'O' THEN 'enabled' WHEN 'D' THEN 'disabled' WHEN 'A' THEN 'enabled always'
        ELSE 'enabled on replicas' END, 'comment', obj_description(pg_rewrite.oid, 'pg_rewrite'))
FROM heaps JOIN pg_rewrite ON ev_class = heaps.oid WHERE rulename <> '_RETURN'"""

_POLICIES = """\
SELECT 'policy', heaps.relname, polname, jsonb_build_object(
    'definition', format('%s for %s to %s using %s check %s',
        CASE WHEN polpermissive THEN 'permissive' ELSE 'restrictive' END, polcmd,
        (SELECT string_agg(CASE role WHEN 0 THEN 'public' ELSE role::regrole::text END, ', ' ORDER BY role)
            FROM unnest(polroles) AS role),
        pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)),
    'comment', obj_description(pg_policy.oid, 'pg_policy'))
FROM heaps JOIN pg_policy ON polrelid = heaps.oid"""

TRIGGERS = Kind(("trigger",), _TRIGGERS, nothing, apart=True)
RULES = Kind(("rule",), _RULES, nothing, apart=True)
POLICIES = Kind(("policy",), _POLICIES, nothing, apart=True)
