-- Template, only for queues that keep an order: lease and read, in place of those of
-- queue/functions.
-- Overrides: functions/lease.sql __lease __rows
--
-- A lane has at most one open lease, and a lease is of one lane. Its messages are handed out in
-- order of their ids: in order of (txid, id) a transaction that began early and inserted late would
-- come first. An id is taken at the INSERT, so whoever inserts after another's commit has the
-- greater one; of what one window holds and another does not, the earlier window was committed
-- first.

-- Leases the next messages of a lane, whoever may have an open lease of it. NULLs when there is
-- none. `bytes`: of payload and headers, as stored. The caller has made the checks of lease, and
-- holds its lock.
CREATE OR REPLACE FUNCTION host.{q}__cut(
    p_handler int, p_session int, p_seq bigint, p_token uuid, p_n int, p_bytes bigint, p_lane int,
    OUT lease_id bigint, OUT row_count int, OUT more boolean, OUT bytes bigint
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET plan_cache_mode = force_generic_plan
SET enable_sort = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    c record;       -- the cursor
    hi txid_snapshot;
    w int8multirange;
    f_id bigint;    -- from
    l_id bigint;    -- the window's last
    cut record;
    leaf int;
    account bigint[];
BEGIN
    SELECT l.* INTO c FROM host.{q}__lease l
        WHERE l.handler_id = p_handler AND l.lane = p_lane AND l.is_cursor ORDER BY l.id DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'handler % has no cursor on queue "{q}"', p_handler USING ERRCODE = 'HQ004';
    END IF;
    IF c.more THEN
        hi := c.hi;
        w := c.txids;
        f_id := c.to_id;
        l_id := c.last_id;
    ELSE
        hi := txid_current_snapshot();
        w := CASE WHEN hi::text = c.hi::text THEN '{}' ELSE host.txid_window(c.hi, hi) END;
        -- id + 0: not by a walk over the lane in order of ids.
        SELECT min(m.first) - 1, max(m.last) INTO f_id, l_id FROM host.parts_after(w, 0, 0) part
            CROSS JOIN LATERAL (SELECT min(m.id + 0) AS first, max(m.id + 0) AS last FROM queue.{q} m
                WHERE m.lane = p_lane AND (m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b) m;
    END IF;
    SELECT count(*)::int AS n, min(m.id) AS id_min, max(m.id) AS id_max, sum(m.size) AS size INTO cut
        FROM (SELECT m.id,
                {message_bytes} AS size
            FROM queue.{q} m
            WHERE m.lane = p_lane AND m.id > f_id AND m.id <= l_id AND m.txid <@ w
            ORDER BY m.id LIMIT p_n) m;
    IF cut.size > p_bytes THEN
        -- Too much: again, only as far as the bytes allow, but at least one message.
        SELECT count(*)::int AS n, min(m.id) AS id_min, max(m.id) AS id_max, max(m.total) AS size INTO cut
            FROM (SELECT m.id,
                    sum({message_bytes})
                        OVER (ORDER BY m.id ROWS UNBOUNDED PRECEDING) AS total,
                    row_number() OVER (ORDER BY m.id ROWS UNBOUNDED PRECEDING) AS nth
                FROM queue.{q} m
                WHERE m.lane = p_lane AND m.id > f_id AND m.id <= l_id AND m.txid <@ w
                ORDER BY m.id LIMIT p_n) m
            WHERE m.total <= p_bytes OR m.nth = 1;
    END IF;
    IF cut.n = 0 THEN
        RETURN;
    END IF;
    more := cut.id_max < l_id;
    account := c.leased;
    IF cut.id_max / {generation_size} > c.id / {generation_size} THEN
        account := host.begun_account(account, c.id / {generation_size}, cut.id_max / {generation_size});
    END IF;
    IF cut.id_min / {generation_size} = cut.id_max / {generation_size} THEN
        leaf := cut.id_min / {generation_size} % 3 + 1;
        account[leaf] := account[leaf] + cut.n;
    ELSE
        SELECT ARRAY[account[1] + count(*) FILTER (WHERE m.leaf = 0), account[2] + count(*) FILTER (WHERE m.leaf = 1),
                account[3] + count(*) FILTER (WHERE m.leaf = 2)] INTO account
            FROM (SELECT m.id / {generation_size} % 3 AS leaf FROM queue.{q} m
                WHERE m.lane = p_lane AND m.id > f_id AND m.id <= cut.id_max AND m.txid <@ w) m;
    END IF;
    INSERT INTO host.{q}__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
            row_count, leaves, is_cursor, more, token, hi, txids, lane, last_id, leased)
        VALUES (p_seq, 0, f_id, 0, cut.id_max, p_handler, p_session,
            cut.n, host.leaves_between(cut.id_min, cut.id_max), true, more, p_token, hi, w, p_lane, l_id,
            account)
        RETURNING id INTO lease_id;
    row_count := cut.n;
    bytes := cut.size;
END $$;

-- The head of a lease of one lane or of several.
CREATE OR REPLACE FUNCTION host.{q}__begin_lease(p_handler int, p_session int) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '1s' AS $$
BEGIN
    {begin_lease}
END $$;

-- As everywhere, but of a lane, and in order of the ids. For what needs no order (see purge).
-- Locks, tables: as everywhere.
CREATE OR REPLACE FUNCTION host.{q}__lease(
    p_handler int, p_session int, p_seq bigint, p_token uuid, p_n int, p_bytes bigint, p_lane int DEFAULT 0,
    OUT lease_id bigint, OUT row_count int, OUT more boolean, OUT wait_ms bigint, OUT full_up boolean
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
BEGIN
    PERFORM host.{q}__begin_lease(p_handler, p_session);
    SELECT c.lease_id, c.row_count, c.more INTO lease_id, row_count, more
        FROM host.{q}__cut(p_handler, p_session, p_seq, p_token, p_n, p_bytes, p_lane) c;
END $$;

-- Leases from up to p_lanes lanes that are free and have messages, beginning with p_first and going
-- round: a lease for each, up to p_n messages and p_bytes together. Free is a lane whose newest
-- lease is settled; of one that is held for a retry, the lease is inherited when it is due. One row
-- for each lease, with the seqs p_seq, p_seq + 1 …; and a last one without a lease: `more` says
-- whether further lanes have messages, `wait_ms` when the next that is held will be due. Locks,
-- tables: as lease, and as inherit.
CREATE OR REPLACE FUNCTION host.{q}__lease_lanes(
    p_handler int, p_session int, p_seq bigint, p_token uuid, p_n int, p_bytes bigint, p_first int, p_lanes int,
    p_deaths_max int
)
RETURNS TABLE (lease_id bigint, row_count int, more boolean, wait_ms bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET plan_cache_mode = force_generic_plan
SET enable_sort = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    present txid_snapshot;
    done int8multirange;
    lane record;
    leased record;
    taken int := 0;
    bytes_left bigint := p_bytes;
    full_up boolean := false;
    next_due timestamptz;
BEGIN
    PERFORM host.{q}__begin_lease(p_handler, p_session);
    {look_at_present}
    FOR lane IN
        -- One that was handed on in the future is due: the clock was set back.
        SELECT n.lane, held.id AS held_id, CASE WHEN held.leased_at <= clock_timestamp() + interval '3 s' THEN held.due END AS due
        FROM (SELECT (p_first + i) % {lanes} AS lane FROM generate_series(0, {lanes} - 1) i) n
        CROSS JOIN LATERAL (
            SELECT l.hi, l.more FROM host.{q}__lease l
            WHERE l.handler_id = p_handler AND l.lane = n.lane AND l.is_cursor ORDER BY l.id DESC LIMIT 1
        ) c
        LEFT JOIN LATERAL (
            SELECT l.id, l.due, l.leased_at, l.session_id,
                {rest_of_lease} IS NOT DISTINCT FROM 0 AS settled
            FROM host.{q}__lease l
            WHERE l.handler_id = p_handler AND l.lane = n.lane
                AND l.row_count > 0 AND (l.session_id <> 0 OR l.due IS NOT NULL)
            ORDER BY l.id DESC LIMIT 1
        ) newest ON true
        LEFT JOIN LATERAL (SELECT newest.id, newest.due, newest.leased_at) held ON NOT newest.settled AND newest.session_id = 0
        WHERE held.id IS NOT NULL
            OR coalesce(newest.settled, true) AND (c.more
                OR {lane_has_messages})
    LOOP
        IF lane.due > clock_timestamp() THEN
            next_due := least(next_due, lane.due);
            CONTINUE;
        END IF;
        IF taken = p_lanes OR bytes_left <= 0 THEN
            full_up := true;
            EXIT;
        END IF;
        IF lane.held_id IS NOT NULL THEN
            SELECT i.lease_id, i.row_count, i.more, 0::bigint AS bytes, i.hidden INTO leased
                FROM host.{q}__inherit(lane.held_id, p_session, p_seq + taken, p_token, p_deaths_max) i;
            IF leased.hidden THEN
                -- It stays held until its messages are seen again; the other lanes go on.
                next_due := least(next_due, clock_timestamp() + interval '1 s');
            END IF;
        ELSE
            -- What the lane has beyond this lease is no part of it.
            SELECT c.lease_id, c.row_count, false AS more, c.bytes INTO leased
                FROM host.{q}__cut(p_handler, p_session, p_seq + taken, p_token,
                    greatest(p_n / p_lanes, 1), bytes_left, lane.lane) c;
        END IF;
        CONTINUE WHEN leased.lease_id IS NULL;
        taken := taken + 1;
        bytes_left := bytes_left - leased.bytes;
        RETURN QUERY SELECT leased.lease_id, leased.row_count, leased.more, NULL::bigint;
    END LOOP;
    RETURN QUERY SELECT NULL::bigint, NULL::int, full_up,
        CASE WHEN next_due IS NOT NULL THEN greatest(0, ceil(extract(epoch FROM next_due - clock_timestamp()) * 1000)) END::bigint;
END $$;

-- The messages of a lease, in order. The attempt and the history of one that is tried again are
-- with the lease. Where two hosts have died over the lease, only the first of them: the rest is
-- handed on. Refused where some are missing (see hidden.sql).
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
    n bigint;
BEGIN
    SELECT * INTO l FROM host.{q}__lease l WHERE l.session_id = p_session AND l.seq = p_seq;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT m.pos, m.id, m.enqueued_at, m.run_at, m.handler_id,
            CASE WHEN m.pos = lower(l.positions) THEN coalesce(l.attempt, m.attempt) ELSE m.attempt END, m.headers,
            CASE WHEN m.pos = lower(l.positions) AND l.attempt IS NOT NULL THEN l.history ELSE m.history END,
            m.payload, m.expires_at, m.priority, m.key
        FROM (
            SELECT (row_number() OVER (ORDER BY m.id ROWS UNBOUNDED PRECEDING))::int - 1 AS pos, coalesce(m.origin, m.id) AS id,
                m.enqueued_at, m.run_at, m.handler_id, m.attempt, m.headers, m.history, m.payload, m.expires_at, m.priority,
                m.key
            FROM queue.{q} m
            WHERE m.lane = l.lane AND m.id > l.from_id AND m.id <= l.to_id AND m.txid <@ l.txids
            ORDER BY m.id LIMIT l.row_count) m
        WHERE coalesce(l.positions @> m.pos, true)
        LIMIT CASE WHEN l.deaths >= 2 THEN 1 END;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF l.positions IS NOT NULL THEN
        SELECT count(*) INTO n FROM (
            SELECT FROM queue.{q} m
            WHERE m.lane = l.lane AND m.id > l.from_id AND m.id <= l.to_id AND m.txid <@ l.txids
            ORDER BY m.id LIMIT l.row_count) m;
    END IF;
    IF n < l.row_count THEN
        PERFORM host.{q}__refuse_missing(l.id);
    END IF;
END $$;
