-- Purpose: has the handler that the transaction has just made begin after what is committed by now,
-- as host.begin_from_now does. Locks: its. Tables: host.handler, host.queue, and its.
SELECT host.begin_from_now(h.id) FROM host.handler h JOIN host.queue q ON q.id = h.queue_id
WHERE q.name = $1 AND h.name = $2
