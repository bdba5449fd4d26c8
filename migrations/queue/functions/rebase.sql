-- Template: rebase. Prepares a queue for another cluster than the one it was dumped in. Messages
-- that are not settled are inserted again, under this cluster's transaction ids. Everything that
-- names transactions of the other cluster goes.

-- One queue, in one transaction, as often as one likes: it leaves a queue on which nothing has been
-- leased. Kept: every message that is not settled, for each handler that has not settled it (what
-- was in flight runs again); the schedule; ids, attempts and histories. In doubt, a message is
-- kept. Dead letters are not touched. Only for the owner, on a database that is not served (see
-- host.restored).
--
-- Of a restored row, `txid` is another cluster's, and means something only beside a cursor's
-- snapshot. Of a row that a producer has inserted since, it is this cluster's, and must not be
-- compared. What tells them apart: a restore makes the table, then loads the rows, then makes the
-- index; pg_upgrade makes the table anew around rows that are older.
-- Locks: advisory ({rotation_lock}, queue), ({promotion_lock}, queue) and ({cursor_lock},
-- handlers), and ACCESS EXCLUSIVE on the queue's tables, to the end of the transaction. At most 10
-- s for each. Tables: all of the queue's.
CREATE OR REPLACE FUNCTION host.{q}__rebase(OUT messages bigint, OUT scheduled bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '10s' AS $$
DECLARE
    everyone int[] := ARRAY(SELECT id FROM host.handler WHERE queue_id = {queue_id} ORDER BY id);
    c record;
    g bigint;
    kept bigint;
BEGIN
    PERFORM host.require_read_committed('rebasing a queue');
    PERFORM pg_advisory_xact_lock({rotation_lock}, {queue_id});
    PERFORM pg_advisory_xact_lock({promotion_lock}, {queue_id});
    PERFORM pg_advisory_xact_lock({cursor_lock}, id) FROM unnest(everyone) id;
    LOCK TABLE queue.{q}, host.{q}__lease, host.{q}__settlement, host.{q}__promotion, host.{q}__schedule
        IN ACCESS EXCLUSIVE MODE;

    CREATE TEMP TABLE rebase_leaf AS
        SELECT i.indrelid AS leaf, age(i.xmin) AS index_age, age(t.xmin) AS table_age
        FROM pg_inherits h
        JOIN pg_index i ON i.indexrelid = h.inhrelid
        -- Unlike pg_class, this has no reason ever to be updated.
        JOIN pg_type t ON t.typrelid = i.indrelid
        WHERE h.inhparent = 'queue.{q}__message_window'::regclass;
    -- Should a producer have got in while the index was not there yet, its row has its own
    -- transaction's id.
    CREATE TEMP VIEW rebase_row AS
        SELECT m.*, age(m.xmin) > f.table_age
            OR (age(m.xmin) >= f.index_age AND m.xmin <> (m.txid & 4294967295)::text::xid) AS restored
        FROM queue.{q} m JOIN pg_temp.rebase_leaf f ON f.leaf = m.tableoid;
    CREATE TEMP TABLE rebase_cursor AS
        SELECT h AS handler_id, n AS lane, l.hi, l.more, l.txids, l.to_txid, l.to_id
        -- One whose cursor did not come along has settled nothing, as far as is known.
        FROM unnest(everyone) h CROSS JOIN generate_series(0, {lanes} - 1) n
        LEFT JOIN LATERAL host.{q}__cursors(h) l ON l.lane = n;
    -- What open leases have not settled. Should the rows of one not be as many as it says, its
    -- positions prove nothing, and all of it is in doubt.
    CREATE TEMP TABLE rebase_open AS
        SELECT l.handler_id, r.txid, r.id
        FROM host.{q}__lease l
        CROSS JOIN LATERAL (
            SELECT coalesce(l.positions, int4multirange(int4range(0, l.row_count)))
                - coalesce(range_agg(t.settled), '{}') AS positions
            FROM host.{q}__settlement t WHERE t.lease_id = l.id
        ) rest
        CROSS JOIN LATERAL (
            SELECT m.txid, m.id, row_number() OVER (ORDER BY {unordered?m.txid, }m.id)::int - 1 AS pos, count(*) OVER () AS row_count
            FROM pg_temp.rebase_row m
            WHERE m.restored {lanes?AND m.lane = l.lane }AND {ordered?m.id > l.from_id AND m.id <= l.to_id}{unordered?(m.txid, m.id) > (l.from_txid, l.from_id) AND (m.txid, m.id) <= (l.to_txid, l.to_id)}
                AND m.txid <@ l.txids
        ) r
        WHERE l.row_count > 0 AND (r.row_count <> l.row_count OR rest.positions @> r.pos)
            AND {rest_of_lease} IS DISTINCT FROM 0;
    CREATE INDEX ON pg_temp.rebase_open (handler_id, txid, id);

    CREATE TEMP TABLE rebase_message (LIKE queue.{q} INCLUDING STORAGE, restored boolean);
    INSERT INTO pg_temp.rebase_message
            (id, txid, enqueued_at, run_at, origin, handler_id, attempt, headers, history, payload, expires_at, priority,
            key, restored)
        SELECT m.id, m.txid, m.enqueued_at, m.run_at, coalesce(m.origin, m.id), copy.handler_id, m.attempt, m.headers,
            m.history, m.payload, m.expires_at, m.priority, m.key, m.restored
        FROM pg_temp.rebase_row m
        CROSS JOIN LATERAL (SELECT ARRAY(
            SELECT k.handler_id FROM pg_temp.rebase_cursor k
            WHERE coalesce(m.handler_id = k.handler_id, true) {lanes?AND k.lane = m.lane }AND NOT (
                m.restored AND k.hi IS NOT NULL AND txid_visible_in_snapshot(m.txid, k.hi)
                AND NOT (k.more AND m.txid <@ k.txids AND {ordered?m.id > k.to_id}{unordered?(m.txid, m.id) > (k.to_txid, k.to_id)})
                AND NOT EXISTS (SELECT FROM pg_temp.rebase_open o
                    WHERE o.handler_id = k.handler_id AND o.txid = m.txid AND o.id = m.id))
            ORDER BY k.handler_id
        ) AS handlers) todo
        -- One row for all handlers, or one for each of those that have not settled it.
        CROSS JOIN LATERAL (
            SELECT m.handler_id WHERE todo.handlers = everyone OR m.handler_id = ANY (todo.handlers)
            UNION ALL
            SELECT unnest(todo.handlers) WHERE m.handler_id IS NULL AND todo.handlers <> everyone
        ) copy;
    GET DIAGNOSTICS messages = ROW_COUNT;

    SELECT * INTO STRICT c FROM host.{q}__promotion ORDER BY id DESC LIMIT 1;
    CREATE TEMP TABLE rebase_schedule (LIKE host.{q}__schedule INCLUDING STORAGE);
    INSERT INTO pg_temp.rebase_schedule
        SELECT s.* FROM host.{q}__schedule s
        WHERE {is_scheduled};
    GET DIAGNOSTICS scheduled = ROW_COUNT;

    -- A generation that no id belongs to: a logical copy may have come without its sequences.
    SELECT 1 + max(id) / {generation_size} INTO g FROM (
        SELECT last_value AS id FROM queue.{q}_id_seq
        UNION ALL SELECT last_value FROM host.{q}__lease_id_seq
        UNION ALL SELECT last_value FROM host.{q}__promotion_id_seq
        UNION ALL SELECT max(greatest(id, origin)) FROM queue.{q}
        UNION ALL SELECT max(id) FROM host.{q}__lease
        UNION ALL SELECT max(id) FROM host.{q}__promotion
        UNION ALL SELECT max(origin) FROM host.{q}__schedule
        UNION ALL SELECT max(message_id) FROM host.{q}__dead_letter
        UNION ALL SELECT max(message_id) FROM host.{q}__unique) ids;
    IF to_regclass('host.{q}__history') IS NOT NULL THEN
        g := greatest(g, (SELECT 1 + max(message_id) / {generation_size} FROM host.{q}__history));
    END IF;
    TRUNCATE host.{q}__message_0, host.{q}__message_1, host.{q}__message_2, host.{q}__lease, host.{q}__settlement,
        host.{q}__promotion, host.{q}__schedule;
    DELETE FROM host.partition_count WHERE queue_id = {queue_id};
    PERFORM setval('queue.{q}_id_seq', g * {generation_size} + 1, false),
        setval('host.{q}__lease_id_seq', g * {generation_size} + 1, false),
        setval('host.{q}__promotion_id_seq', g * {generation_size} + 1, false);

    INSERT INTO queue.{q} (enqueued_at, run_at, origin, handler_id, attempt, headers, history, payload, expires_at, priority,
            key)
        SELECT enqueued_at, run_at, origin, handler_id, attempt, headers, history, payload, expires_at, priority, key
        FROM pg_temp.rebase_message ORDER BY restored DESC, {unordered?txid, }id;
    GET DIAGNOSTICS kept = ROW_COUNT;
    PERFORM host.require_kept(kept, (SELECT count(*) FROM pg_temp.rebase_message), 'queue.{q}');
    INSERT INTO host.{q}__schedule (due, slot, origin, enqueued_at, handler_id, attempt, headers, history, payload, expires_at,
            priority, key)
        SELECT due, host.slot(due, now()), origin, enqueued_at, handler_id, attempt, headers, history, payload, expires_at,
            priority, key
        FROM pg_temp.rebase_schedule ORDER BY due, id;
    GET DIAGNOSTICS kept = ROW_COUNT;
    PERFORM host.require_kept(kept, (SELECT count(*) FROM pg_temp.rebase_schedule), 'host.{q}__schedule');
    INSERT INTO host.{q}__promotion (due, schedule_id, hi, late_txids, late_txid, late_id, promoted)
        VALUES ('-infinity', 0, '1:1:', '{}', 0, 0, array_fill(0::bigint, ARRAY[21]));
    INSERT INTO host.{q}__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
            row_count, leaves, is_cursor, more, token, hi, txids, lane, leased)
        SELECT host.cursor_seq(h, n), 0, 0, 0, 0, h, 0, 0, 0, true, false, gen_random_uuid(), '1:1:', '{}', n, '{0,0,0}'
        FROM unnest(everyone) h CROSS JOIN generate_series(0, {lanes} - 1) n;
    -- The key of a message that is not kept is free, whatever its register has missed.
    UPDATE host.{q}__unique u SET settled_by = everyone
        WHERE NOT host.is_settled({queue_id}, u.taken_at, u.settled_by) AND u.message_id NOT IN (
            SELECT origin FROM pg_temp.rebase_message UNION ALL SELECT origin FROM pg_temp.rebase_schedule);
    DROP VIEW pg_temp.rebase_row;
    DROP TABLE pg_temp.rebase_leaf, pg_temp.rebase_cursor, pg_temp.rebase_open, pg_temp.rebase_message,
        pg_temp.rebase_schedule;
END $$;
