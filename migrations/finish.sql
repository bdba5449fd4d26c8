-- Purpose: drops what only functions of queues of earlier releases, and hosts of these, use.
--   Applied when all queues have the functions of this release, so that queues which an upgrade has
--   not reached yet are served all the while.
-- Locks: none that another session waits for. Tables: host.leaf_count.

-- Version 17 gave it an argument.
DROP FUNCTION IF EXISTS host.dump_at_work();
-- Version 18 counts in host.partition_count.
DROP TABLE IF EXISTS host.leaf_count;
-- Since version 18 a host reports many handlers at once.
DROP FUNCTION IF EXISTS host.report_loaded(int, int, int, text);
