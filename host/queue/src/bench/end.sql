-- Purpose: removes what a benchmark has made beside its queue.
-- Locks: ACCESS EXCLUSIVE on it. Tables: the queue's account, and those to compare it with.
DROP TABLE IF EXISTS host.{q}__account, host.{q}__floor, host.{q}__bare;
