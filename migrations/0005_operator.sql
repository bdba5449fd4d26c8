-- Purpose: the operator's hand: handlers that are paused, messages that are cancelled, positions that were removed.
--   queue/migrations and queue/drops have the half of each queue.
-- Locks: ACCESS EXCLUSIVE on host.handler; nothing is rewritten. Tables: host.handler, host.cancellation.

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
