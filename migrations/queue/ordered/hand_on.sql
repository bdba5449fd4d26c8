-- Template, only for queues that keep an order: hand_on and inherit, and take_over in place of that
-- of queue/functions. A lane's open lease is never split, and never two: whoever ends one that has
-- messages left appends the next in the same transaction.
-- Overrides: functions/settle.sql __take_over

-- Ends the session's lease and leaves the rest of it to nobody (session 0), who holds the lane
-- until it is due: then a host inherits it. With p_entry, the first of the rest is to be tried
-- again after p_delay_ms, and the entry is for its history; p_pos says which that is. Without, the
-- rest has not been tried, and is due at once. False: this had been done before, its reply lost.
-- Raises HQ002 when the lease is not (or no longer) the session's.
-- Locks: advisory ({rotation_lock}, queue), shared, so that the leaf of the new row is not
-- truncated before it commits; waits for no one longer than lock_timeout. Tables: lease,
-- settlement.
CREATE OR REPLACE FUNCTION host.{q}__hand_on(
    p_lease bigint, p_session int, p_token uuid, p_pos int, p_delay_ms bigint, p_entry jsonb
) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '1s' SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    l record;
    s record;
    rest int4multirange;
BEGIN
    PERFORM pg_advisory_xact_lock_shared({rotation_lock}, {queue_id});
    SELECT * INTO l FROM host.{q}__lease WHERE id = p_lease;
    IF NOT FOUND OR l.session_id <> p_session OR l.token <> p_token THEN
        RAISE EXCEPTION 'lease % is not held by session %', p_lease, p_session USING ERRCODE = 'HQ002';
    END IF;
    IF EXISTS (SELECT FROM host.{q}__lease n WHERE n.session_id = 0 AND n.seq = p_lease) THEN
        RETURN false;
    END IF;
    {newest_settlement}
    rest := coalesce(l.positions, int4multirange(int4range(0, l.row_count)))
        - coalesce((SELECT range_agg(t.settled) FROM host.{q}__settlement t WHERE t.lease_id = p_lease), '{}');
    IF s.rest = 0 OR isempty(rest) OR p_entry IS NOT NULL AND lower(rest) <> p_pos THEN
        RAISE EXCEPTION 'lease % has not left position % as its first', p_lease, p_pos USING ERRCODE = 'HQ002';
    END IF;
    INSERT INTO host.{q}__settlement (lease_id, seq, rest, settled, revoked)
        VALUES (p_lease, coalesce(s.seq, -1) + 1, 0, '{}', true);
    INSERT INTO host.{q}__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
            row_count, leaves, deaths, is_cursor, more, token, hi, txids, positions, lane, last_id, due, attempt, history)
        SELECT p_lease, l.from_txid, l.from_id, l.to_txid, l.to_id, l.handler_id, 0,
            l.row_count, l.leaves, l.deaths, false, false, gen_random_uuid(), l.hi, l.txids, rest, l.lane, l.last_id,
            -- No later than its deadline: then it is given up on.
            least(now() + coalesce(p_delay_ms, 0) * interval '1 ms', m.expires_at),
            m.attempt + 1, coalesce(m.history, '[]') || p_entry
        FROM (SELECT) one LEFT JOIN host.{q}__read(p_session, l.seq) m ON p_entry IS NOT NULL AND m.pos = p_pos;
    RETURN true;
END $$;

