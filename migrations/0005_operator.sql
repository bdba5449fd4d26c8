-- Purpose: the operator's hand: handlers that are paused, messages that are cancelled, positions that were removed.
-- Invariant: the tables of the queues that exist get the shape that queue/tables.sql gives to new ones.
-- Locks: ACCESS EXCLUSIVE on host.handler and each queue's settlements, for at most 5 s of waiting; nothing is
--   rewritten. Tables: host.handler, host.cancellation, and each queue's settlements.
SET LOCAL lock_timeout = '5s';

ALTER TABLE host.handler ADD COLUMN paused boolean NOT NULL DEFAULT false;

-- Messages that a handler is not to run, until it meets them: then they are settled, and the row goes. An ordinary
-- table, empty but for what an operator has just cancelled.
CREATE TABLE host.cancellation (
    queue_id int NOT NULL REFERENCES host.queue ON DELETE CASCADE,
    handler_id int NOT NULL REFERENCES host.handler ON DELETE CASCADE,
    message_id bigint NOT NULL,
    cancelled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    cancelled_by text NOT NULL DEFAULT session_user,
    PRIMARY KEY (handler_id, message_id)
);

-- Their arguments and results change.
DROP FUNCTION IF EXISTS host.status(int);
DROP FUNCTION IF EXISTS host.status_of(text, int);
DROP FUNCTION IF EXISTS host.queue_status(text, int);
DROP FUNCTION IF EXISTS host.handlers();
DO $$
DECLARE
    q text;
BEGIN
    FOR q IN SELECT name FROM host.queue ORDER BY name LOOP
        EXECUTE format('ALTER TABLE host.%I ADD COLUMN removed int4multirange', q || '__settlement');
        EXECUTE format('DROP FUNCTION host.%I(bigint, int, uuid, int, int4multirange, int[], bigint[], jsonb[],'
            ' int[], int[], text[], jsonb[], text[], bytea[], jsonb[], bigint[])', q || '__settle');
        EXECUTE format('DROP FUNCTION host.%I(bigint, text)', q || '__dead_list');
        EXECUTE format('DROP FUNCTION host.%I(bigint[], text)', q || '__dead_retry');
        EXECUTE format('DROP FUNCTION host.%I(bigint[], text)', q || '__dead_purge');
    END LOOP;
END $$;
