-- Template: functions of a queue that get other arguments or results in version 18, or are gone.
-- Locks: none that another session waits for. Tables: none.
DROP FUNCTION IF EXISTS host.{q}__gone(int, bigint);
DROP FUNCTION IF EXISTS host.{q}__take_over(bigint, int, bigint, uuid, int, int);
DROP FUNCTION IF EXISTS host.{q}__inherit(bigint, int, bigint, uuid, int);
DROP FUNCTION IF EXISTS host.{q}__promote_one(timestamptz, bigint);
DROP FUNCTION IF EXISTS host.{q}__has_later(int, txid_snapshot);
DROP FUNCTION IF EXISTS host.{q}__count(int);
