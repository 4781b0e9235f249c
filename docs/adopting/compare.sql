-- After the upgrade: compares the tables with their copies in the schema "before", in one result.
--
-- A row for each table: "changed" counts rows of which a value is gone or different. Values are compared as
-- text, and a NULL in api_requests.headers equals {}. The columns that revisions 003, 005 and 007 fill are
-- left out, and have a row each: "before" and "after" count their values, and "changed" counts values that are
-- gone or different. What the revisions add is no change: is_subtask may become true, and a stored Task call
-- may gain keys.
WITH kept AS (
    SELECT table_name, column_name, table_name = 'api_requests' AND column_name IN
        ('account_id', 'parent_task_request_id', 'is_subtask', 'task_tool_invocation') AS filled
    FROM information_schema.columns WHERE table_schema = 'before'
), counts AS (
    SELECT table_name AS compared, format(
        'SELECT %1$L AS compared, (SELECT count(*) FROM before.%1$I) AS before,'
        ' (SELECT count(*) FROM public.%1$I) AS after, count(*) AS changed'
        ' FROM (SELECT %2$s FROM before.%1$I EXCEPT ALL SELECT %3$s FROM public.%1$I) AS gone',
        table_name,
        string_agg(format(CASE WHEN table_name = 'api_requests' AND column_name = 'headers'
            THEN 'coalesce(%I::text, ''{}'')' ELSE '%I::text' END, column_name), ', ' ORDER BY column_name),
        string_agg(format('%I::text', column_name), ', ' ORDER BY column_name)
    ) AS query
    FROM kept WHERE NOT filled GROUP BY table_name
    UNION ALL
    SELECT table_name || '.' || column_name, format(
        'SELECT %1$L, count(b.%2$I), count(a.%2$I), count(*) FILTER (WHERE b.%2$I IS NOT NULL'
        ' AND (a.%2$I %3$s b.%2$I) IS NOT true)'
        ' FROM before.api_requests AS b LEFT JOIN public.api_requests AS a USING (request_id)',
        table_name || '.' || column_name,
        column_name,
        CASE column_name WHEN 'is_subtask' THEN '>=' WHEN 'task_tool_invocation' THEN '@>' ELSE '=' END
    )
    FROM kept WHERE filled
)
SELECT string_agg(query, ' UNION ALL ' ORDER BY compared) || ' ORDER BY compared' FROM counts \gexec
