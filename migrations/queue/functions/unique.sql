-- Template: unique keys, of a queue that takes them (`host queue set --unique`). A key is taken by
-- an INSERT, for the queue's window, and beyond that until the message is settled. The register
-- holds the keys that are taken: an ordinary table, which no rotation touches. Messages do not
-- carry their keys, so what is inserted again (a retry, a promotion, what was restored) cannot
-- collide with itself.

-- Takes the key of a new message; if it is taken, drops the row, or refuses it. Two transactions
-- with one key: the second waits for the end of the first, as with any unique index. A duplicate
-- locks nothing. SECURITY DEFINER: a producer must neither read nor write the register. Tables:
-- unique.
CREATE OR REPLACE FUNCTION host.{q}__take_key() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    taken record;
    q record;
    free_at timestamptz;
BEGIN
    IF octet_length(NEW.unique_key) NOT BETWEEN 1 AND 512 THEN
        RAISE EXCEPTION 'unique_key has % bytes: use 1 to 512', octet_length(NEW.unique_key)
            USING ERRCODE = 'check_violation', SCHEMA = 'queue', TABLE = '{q}', COLUMN = 'unique_key';
    END IF;
    LOOP
        INSERT INTO host.{q}__unique (key, message_id) VALUES (NEW.unique_key, NEW.id) ON CONFLICT (key) DO NOTHING;
        EXIT WHEN FOUND;
        SELECT * INTO taken FROM host.{q}__unique u WHERE u.key = NEW.unique_key;
        -- Forgotten in between.
        CONTINUE WHEN NOT FOUND;
        SELECT x.unique_ms, x.on_duplicate INTO STRICT q FROM host.queue x WHERE x.id = {queue_id};
        free_at := taken.taken_at + q.unique_ms * interval '1 ms';
        IF free_at > clock_timestamp() OR NOT host.is_settled({queue_id}, taken.taken_at, taken.settled_by) THEN
            IF q.on_duplicate = 'drop' THEN
                -- For who must have an id all the same: see orm.sql.
                PERFORM set_config('host.duplicate_of', taken.message_id::text, true);
                RETURN NULL;
            END IF;
            RAISE EXCEPTION 'unique_key "%" is taken by message % of queue "{q}"', NEW.unique_key, taken.message_id
                USING ERRCODE = 'unique_violation', SCHEMA = 'queue', TABLE = '{q}', COLUMN = 'unique_key',
                    CONSTRAINT = 'unique_key', DETAIL = format('It was taken at %s, for %s at least, and until the message is settled.',
                        date_trunc('second', taken.taken_at), q.unique_ms * interval '1 ms'),
                    HINT = 'use another key, or have duplicates dropped: host queue set {q} --on-duplicate drop';
        END IF;
        UPDATE host.{q}__unique u SET message_id = NEW.id, taken_at = clock_timestamp(), settled_by = '{}'
            WHERE u.key = NEW.unique_key AND u.message_id = taken.message_id;
        EXIT WHEN FOUND;
    END LOOP;
    NEW.unique_key := NULL;
    RETURN NEW;
END $$;
REVOKE EXECUTE ON FUNCTION host.{q}__take_key() FROM PUBLIC;

-- Notes that a handler is done with messages: acked, dead-lettered or removed. Only where that
-- changes something: a key that is free may be locked by a producer who is about to take it. In
-- order, so that two handlers do not deadlock.
-- Locks: the rows that it changes. Tables: unique.
CREATE OR REPLACE FUNCTION host.{q}__release_keys(p_handler int, p_messages bigint[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off AS $$
BEGIN
    WITH mine AS MATERIALIZED (
        SELECT u.key FROM host.{q}__unique u
        WHERE u.message_id = ANY (p_messages) AND p_handler <> ALL (u.settled_by)
            AND (u.settled_by = '{}' OR NOT host.is_settled({queue_id}, u.taken_at, u.settled_by))
        ORDER BY u.message_id FOR UPDATE
    )
    UPDATE host.{q}__unique u SET settled_by = u.settled_by || p_handler FROM mine WHERE u.key = mine.key;
END $$;

-- Forgets keys that are free, of the p_n that were taken first. Returns how many: fewer than p_n,
-- and there is nothing to do for now. Locks: the rows that it deletes; what somebody else has
-- locked stays. Tables: unique.
CREATE OR REPLACE FUNCTION host.{q}__forget_keys(p_n int) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
DECLARE
    n int;
BEGIN
    WITH old AS MATERIALIZED (
        SELECT u.key, u.taken_at, u.settled_by FROM host.{q}__unique u
        WHERE u.settled_by <> '{}' AND u.taken_at <= clock_timestamp()
            - (SELECT q.unique_ms FROM host.queue q WHERE q.id = {queue_id}) * interval '1 ms'
        ORDER BY u.taken_at LIMIT p_n FOR UPDATE SKIP LOCKED
    )
    DELETE FROM host.{q}__unique u USING old
        WHERE u.key = old.key AND host.is_settled({queue_id}, old.taken_at, old.settled_by);
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
