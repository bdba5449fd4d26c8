-- Template: a queue that was there before takes a key only if it keeps an order. Nothing is
-- rewritten or scanned.
-- Locks: ACCESS EXCLUSIVE on the messages. Tables: these.
{unordered?ALTER TABLE queue.{q} RENAME CONSTRAINT queue_keeps_no_order TO queue_takes_no_key;}
