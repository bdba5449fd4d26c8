-- Purpose: enqueues one message, as any producer does. {q} is the queue's name. No row: its key is
-- taken.
-- Locks: none that another session waits for, but for one with the same key. Tables: the queue.
INSERT INTO queue.{q} (payload, headers, run_at, expires_at, priority, key, unique_key)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id
