-- Purpose: how far the ids of queues have come: the queues' numbers, and their marks, in one order.
--   $1: the queues. A queue that was dropped is left out. Nothing has been inserted into a queue
--   whose mark is NULL since its sequence was set.
-- Locks: ROW EXCLUSIVE on each sequence, which only a DROP waits for. Tables: host.queue.
SELECT coalesce(array_agg(m.id), '{}'), coalesce(array_agg(m.mark), '{}')
FROM (
    SELECT q.id, pg_catalog.pg_sequence_last_value(pg_catalog.to_regclass(
        pg_catalog.format('queue.%I', q.name || '_id_seq'))) AS mark
    FROM host.queue q WHERE q.id = ANY ($1)
) m
