-- Purpose: leases $3 messages of the handler `default` of a benchmark's queue to the session $1, as
-- its lease $2.
-- Locks: as lease. Tables: as lease.
SELECT row_count FROM host.{q}__lease(
    (SELECT id FROM host.handler WHERE queue_id = {queue_id} AND name = 'default'),
    $1, $2, gen_random_uuid(), $3::bigint::int, 1::bigint << 40)
