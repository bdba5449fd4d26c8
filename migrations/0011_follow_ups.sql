-- Purpose: follow-ups with a key, a priority and a unique key: a function gets further arguments. queue/drops has
--   that of each queue.
-- Invariant: no function is there twice, or calls that leave arguments out would not know which is meant.
-- Locks: none that another session waits for. Tables: none.

DROP FUNCTION IF EXISTS host.enqueue_follow_ups(text[], bytea[], jsonb[], bigint[]);
