-- Template: functions of a queue that get other results in version 12. Locks: none that another
-- session waits for.
-- Tables: none.
DROP FUNCTION IF EXISTS host.{q}__cursors(int);
DROP FUNCTION IF EXISTS host.{q}__allowance(int);
