-- Purpose: enqueues one message, as any producer does. {q} is the queue's name.
-- Locks: none that another session waits for. Tables: the queue.
INSERT INTO queue.{q} (payload, headers, run_at, expires_at, priority, key) VALUES ($1, $2, $3, $4, $5, $6) RETURNING id
