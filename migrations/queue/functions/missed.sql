-- Template: the proof that each message of a leaf was leased, and what to do about those that were
-- not because something hid them from the hosts. The rotation asks for the proof before TRUNCATE.

-- Whether a leaf of a kind has messages that a snapshot does not see. Probes the index.
CREATE OR REPLACE FUNCTION host.{q}__has_later(p_kind text, p_leaf int, p_hi txid_snapshot) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET enable_sort = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    found_one boolean;
BEGIN
    IF p_kind = 'schedule' THEN
        EXECUTE format(
            'SELECT EXISTS (SELECT FROM host.{q}__schedule_%1$s s WHERE s.txid >= txid_snapshot_xmax($1))
                OR EXISTS (SELECT FROM host.{q}__schedule_%1$s s WHERE s.txid = ANY (ARRAY(SELECT txid_snapshot_xip($1))))',
            p_leaf) INTO found_one USING p_hi;
        RETURN found_one;
    END IF;
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM generate_series(0, {lanes} - 1) n WHERE
            EXISTS (SELECT FROM host.{q}__message_%1$s m WHERE {lanes?m.lane = n AND }m.txid >= txid_snapshot_xmax($1))
            OR EXISTS (SELECT FROM host.{q}__message_%1$s m
                WHERE {lanes?m.lane = n AND }m.txid = ANY (ARRAY(SELECT txid_snapshot_xip($1)))))',
        p_leaf) INTO found_one USING p_hi;
    RETURN found_one;
END $$;

-- Counts the messages of a leaf that gets no more, as its owner sees them, and by no index. Each
-- block is read once, whatever else keeps the leaf: the count is kept, and is made anew only when a
-- message has come late. A call counts for half a second at most. `why` NULL: it is done; else how
-- far it is, in words, and whether to go on.
-- Locks: advisory ({count_lock}, queue), tried; the leaf's row. Tables: message, schedule,
-- host.partition_count.
CREATE OR REPLACE FUNCTION host.{q}__count(p_kind text, p_leaf int, OUT why text, OUT again boolean)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET enable_seqscan = on SET enable_tidscan = on SET jit = off AS $$
DECLARE
    c record;
    until timestamptz := clock_timestamp() + interval '500 ms';
    partition text := format('host.{q}__%s_%s', p_kind, p_leaf);
    now_blocks bigint := pg_relation_size(partition::regclass) / current_setting('block_size')::bigint;
    n bigint;
BEGIN
    again := false;
    SELECT x.hi, x.blocks, x.messages, x.missed INTO c FROM host.partition_count x
        WHERE x.queue_id = {queue_id} AND x.kind = p_kind AND x.leaf = p_leaf;
    IF c.blocks = now_blocks AND NOT host.{q}__has_later(p_kind, p_leaf, c.hi) THEN
        RETURN;
    END IF;
    IF NOT pg_try_advisory_xact_lock({count_lock}, {queue_id}) THEN
        why := 'another host counts its messages';
        RETURN;
    END IF;
    IF c.blocks IS NULL OR c.blocks > now_blocks OR host.{q}__has_later(p_kind, p_leaf, c.hi) THEN
        SELECT txid_current_snapshot() AS hi, 0::bigint AS blocks, 0::bigint AS messages, NULL::bigint AS missed INTO c;
    END IF;
    WHILE c.blocks < now_blocks AND clock_timestamp() < until LOOP
        EXECUTE format('SELECT count(*) FROM %s WHERE ctid >= $1 AND ctid < $2', partition)
            INTO n USING format('(%s,0)', c.blocks)::tid, format('(%s,0)', least(c.blocks + 4096, now_blocks))::tid;
        c.messages := c.messages + n;
        c.blocks := least(c.blocks + 4096, now_blocks);
    END LOOP;
    INSERT INTO host.partition_count (queue_id, kind, leaf, hi, blocks, messages, missed)
        VALUES ({queue_id}, p_kind, p_leaf, c.hi, c.blocks, c.messages, c.missed)
        ON CONFLICT (queue_id, kind, leaf) DO UPDATE
            SET hi = EXCLUDED.hi, blocks = EXCLUDED.blocks, messages = EXCLUDED.messages, missed = EXCLUDED.missed;
    IF c.blocks < now_blocks THEN
        why := format('its messages are being counted, %s of %s blocks so far', c.blocks, now_blocks);
        again := true;
    END IF;
END $$;

-- How many messages of a leaf that was counted a handler has never leased. NULL: it is not known,
-- since some were leased before leases were counted. Under the handler's lock.
CREATE OR REPLACE FUNCTION host.{q}__missed_by(p_leaf int, p_handler int) RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off AS $$
    SELECT x.messages - CASE WHEN bool_and(c.leased IS NOT NULL) THEN sum(c.leased)::bigint END
    FROM host.partition_count x
    CROSS JOIN LATERAL (
        SELECT (SELECT l.leased[p_leaf + 1] FROM host.{q}__lease l
            WHERE l.handler_id = p_handler {lanes?AND l.lane = n.lane }AND l.is_cursor ORDER BY l.id DESC LIMIT 1) AS leased
        FROM generate_series(0, {lanes} - 1) n (lane)
    ) c
    WHERE x.queue_id = {queue_id} AND x.kind = 'message' AND x.leaf = p_leaf GROUP BY x.messages
$$;

-- Which handler has not leased all messages of a leaf that were counted, in words; NULL: each has.
-- Notes how many. Less than were leased is nobody's loss. Under the handlers' locks.
CREATE OR REPLACE FUNCTION host.{q}__missed(p_leaf int) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    h record;
    n bigint;
    most bigint;
    who text;
