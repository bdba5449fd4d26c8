-- Purpose: whether the handler `stuck` of a benchmark's queue has a message in hand.
-- Locks: none that another session waits for. Tables: host.handler, the queue's.
SELECT EXISTS (
    SELECT FROM host.handler h CROSS JOIN LATERAL host.{q}__backlog(h.id, 1) b
    WHERE h.queue_id = {queue_id} AND h.name = 'stuck' AND b.in_flight > 0)
