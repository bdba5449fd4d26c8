-- Purpose: enqueues many messages at once, as any producer does. {q} is the queue's name.
-- Locks: none that another session waits for. Tables: the queue.
COPY queue.{q} (payload, headers, run_at, expires_at, priority, key) FROM STDIN (FORMAT binary)
