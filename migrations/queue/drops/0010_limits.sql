-- Template: functions of a queue that get other results in version 10. Locks: none that another
-- session waits for.
-- Tables: none.
DROP FUNCTION IF EXISTS host.{q}__lease(int, int, bigint, uuid, int, bigint, int);
DROP FUNCTION IF EXISTS host.{q}__lease_of(smallint[], int, int, bigint, uuid, int, bigint);