BEGIN
    FOR h IN SELECT id, name FROM host.handler WHERE queue_id = {queue_id} ORDER BY id LOOP
        n := host.{q}__missed_by(p_leaf, h.id);
        IF n > coalesce(most, 0) THEN
            most := n;
            who := h.name;
        END IF;
    END LOOP;
    UPDATE host.partition_count SET missed = most
        WHERE queue_id = {queue_id} AND kind = 'message' AND leaf = p_leaf AND missed IS DISTINCT FROM most;
    RETURN CASE WHEN most > 0 THEN
        format('handler "%s" has never leased %s of its messages: something hides them, see `host doctor`', who, most) END;
END $$;

-- Inserts again the messages of each leaf that a handler has missed, for that handler, and takes
-- them into its account. A message counts as leased only if its lease has as many messages as it
-- says: in doubt, it runs once more. The leases that say so are there, since no leaf goes before
-- the one that its leases are of. The same for the schedule. For the owner, once what hid the
-- messages is mended. Returns how many it has inserted.
-- Locks: advisory ({rotation_lock}, queue), ({cursor_lock}, handlers) and ({promotion_lock},
-- queue), at most 10 s each: hosts lease nothing meanwhile. Tables: message, lease, schedule,
-- promotion, host.partition_count.
CREATE OR REPLACE FUNCTION host.{q}__deliver_missed() RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '10s' SET jit = off AS $$
DECLARE
    c host.partition_count;
    h record;
    n bigint;
    again bigint;
    wanted bigint;
    total bigint := 0;
BEGIN
    PERFORM host.require_read_committed('delivering messages again');
    PERFORM pg_advisory_xact_lock({rotation_lock}, {queue_id});
    PERFORM pg_advisory_xact_lock({cursor_lock}, id) FROM (SELECT id FROM host.handler WHERE queue_id = {queue_id} ORDER BY id) x;
    FOR c IN SELECT * FROM host.partition_count x
        WHERE x.queue_id = {queue_id} AND x.kind = 'message' AND x.missed > 0 ORDER BY x.leaf LOOP
        FOR h IN SELECT id FROM host.handler WHERE queue_id = {queue_id} ORDER BY id LOOP
            n := host.{q}__missed_by(c.leaf, h.id);
            CONTINUE WHEN coalesce(n, 0) <= 0;
            CREATE TEMP TABLE missed_not AS
                SELECT r.txid, r.id
                FROM host.{q}__lease l
                CROSS JOIN LATERAL (
                    SELECT m.txid, m.id, count(*) OVER () AS n FROM {ordered?queue.{q} m
                    WHERE m.lane = l.lane AND m.id > l.from_id AND m.id <= l.to_id AND m.txid <@ l.txids
                }{unordered?host.parts_after(l.txids, l.from_txid, l.from_id) p
                    CROSS JOIN LATERAL (SELECT m.txid, m.id FROM queue.{q} m
                        WHERE {lanes?m.lane = l.lane AND }(m.txid, m.id) > (p.a_txid, p.a_id) AND m.txid < p.b
                            AND (m.txid, m.id) <= (l.to_txid, l.to_id)) m}
                ) r
                WHERE l.handler_id = h.id AND l.is_cursor AND l.row_count = r.n AND l.leaves & (1 << c.leaf) <> 0;
            EXECUTE format(
                'WITH missed AS MATERIALIZED (
                    SELECT m.* FROM host.{q}__message_%s m LEFT JOIN pg_temp.missed_not x ON x.txid = m.txid AND x.id = m.id
                    WHERE x.id IS NULL AND coalesce(m.handler_id = $1, true) AND txid_visible_in_snapshot(m.txid, $2)
                 ), again AS (
                    INSERT INTO queue.{q} (enqueued_at, run_at, origin, handler_id, attempt, headers, history, payload,
                        expires_at, priority, key)
                    SELECT m.enqueued_at, m.run_at, coalesce(m.origin, m.id), $1, m.attempt, m.headers, m.history, m.payload,
                        m.expires_at, m.priority, m.key
                    FROM missed m ORDER BY m.txid, m.id
                    RETURNING id
                 )
                 SELECT (SELECT count(*) FROM again), (SELECT count(*) FROM missed)', c.leaf)
                INTO again, wanted USING h.id, c.hi;
            PERFORM host.require_kept(again, wanted, 'queue.{q}');
            total := total + again;
            DROP TABLE pg_temp.missed_not;
            -- In the account of the first lane: the proof asks for the sum of all.
            INSERT INTO host.{q}__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
                    row_count, leaves, is_cursor, more, token, hi, txids, lane, last_id, tat, held, leased)
                SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, l.from_txid, l.from_id, l.to_txid, l.to_id,
                    h.id, 0, 0, 0, true, l.more, gen_random_uuid(), l.hi, l.txids, l.lane, l.last_id, a.tat, a.held,
                    (SELECT array_agg(l.leased[i] + CASE WHEN i = c.leaf + 1 THEN n ELSE 0 END ORDER BY i)
                        FROM generate_series(1, 3) i)
                FROM host.{q}__cursors(h.id) k JOIN host.{q}__lease l ON l.id = k.id
                CROSS JOIN LATERAL host.{q}__allowance(h.id, k.lane) a
                WHERE k.lane = 0;
        END LOOP;
        UPDATE host.partition_count x SET missed = NULL
            WHERE x.queue_id = {queue_id} AND x.kind = 'message' AND x.leaf = c.leaf;
    END LOOP;
    RETURN total + host.{q}__promote_missed();
END $$;