-- Takes on a lease that has no master: its session has ended, or it is p_session itself (whose
-- reply was lost), or nobody, and it is due. The rest is one lease of p_session, in order. If two
-- hosts died over it, the session runs its first message only, and `more` says that it hands on the
-- others. If p_deaths_max hosts died, the first message becomes a dead letter. NULL: nothing was
-- left, or some of it is missing: `hidden`, and it stays as it is; `gone`: so many were deleted,
-- and what is left is a stray. Raises HQ002 when it is not to be had. The caller sees to it that no
-- leaf is truncated meanwhile.
-- Tables: as settle.
CREATE OR REPLACE FUNCTION host.{q}__inherit(
    p_lease bigint, p_session int, p_seq bigint, p_token uuid, p_deaths_max int,
    OUT lease_id bigint, OUT row_count int, OUT more boolean, OUT gone int, OUT hidden boolean
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    l record;
    s record;
    ended record;
    rest int4multirange;
    first int;
    deaths int;
    tried boolean;
BEGIN
    SELECT * INTO l FROM host.{q}__lease WHERE id = p_lease;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lease % is gone', p_lease USING ERRCODE = 'HQ002';
    END IF;
    {newest_settlement}
    SELECT * INTO ended FROM host.session x WHERE x.id = l.session_id;
    IF s.rest = 0 OR l.row_count = 0
        OR NOT (ended.ended_at IS NOT NULL OR l.session_id = p_session
            -- One that was handed on in the future is due: the clock was set back.
            OR l.session_id = 0 AND coalesce(l.due <= clock_timestamp()
                OR l.due IS NOT NULL AND l.leased_at > clock_timestamp() + interval '3 s', false))
        OR NOT EXISTS (SELECT FROM host.session x WHERE x.id = p_session AND x.ended_at IS NULL) THEN
        RAISE EXCEPTION 'lease % is not to be taken over', p_lease USING ERRCODE = 'HQ002';
    END IF;
    gone := host.{q}__missing(p_lease);
    IF gone IS DISTINCT FROM 0 THEN
        hidden := gone IS NULL;
        IF NOT hidden THEN
            PERFORM host.{q}__recut(p_lease, gone);
        END IF;
        RETURN;
    END IF;
    gone := NULL;
    INSERT INTO host.{q}__settlement (lease_id, seq, rest, settled, revoked)
        VALUES (p_lease, coalesce(s.seq, -1) + 1, 0, '{}', true);
    rest := coalesce(l.positions, int4multirange(int4range(0, l.row_count)))
        - coalesce((SELECT range_agg(t.settled) FROM host.{q}__settlement t WHERE t.lease_id = p_lease), '{}');
    deaths := l.deaths + CASE WHEN ended.lost THEN 1 ELSE 0 END;
    first := lower(rest);
    IF l.deaths >= 2 AND first <> lower(l.positions) THEN
        -- That which was in flight is settled. The others were not given to that host.
        deaths := 0;
    END IF;

    IF deaths >= p_deaths_max THEN
        PERFORM host.{q}__bury_poison(l.session_id, l.seq, int4multirange(int4range(first, first + 1)), deaths);
        rest := rest - int4multirange(int4range(first, first + 1));
        deaths := 0;
    END IF;
    IF isempty(rest) THEN
        RETURN;
    END IF;
    tried := l.attempt IS NOT NULL AND lower(rest) = lower(l.positions);
    INSERT INTO host.{q}__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
            row_count, leaves, deaths, is_cursor, more, token, hi, txids, positions, lane, last_id, attempt, history)
        VALUES (p_seq, l.from_txid, l.from_id, l.to_txid, l.to_id, l.handler_id, p_session,
            l.row_count, l.leaves, deaths, false, false, p_token, l.hi, l.txids, rest, l.lane, l.last_id,
            CASE WHEN tried THEN l.attempt END, CASE WHEN tried THEN l.history END)
        RETURNING id INTO lease_id;
    row_count := CASE WHEN deaths >= 2 THEN 1 ELSE host.positions(rest) END;
    more := row_count < host.positions(rest);
END $$;

-- As everywhere, but of all that is left, however much that is.
-- Locks, tables: as everywhere.
CREATE OR REPLACE FUNCTION host.{q}__take_over(
    p_lease bigint, p_session int, p_seq bigint, p_token uuid, p_n int, p_deaths_max int,
    OUT lease_id bigint, OUT row_count int, OUT more boolean, OUT gone int
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '1s' AS $$
DECLARE
    hidden boolean;
BEGIN
    PERFORM pg_advisory_xact_lock_shared({rotation_lock}, {queue_id});
    SELECT i.lease_id, i.row_count, i.more, i.gone, i.hidden INTO lease_id, row_count, more, gone, hidden
        FROM host.{q}__inherit(p_lease, p_session, p_seq, p_token, p_deaths_max) i;
    IF hidden THEN
        PERFORM host.{q}__refuse_missing(p_lease);
    END IF;
END $$;

-- The lanes that a retry holds for a handler, and until when the first and the last of them.
CREATE OR REPLACE FUNCTION host.{q}__held_lanes(p_handler int, OUT lanes bigint, OUT first_due timestamptz, OUT last_due timestamptz)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
    SELECT count(*), min(l.due), max(l.due) FROM host.{q}__lease l
    WHERE l.handler_id = p_handler AND l.session_id = 0 AND l.due IS NOT NULL
        AND {rest_of_lease} IS DISTINCT FROM 0
$$;
