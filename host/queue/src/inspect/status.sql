-- Purpose: the figures of all idle queues, and the names of the others. Locks: ACCESS
-- SHARE, a queue at a time. Tables: host.queue, host.handler, host.pace, and the queues' own.
SELECT * FROM host.status_of_each(ARRAY(SELECT q.name FROM host.queue q ORDER BY q.name), 1000000, true)
