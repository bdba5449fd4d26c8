-- Purpose: the facts about all idle queues, and the names of the others. Those of a
-- database that was restored are not looked at: their cursors mean nothing. Locks: ACCESS SHARE, a
-- queue at a time. Tables: host.queue, host.handler, host.pace, and the queues' own.
SELECT host.examine_each(ARRAY(SELECT q.name FROM host.queue q WHERE NOT host.restored() ORDER BY q.name), true)
