-- Purpose: the generation that a benchmark's queue is in, and its bytes on disk, indexes included.
-- Locks: ACCESS SHARE on the queue's tables, for a moment. Tables: pg_class, the queue's.
SELECT (SELECT last_value / {generation_size} FROM queue.{q}_id_seq) AS generation,
    (SELECT sum(pg_total_relation_size(r.oid))::bigint FROM pg_class r
        WHERE r.relkind = 'r' AND r.relnamespace = 'host'::regnamespace AND starts_with(r.relname, '{q}__')
            AND r.relname !~ '__(account|floor|bare)$') AS bytes
