-- Purpose: switches a benchmark's queue's wake-up on or off, as its setting does when it is
-- created.
-- Locks: SHARE ROW EXCLUSIVE on the queue's table, for a moment. Tables: the queue's.
ALTER TABLE queue.{q} {enable} TRIGGER wake;
