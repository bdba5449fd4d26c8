-- Purpose: removes a benchmark's account.
-- Locks: ACCESS EXCLUSIVE on it. Tables: the queue's account.
DROP TABLE IF EXISTS host.{q}__account;
