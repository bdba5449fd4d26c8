-- Template: functions of a queue that get other arguments or results in version 5. Locks: none that
-- another session waits for. Tables: none.
DROP FUNCTION IF EXISTS host.{q}__settle(bigint, int, uuid, int, int4multirange, int[], bigint[], jsonb[], int[], int[],
    text[], jsonb[], text[], bytea[], jsonb[], bigint[]);
DROP FUNCTION IF EXISTS host.{q}__dead_list(bigint, text);
DROP FUNCTION IF EXISTS host.{q}__dead_retry(bigint[], text);
DROP FUNCTION IF EXISTS host.{q}__dead_purge(bigint[], text);
