-- Template: functions of a queue that get other arguments or results in version 2. Locks: none that
-- another session waits for. Tables: none.
DROP FUNCTION IF EXISTS host.{q}__read(int, bigint);
