-- Purpose: how far a benchmark's queue is, without reading a message: the newest row of the account, the
--   positions that are in the account after row $1, and those that are settled and not in it yet.
-- Locks: none that another session waits for. Tables: the queue's account, lease and settlement.
SELECT coalesce((SELECT max(id) FROM host.{q}__account), 0) AS newest,
    coalesce((SELECT sum(settled) FROM host.{q}__account WHERE id > $1), 0)::bigint AS accounted,
    coalesce((
        SELECT sum(had - coalesce(rest, had))
        FROM (
            SELECT coalesce(host.positions(l.positions), l.row_count) AS had,
                (SELECT min(s.rest) FROM host.{q}__settlement s WHERE s.lease_id = l.id AND NOT s.revoked) AS rest
            FROM host.{q}__lease l
            WHERE l.row_count > 0
                AND l.handler_id = (SELECT id FROM host.handler WHERE queue_id = {queue_id} AND name = 'default')
                AND NOT EXISTS (SELECT FROM host.{q}__account a WHERE a.lease_id = l.id)
        ) open
    ), 0)::bigint AS settled
