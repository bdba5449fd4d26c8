-- Purpose: what each cron entry is set to do, with its payload, in order of the name.
-- Locks: none that another session waits for. Tables: host.cron, host.queue.
SELECT c.name, q.name AS queue, c.schedule, c.time_zone, c.missed, c.payload, c.headers, c.paused
FROM host.cron c JOIN host.queue q ON q.id = c.queue_id ORDER BY c.name
