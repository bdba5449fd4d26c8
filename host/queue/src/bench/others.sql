-- Purpose: who else works in this database: hosts that live, queues with handlers, and queues that
--   a benchmark has left when it was killed.
-- Locks: none that another session waits for. Tables: host.session, host.queue, host.handler.
SELECT (SELECT count(*) FROM host.sessions() WHERE connected) AS hosts,
    ARRAY(SELECT q.name FROM host.queue q
        WHERE EXISTS (SELECT FROM host.handler h WHERE h.queue_id = q.id) ORDER BY q.name) AS queues,
    ARRAY(SELECT q.name FROM host.queue q WHERE q.name ~ '^bench_[0-9a-f]{8}$' ORDER BY q.name) AS left_behind
