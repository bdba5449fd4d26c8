-- Purpose: the unique key of a message, as long as it is registered. {q} is the queue's name.
-- Locks: none that another session waits for. Tables: unique.
SELECT key FROM host.{q}__unique WHERE message_id = $1
