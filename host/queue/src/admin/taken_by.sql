-- Purpose: which message has taken a unique key. {q} is the queue's name.
-- Locks: none that another session waits for. Tables: unique.
SELECT message_id FROM host.{q}__unique WHERE key = $1
