-- Purpose: enqueues one message, as any producer does. {q} is the queue's name. A time is given as
--   such ($3, $5), or in microseconds from now ($4, $6). No row: its key is taken.
-- Locks: none that another session waits for, but for one with the same key. Tables: the queue.
INSERT INTO queue.{q} (payload, headers, run_at, expires_at, priority, key, unique_key)
VALUES ($1, $2, coalesce($3, now() + $4 * interval '1 microsecond'),
    coalesce($5, now() + $6 * interval '1 microsecond'), $7, $8, $9) RETURNING id
