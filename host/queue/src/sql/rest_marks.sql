-- Purpose: how far the ids of queues have come: the queues' numbers, and their marks, in one order.
--   $1: the queues. A queue that was dropped is left out. A mark is two ids, each NULL until one is
--   given out since its sequence was set: a message's and a promotion's. A rotation sets both, and
--   then gives out one of the second. So no two generations have the same mark.
-- Locks: ROW EXCLUSIVE on each sequence, which only a DROP waits for. Tables: host.queue.
SELECT coalesce(array_agg(m.id), '{}'), coalesce(array_agg(m.message), '{}'), coalesce(array_agg(m.promotion), '{}')
FROM (
    SELECT q.id,
        pg_catalog.pg_sequence_last_value(pg_catalog.to_regclass(
            pg_catalog.format('queue.%I', q.name || '_id_seq'))) AS message,
        pg_catalog.pg_sequence_last_value(pg_catalog.to_regclass(
            pg_catalog.format('host.%I', q.name || '__promotion_id_seq'))) AS promotion
    FROM host.queue q WHERE q.id = ANY ($1)
) m
