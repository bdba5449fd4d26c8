-- Template: unique keys: a column for producers, and a register of the keys that are taken. Nothing
-- is rewritten or scanned. Locks: ACCESS EXCLUSIVE on the messages. Tables: these, unique.
ALTER TABLE queue.{q} ADD COLUMN unique_key text,
    ADD CONSTRAINT unique_key_is_for_queues_that_are_set_to_take_it CHECK (unique_key IS NULL) NOT VALID;
CREATE TABLE host.{q}__unique (
    key text PRIMARY KEY,
    message_id bigint NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_by int[] NOT NULL DEFAULT '{}'
);
CREATE INDEX ON host.{q}__unique (message_id);
CREATE INDEX ON host.{q}__unique (taken_at) WHERE settled_by <> '{}';
