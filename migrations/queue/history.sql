-- Template: the history of one queue, where settled messages stay readable for as long as the queue
-- keeps them. Run once, when that is first asked for (see host.set_keep). A row is a message that
-- one handler is done with, acked or removed, written by the settlement itself; dead letters have a
-- table of their own.
--
-- Twelve leaves take turns, each for a sixth of the time for which messages are kept (see
-- host.history_slot); one is truncated when all in it is older. Nothing is ever updated or deleted
-- here (I3), and autovacuum is off.
CREATE TABLE host.{q}__history (
    message_id bigint NOT NULL,
    lease_id bigint NOT NULL,
    enqueued_at timestamptz NOT NULL,
    leased_at timestamptz NOT NULL,
    settled_at timestamptz NOT NULL,
    handler_id int NOT NULL,
    session_id int NOT NULL,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    -- By an operator, not run to its end.
    removed boolean NOT NULL,
    -- Its name: a handler can be removed.
    handler text NOT NULL,
    headers jsonb,
    history jsonb,
    -- What the handler has left as the result; NULL: none.
    result bytea,
    payload {payload} NOT NULL
) PARTITION BY LIST (slot);
DO $$
BEGIN
    FOR slot IN 0..11 LOOP
        EXECUTE format('CREATE TABLE host.{q}__history_%1$s PARTITION OF host.{q}__history FOR VALUES IN (%1$s)'
            ' WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off)', slot);
    END LOOP;
END $$;
CREATE INDEX {q}__history_message ON host.{q}__history (message_id);
CREATE INDEX {q}__history_settled ON host.{q}__history (settled_at);
