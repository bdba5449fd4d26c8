-- Template: lease and read. The first half of a message's walk.

-- Leases the next messages of a handler in a lane to the session: up to p_n messages, or p_bytes of
-- payload and headers as stored. It cuts them from the window between the cursor's snapshot and the
-- present one, and appends a row to the lease log. It returns no payload. All is NULL if there is
-- no message. If the queue's limits let none start, `wait_ms` is when to ask again, and `full_up`
-- whether to ask as soon as some are settled.{keyed? `bytes` is of what is leased. `p_again`: the
-- transaction has leased from another lane, and inserts nothing else.}
--
-- It is alone in its transaction, which must have no xid when it begins. A snapshot does not list
-- its own transaction as in progress, so rows that the same transaction inserted would be lost. The
-- commit is asynchronous: a lease that is lost in a crash is a redelivery.
-- Locks: advisory ({cursor_lock}, handler) to the end of the transaction. Tables: message, lease.
-- The plan is pinned: statistics of a table that is empty one minute and huge the next are useless.
-- Plans that use a disabled node look expensive, which would trigger JIT. JIT took longer than all
-- the rest, so it is off.
CREATE OR REPLACE FUNCTION host.{q}__lease(
    p_handler int, p_session int, p_seq bigint, p_token uuid, p_n int, p_bytes bigint, p_lane int DEFAULT 0,
    {keyed?p_again boolean DEFAULT false, OUT bytes bigint,
    }OUT lease_id bigint, OUT row_count int, OUT more boolean, OUT wait_ms bigint, OUT full_up boolean
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '1s' SET plan_cache_mode = force_generic_plan
SET enable_sort = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    c record;       -- the cursor
    -- Named as the columns of the new row.
    txids int8multirange;
    hi txid_snapshot;
    from_txid bigint;
    from_id bigint;
    to_txid bigint;
    to_id bigint;
    fresh boolean;
    {unkeyed?bytes bigint;}
    part record;
    cut record;
    id_min bigint;
    id_max bigint;
    allowed record;
    tat timestamptz;
    held bigint[];
    leaf int;
    account bigint[];
    began timestamptz := clock_timestamp();
BEGIN
    {begin_lease}
    SELECT l.* INTO c FROM host.{q}__lease l
        WHERE l.handler_id = p_handler {lanes?AND l.lane = p_lane }AND l.is_cursor ORDER BY l.id DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'handler % has no cursor on queue "{q}"', p_handler USING ERRCODE = 'HQ004';
    END IF;

    IF {limited} THEN
        SELECT * INTO allowed FROM host.{q}__allowance(p_handler, p_lane);
        tat := allowed.tat;
        held := allowed.held;
        IF p_session <> 0 THEN
            IF allowed.messages = 0 THEN
                wait_ms := allowed.wait_ms;
                full_up := allowed.full_up;
                RETURN;
            END IF;
            p_n := least(p_n, allowed.messages);
        END IF;
    END IF;

    -- First what is left of the cursor's window; when that is nothing, a new window.
    fresh := NOT c.more;
    bytes := 0;
    LOOP
        IF fresh THEN
            hi := txid_current_snapshot();
            txids := CASE WHEN hi::text = c.hi::text THEN '{}' ELSE host.txid_window(c.hi, hi) END;
            from_txid := 0;
            from_id := 0;
        ELSE
            hi := c.hi;
            txids := c.txids;
            from_txid := c.to_txid;
            from_id := c.to_id;
        END IF;
        row_count := 0;
        to_txid := from_txid;
        to_id := from_id;
        FOR part IN SELECT * FROM host.parts_after(txids, from_txid, from_id) LOOP
            SELECT count(*)::int AS n, max(m.txid) AS txid, (array_agg(m.id))[count(*)] AS id,
                    min(m.id) AS id_min, max(m.id) AS id_max, sum(m.size) AS bytes INTO cut
                FROM (SELECT m.txid, m.id,
                        {message_bytes} AS size
                    FROM queue.{q} m
                    WHERE {lanes?m.lane = p_lane AND }(m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
                    ORDER BY m.txid, m.id LIMIT p_n - row_count) m;
            IF bytes + cut.bytes > p_bytes THEN
                -- Too much: again, only as far as the bytes allow, but at least one message.
                SELECT count(*)::int AS n, max(m.txid) AS txid, (array_agg(m.id))[count(*)] AS id,
                        min(m.id) AS id_min, max(m.id) AS id_max, p_bytes - bytes AS bytes INTO cut
                    FROM (SELECT m.txid, m.id,
                            sum({message_bytes})
                                OVER (ORDER BY m.txid, m.id ROWS UNBOUNDED PRECEDING) AS total,
                            row_number() OVER (ORDER BY m.txid, m.id ROWS UNBOUNDED PRECEDING) AS nth
                        FROM queue.{q} m
                        WHERE {lanes?m.lane = p_lane AND }(m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
                        ORDER BY m.txid, m.id LIMIT p_n - row_count) m
                    WHERE bytes + m.total <= p_bytes OR row_count + m.nth = 1;
                more := true;
            END IF;
            IF cut.n > 0 THEN
                row_count := row_count + cut.n;
                to_txid := cut.txid;
                to_id := cut.id;
                bytes := bytes + cut.bytes;
                id_min := least(id_min, cut.id_min);
                id_max := greatest(id_max, cut.id_max);
            END IF;
            EXIT WHEN more OR row_count >= p_n;
        END LOOP;
        EXIT WHEN row_count > 0 OR fresh;
        fresh := true;
    END LOOP;
    more := coalesce(more, false) OR row_count >= p_n;

    IF row_count = 0 THEN
        -- An empty poll writes nothing, with one exception. A window may be wide, or slow to walk
        -- because much in it was rolled back: it is walked once and then left behind. Many lanes
        -- may be empty, so with lanes width does not count, and slow begins later.
        IF c.more {plain?OR txid_snapshot_xmax(hi) - txid_snapshot_xmax(c.hi) > 1000
            }OR clock_timestamp() - began > interval '{plain?10}{lanes?100} ms' THEN
            INSERT INTO host.{q}__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
                    row_count, leaves, is_cursor, more, token, hi, txids, lane, tat, held, leased)
                VALUES (p_seq, 0, 0, 0, 0, p_handler, p_session, 0, 0, true, false, p_token, hi, '{}', p_lane, tat, held,
                    c.leased);
        END IF;
        row_count := NULL;
        RETURN;
    END IF;
    IF tat IS NOT NULL AND p_session <> 0 THEN
        tat := greatest(tat, clock_timestamp()) + host.{q}__starts(p_handler, txids, from_txid, from_id, row_count, p_lane)
            * allowed.step * interval '1 microsecond';
    END IF;
    account := c.leased;
    IF id_max / {generation_size} > c.id / {generation_size} THEN
        account := host.begun_account(account, c.id / {generation_size}, id_max / {generation_size});
    END IF;
    IF id_min / {generation_size} = id_max / {generation_size} THEN
        leaf := id_min / {generation_size} % 3 + 1;
        account[leaf] := account[leaf] + row_count;
    ELSE
        account := host.{q}__leased(account, txids, from_txid, from_id, row_count, p_lane);
    END IF;
    INSERT INTO host.{q}__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
            row_count, leaves, is_cursor, more, token, hi, txids, lane, tat, held, leased)
        VALUES (p_seq, from_txid, from_id, to_txid, to_id, p_handler, p_session,
            row_count, host.leaves_between(id_min, id_max), true, more, p_token, hi, txids, p_lane, tat, held, account)
        RETURNING id INTO lease_id;
END $$;

-- The account of a cursor after a lease that has messages of several leaves: they are counted once
-- more. A lease counts those of one leaf, which nearly all have, by itself.
CREATE OR REPLACE FUNCTION host.{q}__leased(
    p_before bigint[], p_window int8multirange, p_txid bigint, p_id bigint, p_count int, p_lane int
) RETURNS bigint[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET plan_cache_mode = force_generic_plan
SET enable_sort = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    part record;
    cut record;
    done int := 0;
BEGIN
    FOR part IN SELECT * FROM host.parts_after(p_window, p_txid, p_id) LOOP
        EXIT WHEN done >= p_count;
        SELECT count(*) AS n, count(*) FILTER (WHERE m.leaf = 0) AS a, count(*) FILTER (WHERE m.leaf = 1) AS b,
                count(*) FILTER (WHERE m.leaf = 2) AS c INTO cut
            FROM (SELECT m.id / {generation_size} % 3 AS leaf FROM queue.{q} m
                WHERE {lanes?m.lane = p_lane AND }(m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
                ORDER BY m.txid, m.id LIMIT p_count - done) m;
        p_before := ARRAY[p_before[1] + cut.a, p_before[2] + cut.b, p_before[3] + cut.c];
        done := done + cut.n;
    END LOOP;
    RETURN p_before;
END $$;

-- The messages of a lease, by the numbers that the client chose for it, so that it can be sent
-- before the lease has answered. No lock. The set is frozen, so the first row_count rows
-- after the lease's start are it: the upper bound alone would make the index scan run to the end of
-- a big transaction. With both, as many rows as there should be are exactly those; fewer are
-- refused (see hidden.sql). `pos` is NULL if all of them come, in order: to count them here costs
-- as much as to find them, and WITH ORDINALITY next to nothing.
CREATE OR REPLACE FUNCTION host.{q}__rows(p_session int, p_seq bigint)
RETURNS TABLE (
    pos int, id bigint, enqueued_at timestamptz, run_at timestamptz, handler_id int,
    attempt smallint, headers jsonb, history jsonb, payload {payload}, expires_at timestamptz, priority smallint, key text
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET plan_cache_mode = force_generic_plan
SET enable_sort = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    l record;
    part record;
    done int := 0;
    n bigint;
BEGIN
    SELECT * INTO l FROM host.{q}__lease l WHERE l.session_id = p_session AND l.seq = p_seq;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR part IN SELECT * FROM host.parts_after(l.txids, l.from_txid, l.from_id) LOOP
        EXIT WHEN done >= l.row_count;
        IF l.positions IS NULL THEN
            RETURN QUERY
                SELECT NULL::int, coalesce(m.origin, m.id), m.enqueued_at, m.run_at,
                    m.handler_id, m.attempt, m.headers, m.history, m.payload, m.expires_at, m.priority, m.key
                FROM queue.{q} m
                WHERE {lanes?m.lane = l.lane AND }(m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
                    AND (m.txid, m.id) <= (l.to_txid, l.to_id)
                ORDER BY m.txid, m.id LIMIT l.row_count - done;
            GET DIAGNOSTICS n = ROW_COUNT;
        ELSE
            -- What is left of a lease that was taken over.
            RETURN QUERY
                SELECT m.* FROM (
                    SELECT done - 1 + (row_number() OVER (ORDER BY m.txid, m.id ROWS UNBOUNDED PRECEDING))::int AS pos, coalesce(m.origin, m.id), m.enqueued_at, m.run_at,
                        m.handler_id, m.attempt, m.headers, m.history, m.payload, m.expires_at, m.priority, m.key
                    FROM queue.{q} m
                    WHERE {lanes?m.lane = l.lane AND }(m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
                        AND (m.txid, m.id) <= (l.to_txid, l.to_id)
                    ORDER BY m.txid, m.id LIMIT l.row_count - done) m
                WHERE l.positions @> m.pos;
            SELECT count(*) INTO n FROM (
                SELECT FROM queue.{q} m
                WHERE {lanes?m.lane = l.lane AND }(m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
                    AND (m.txid, m.id) <= (l.to_txid, l.to_id)
                ORDER BY m.txid, m.id LIMIT l.row_count - done) m;
        END IF;
        done := done + n;
    END LOOP;
    IF done < l.row_count THEN
        PERFORM host.{q}__refuse_missing(l.id);
    END IF;
END $$;

-- The same, each with its position.
CREATE OR REPLACE FUNCTION host.{q}__read(p_session int, p_seq bigint)
RETURNS TABLE (
    pos int, id bigint, enqueued_at timestamptz, run_at timestamptz, handler_id int,
    attempt smallint, headers jsonb, history jsonb, payload {payload}, expires_at timestamptz, priority smallint, key text
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
    SELECT coalesce(r.pos, r.ordinality::int - 1), r.id, r.enqueued_at, r.run_at, r.handler_id, r.attempt, r.headers, r.history,
        r.payload, r.expires_at, r.priority, r.key
    FROM host.{q}__rows(p_session, p_seq) WITH ORDINALITY r
$$;
