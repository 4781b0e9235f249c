-- Deletes requests that are older than an interval, with their chunks, 1,000 in a transaction:
--     psql "$DATABASE_URL" -v older_than='90 days' -f docs/growing/delete_old_requests.sql
--
-- A request that has a sub-task is deleted after it; it stays as long as the sub-task stays. Requests that another
-- session has locked are left for the next run.
\set ON_ERROR_STOP on
\if :{?older_than}
\else
    DO $$ BEGIN RAISE EXCEPTION 'set the age: -v older_than=''90 days'''; END $$;
\endif
SELECT set_config('nexus_schema.older_than', :'older_than', false) AS older_than;

DO $$
DECLARE
    begin_of_kept timestamptz := now() - current_setting('nexus_schema.older_than')::interval;
    deleted bigint;
    total bigint := 0;
BEGIN
    LOOP
        DELETE FROM api_requests WHERE request_id IN (
            SELECT request_id FROM api_requests AS old
            WHERE timestamp < begin_of_kept AND NOT EXISTS (
                SELECT FROM api_requests AS sub_task WHERE sub_task.parent_task_request_id = old.request_id)
            ORDER BY timestamp LIMIT 1000 FOR UPDATE SKIP LOCKED);
        GET DIAGNOSTICS deleted = ROW_COUNT;
        COMMIT;
        total := total + deleted;
        EXIT WHEN deleted = 0;
    END LOOP;
    RAISE INFO '% requests deleted', total;
END $$;
