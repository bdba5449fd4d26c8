-- Purpose: batch handlers, which take many messages a call.
-- Invariant: batch_size is NULL just for a component that takes one.
-- Locks: ACCESS EXCLUSIVE on host.handler_version, for as long as it takes to note a column.
-- Tables: host.handler_version.
SET LOCAL lock_timeout = '5s';

ALTER TABLE host.handler_version ADD COLUMN batch_size int CHECK (batch_size BETWEEN 1 AND 1000);

-- They get a further argument and column, which CREATE OR REPLACE refuses.
DROP FUNCTION IF EXISTS host.deploy(text, text, text, jsonb, text, int, bigint, bigint, bigint, bigint, int, bigint,
    text[], text[], int, bigint);
DROP FUNCTION IF EXISTS host.handlers();
