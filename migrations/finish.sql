-- Purpose: drops what only functions of queues of earlier releases call. Applied when all queues have those of this one, so
--   that queues which an upgrade has not reached yet are served all the while.
-- Locks: none that another session waits for. Tables: none.

-- Version 17 gave it an argument.
DROP FUNCTION IF EXISTS host.dump_at_work();
