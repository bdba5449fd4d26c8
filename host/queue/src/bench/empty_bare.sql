-- Purpose: empties the tables that a benchmark's queue is compared with.
-- Locks: ACCESS EXCLUSIVE on them. Tables: host.{q}__floor, host.{q}__bare.
TRUNCATE host.{q}__floor, host.{q}__bare;
