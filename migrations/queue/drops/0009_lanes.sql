-- Template: functions of a queue that get other arguments or results in version 9. Locks: none that
-- another session waits for. Tables: none.
DROP FUNCTION IF EXISTS host.{q}__lease(int, int, bigint, uuid, int, bigint);
DROP FUNCTION IF EXISTS host.{q}__read(int, bigint);
DROP FUNCTION IF EXISTS host.{q}__runs(bigint);
DROP FUNCTION IF EXISTS host.{q}__purge(int, int);
DROP FUNCTION IF EXISTS host.{q}__take_over(bigint, int, bigint, uuid, int, int);
DROP FUNCTION IF EXISTS host.{q}__beyond_cursor(int, txid_snapshot, int8multirange, boolean, bigint, bigint);
