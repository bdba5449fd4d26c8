-- Purpose: how far the ids of queues have come: the queues' numbers, and their marks, in one order.
--   $1: the queues. One that was dropped, or whose sequences cannot be read, is left out. A mark is
--   three ids, each NULL until one is given out since its sequence was set: of a message, of a
--   promotion, of a row on the schedule. A rotation sets the first two, and then gives out one of
--   the second. So no two generations have the same mark.
-- Locks: ROW EXCLUSIVE on each sequence. Only DROP and ALTER SEQUENCE conflict. Tables: host.queue.
SELECT coalesce(array_agg(m.id), '{}'), coalesce(array_agg(m.message), '{}'),
    coalesce(array_agg(m.promotion), '{}'), coalesce(array_agg(m.scheduled), '{}')
FROM (
    SELECT q.id, pg_catalog.pg_sequence_last_value(s.message) AS message,
        pg_catalog.pg_sequence_last_value(s.promotion) AS promotion,
        pg_catalog.pg_sequence_last_value(s.scheduled) AS scheduled
    FROM host.queue q CROSS JOIN LATERAL (
        SELECT pg_catalog.to_regclass(pg_catalog.format('queue.%I', q.name || '_id_seq')) AS message,
            pg_catalog.to_regclass(pg_catalog.format('host.%I', q.name || '__promotion_id_seq')) AS promotion,
            pg_catalog.to_regclass(pg_catalog.format('host.%I', q.name || '__schedule_id_seq')) AS scheduled
    ) s
    -- Newer versions of Postgres answer NULL to who may not read a sequence.
    WHERE q.id = ANY ($1) AND pg_catalog.has_sequence_privilege(s.message, 'SELECT')
        AND pg_catalog.has_sequence_privilege(s.promotion, 'SELECT')
        AND pg_catalog.has_sequence_privilege(s.scheduled, 'SELECT')
) m
