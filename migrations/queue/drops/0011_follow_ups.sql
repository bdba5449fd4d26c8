-- Template: the function of a queue that gets more arguments in version 11. Locks: none that
-- another session waits for. Tables: none.
DROP FUNCTION IF EXISTS host.{q}__settle(bigint, int, uuid, int, int4multirange, int[], bigint[], jsonb[], int[], int[],
    text[], jsonb[], text[], bytea[], jsonb[], bigint[], int4multirange, int[], bytea[]);
