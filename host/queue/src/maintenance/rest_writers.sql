-- Purpose: which queues an open transaction may have written to. $1: the queues that are asked
--   about. A transaction that inserts holds ROW EXCLUSIVE on the table until its end, also if it is
--   prepared. Its rows can be seen before the lock is free.
-- Locks: those of pg_locks. Tables: host.queue.
WITH held AS MATERIALIZED (
    SELECT DISTINCT l.relation FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
        AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
            WHERE d.datname = pg_catalog.current_database())
)
SELECT coalesce(array_agg(q.id), '{}') FROM host.queue q
WHERE q.id = ANY ($1) AND EXISTS (SELECT FROM held WHERE held.relation = ANY (ARRAY[
    pg_catalog.to_regclass(pg_catalog.format('queue.%I', q.name)),
    pg_catalog.to_regclass(pg_catalog.format('host.%I', q.name || '__settlement')),
    pg_catalog.to_regclass(pg_catalog.format('host.%I', q.name || '__schedule'))]::oid[]))
