-- Purpose: whether the queue with the number $1 was dropped, or the handler with the number $2
--   (NULL: none is meant) was removed. What a function of the queue's raises does not say that: a
--   trigger of somebody's may raise the same.
-- Locks: none that another session waits for. Tables: host.queue, host.handler.
SELECT NOT EXISTS (SELECT FROM host.queue WHERE id = $1)
    OR $2::int IS NOT NULL AND NOT EXISTS (SELECT FROM host.handler WHERE id = $2)
