-- Template: settle and take_over. The second half of a message's walk. Both append the next row of
-- a lease's settlements. (lease_id, seq) is unique, which makes the append a compare-and-set: if
-- two sessions try at the same time, exactly one wins, at every isolation level.

-- Makes outcomes of a lease durable, in one transaction. Every effect happens once (I2). p_seq
-- counts the settlements of a lease from 0. Returns true when it is done. Returns false when this
-- very settlement was done before, and its reply was lost. The positions that it settles are
-- p_settled; the other parameters say what else becomes of some of them.
--
--   p_settled        all positions that this settles.
--   p_retry_*        copied to the schedule for the next attempt, with the entry for the history.
--   p_park           not due yet: copied to the schedule as they are.
--   p_dead_*         copied to the dead letters, with the entry for the history.
--   p_follow_up_*    new messages, in order. Keys, priorities and unique keys are NULL if
--                    none has one.
--   p_removed        removed by an operator: none of them has run to its end.
--   p_result_*       acked with a result, and the results.
--
-- Raises HQ002 if the lease is not (or no longer) the session's. Raises HQ012 if messages that it
-- has to copy cannot be read. In both cases nothing has happened. A queue that keeps settled
-- messages gets them into its history.
-- Locks: none beyond the rows it writes. Tables: lease, message, schedule, dead_letter, settlement,
-- history, unique, host.cancellation.
CREATE OR REPLACE FUNCTION host.{q}__settle(
    p_lease bigint, p_session int, p_token uuid, p_seq int, p_settled int4multirange,
    p_retry_pos int[] DEFAULT NULL, p_retry_delay_ms bigint[] DEFAULT NULL, p_retry_entry jsonb[] DEFAULT NULL,
    p_park_pos int[] DEFAULT NULL,
    p_dead_pos int[] DEFAULT NULL, p_dead_reason text[] DEFAULT NULL, p_dead_entry jsonb[] DEFAULT NULL,
    p_follow_up_queue text[] DEFAULT NULL, p_follow_up_payload bytea[] DEFAULT NULL,
    p_follow_up_headers jsonb[] DEFAULT NULL, p_follow_up_delay_ms bigint[] DEFAULT NULL,
    p_removed int4multirange DEFAULT NULL,
    p_result_pos int[] DEFAULT NULL, p_results bytea[] DEFAULT NULL,
    p_follow_up_key text[] DEFAULT NULL, p_follow_up_priority smallint[] DEFAULT NULL,
    p_follow_up_unique_key text[] DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '5s' SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    l record;
    s record;
    rest_before int;
    ended timestamptz;
    kept bigint;
BEGIN
    SELECT * INTO l FROM host.{q}__lease WHERE id = p_lease;
    -- The number alone proves nothing: after a crash an asynchronously committed lease's id can be
    -- given out again. The token cannot.
    IF NOT FOUND OR l.session_id <> p_session OR l.token <> p_token THEN
        RAISE EXCEPTION 'lease % is not held by session %', p_lease, p_session USING ERRCODE = 'HQ002';
    END IF;
    {newest_settlement}
    IF s.revoked THEN
        RAISE EXCEPTION 'lease % was taken over', p_lease USING ERRCODE = 'HQ002';
    END IF;
    IF s.seq >= p_seq THEN
        IF EXISTS (SELECT FROM host.{q}__settlement WHERE lease_id = p_lease AND seq = p_seq AND settled = p_settled) THEN
            RETURN false;
        END IF;
        RAISE EXCEPTION 'settlement % of lease % exists and is another', p_seq, p_lease USING ERRCODE = 'HQ002';
    END IF;
    rest_before := coalesce(s.rest, host.positions(l.positions), l.row_count);
    IF p_seq <> coalesce(s.seq, -1) + 1
        OR NOT int4multirange(int4range(0, l.row_count)) @> p_settled
        OR NOT coalesce(l.positions @> p_settled, true)
        OR (p_seq > 0 AND EXISTS (SELECT FROM host.{q}__settlement WHERE lease_id = p_lease AND settled && p_settled)) THEN
        RAISE EXCEPTION 'settlement % of positions % does not follow on what lease % has settled', p_seq, p_settled, p_lease
            USING ERRCODE = 'HQ002';
    END IF;
    INSERT INTO host.{q}__settlement (lease_id, seq, rest, settled, removed, result_pos, results, parked)
        VALUES (p_lease, p_seq, rest_before - host.positions(p_settled), p_settled, p_removed, p_result_pos, p_results,
            cardinality(p_park_pos))
        RETURNING settled_at INTO ended;

    IF p_retry_pos IS NOT NULL OR p_park_pos IS NOT NULL THEN
        INSERT INTO host.{q}__schedule (due, slot, origin, enqueued_at, handler_id, attempt, headers, history, payload, expires_at, priority, key)
            SELECT again.due, host.slot(again.due, now()), m.id, m.enqueued_at, l.handler_id,
                m.attempt + again.attempts, m.headers,
                CASE WHEN again.entry IS NULL THEN m.history ELSE coalesce(m.history, '[]') || again.entry END,
                m.payload, m.expires_at, m.priority, m.key
            FROM host.{q}__read(l.session_id, l.seq) m
            JOIN (
                SELECT r.pos, now() + r.delay_ms * interval '1 ms' AS due, 1 AS attempts, r.entry
                    FROM unnest(p_retry_pos, p_retry_delay_ms, p_retry_entry) r (pos, delay_ms, entry)
                UNION ALL
                SELECT pos, NULL, 0, NULL FROM unnest(p_park_pos) pos
            ) AS later ON later.pos = m.pos
            -- No later than its deadline: then it comes back to be given up on.
            CROSS JOIN LATERAL (
                SELECT least(coalesce(later.due, m.run_at), m.expires_at) AS due, later.attempts, later.entry
            ) again
            ORDER BY m.pos;
        GET DIAGNOSTICS kept = ROW_COUNT;
        PERFORM host.require_kept(kept, coalesce(cardinality(p_retry_pos), 0) + coalesce(cardinality(p_park_pos), 0),
            'host.{q}__schedule');
    END IF;
    IF p_dead_pos IS NOT NULL THEN
        INSERT INTO host.{q}__dead_letter (message_id, enqueued_at, handler_id, attempt, reason, error, headers, history, payload, priority, key)
            SELECT m.id, m.enqueued_at, l.handler_id, m.attempt, d.reason, d.entry ->> 'error', m.headers,
                coalesce(m.history, '[]') || d.entry, m.payload, m.priority, m.key
            FROM host.{q}__read(l.session_id, l.seq) m
            JOIN unnest(p_dead_pos, p_dead_reason, p_dead_entry) d (pos, reason, entry) ON d.pos = m.pos
            ORDER BY m.pos;
        GET DIAGNOSTICS kept = ROW_COUNT;
        PERFORM host.require_kept(kept, cardinality(p_dead_pos), 'host.{q}__dead_letter');
    END IF;
    IF p_removed IS NOT NULL THEN
        DELETE FROM host.cancellation c USING host.{q}__read(l.session_id, l.seq) m
            WHERE c.handler_id = l.handler_id AND c.message_id = m.id AND p_removed @> m.pos;
    END IF;
    IF EXISTS (SELECT FROM host.queue q WHERE q.id = {queue_id} AND q.keep_ms IS NOT NULL) THEN
        PERFORM host.{q}__archive(p_lease, p_settled, ended, p_retry_pos || p_park_pos || p_dead_pos, p_removed,
            p_result_pos, p_results);
    END IF;
    IF {unique} THEN
        -- What comes again is not done with, and another handler's retry is not ours.
        PERFORM host.{q}__release_keys(l.handler_id, ARRAY(SELECT m.id FROM host.{q}__read(l.session_id, l.seq) m
            WHERE p_settled - coalesce((SELECT range_agg(int4range(a, a + 1)) FROM unnest(p_retry_pos || p_park_pos) a), '{}') @> m.pos
                AND coalesce(m.handler_id, l.handler_id) = l.handler_id));
    END IF;
    -- After the keys: a follow-up may have that of its own message.
    IF p_follow_up_queue IS NOT NULL THEN
        PERFORM host.enqueue_follow_ups(p_follow_up_queue, p_follow_up_payload, p_follow_up_headers, p_follow_up_delay_ms,
            p_follow_up_key, p_follow_up_priority, p_follow_up_unique_key);
    END IF;
    RETURN true;
END $$;

-- Makes dead letters of positions of a lease, in whose flight hosts have died. Another handler's
-- retry only lay beside them.
-- Tables: as settle.
CREATE OR REPLACE FUNCTION host.{q}__bury_poison(p_session int, p_seq bigint, p_positions int4multirange, p_deaths int) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    handler int := (SELECT l.handler_id FROM host.{q}__lease l WHERE l.session_id = p_session AND l.seq = p_seq);
    why text := format('%s hosts died with it in flight', p_deaths);
    mine bigint[];
    there bigint;
    kept bigint;
BEGIN
    SELECT count(*), array_agg(m.id) FILTER (WHERE coalesce(m.handler_id, handler) = handler) INTO there, mine
        FROM host.{q}__read(p_session, p_seq) m WHERE p_positions @> m.pos;
    PERFORM host.require_kept(there, host.positions(p_positions), 'host.{q}__dead_letter');
    INSERT INTO host.{q}__dead_letter (message_id, enqueued_at, handler_id, attempt, reason, error, headers, history, payload, priority, key)
        SELECT m.id, m.enqueued_at, handler, m.attempt, 'poison', why, m.headers,
            coalesce(m.history, '[]') || jsonb_build_object('attempt', m.attempt, 'at', clock_timestamp(), 'error', why),
            m.payload, m.priority, m.key
        FROM host.{q}__read(p_session, p_seq) m
        WHERE p_positions @> m.pos AND coalesce(m.handler_id, handler) = handler;
    GET DIAGNOSTICS kept = ROW_COUNT;
    PERFORM host.require_kept(kept, coalesce(cardinality(mine), 0), 'host.{q}__dead_letter');
    IF {unique} THEN
        PERFORM host.{q}__release_keys(handler, coalesce(mine, '{}'));
    END IF;
END $$;

-- Ends an open lease of a session that has ended, or of p_session itself if a reply was lost.
-- Leases up to p_n of its unsettled messages to p_session. The rest (`more`) stays where it was,
-- for the next call. A message in flight when two hosts died is leased alone. When p_deaths_max
-- hosts died with it, it becomes a dead letter: it may be what kills them. A session that stopped
-- in order is no death. Returns NULL if nothing was left, or if it went to the dead letters. `gone`
-- counts deleted messages: then the rest is a stray. Raises HQ002 when the lease is not to be had,
-- and HQ012 while something hides messages of it.
-- Locks: advisory ({rotation_lock}, queue), shared, so that the leaf of its new row is not
-- truncated before it commits; waits for no one longer than lock_timeout. Tables: as settle.
CREATE OR REPLACE FUNCTION host.{q}__take_over(
    p_lease bigint, p_session int, p_seq bigint, p_token uuid, p_n int, p_deaths_max int,
    OUT lease_id bigint, OUT row_count int, OUT more boolean, OUT gone int
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '1s' SET plan_cache_mode = force_generic_plan
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    l record;
    s record;
    ended record;
    rest int4multirange;
    mine int4multirange;
    deaths int;
BEGIN
    PERFORM pg_advisory_xact_lock_shared({rotation_lock}, {queue_id});
    SELECT * INTO l FROM host.{q}__lease WHERE id = p_lease;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lease % is gone', p_lease USING ERRCODE = 'HQ002';
    END IF;
    {newest_settlement}
    SELECT * INTO ended FROM host.session x WHERE x.id = l.session_id;
    IF s.rest = 0 OR (ended.ended_at IS NULL AND l.session_id <> p_session) OR l.row_count = 0
        OR NOT EXISTS (SELECT FROM host.session x WHERE x.id = p_session AND x.ended_at IS NULL) THEN
        RAISE EXCEPTION 'lease % is not to be taken over', p_lease USING ERRCODE = 'HQ002';
    END IF;
    gone := host.{q}__missing(p_lease);
    IF gone IS NULL THEN
        PERFORM host.{q}__refuse_missing(p_lease);
    ELSIF gone > 0 THEN
        PERFORM host.{q}__recut(p_lease, gone);
        RETURN;
    END IF;
    gone := NULL;
    INSERT INTO host.{q}__settlement (lease_id, seq, rest, settled, revoked, heir_session, heir_seq)
        VALUES (p_lease, coalesce(s.seq, -1) + 1, 0, '{}', true, p_session, p_seq);
    rest := coalesce(l.positions, int4multirange(int4range(0, l.row_count)))
        - coalesce((SELECT range_agg(t.settled) FROM host.{q}__settlement t WHERE t.lease_id = p_lease), '{}');
    deaths := l.deaths + CASE WHEN ended.lost AND NOT (l.seq < 0) THEN 1 ELSE 0 END;

    IF deaths >= p_deaths_max THEN
        PERFORM host.{q}__bury_poison(l.session_id, l.seq, rest, deaths);
        RETURN;
    END IF;
    SELECT range_agg(int4range(x.pos, x.pos + 1)), count(*)::int INTO mine, row_count
        FROM (SELECT pos FROM unnest(rest) r, generate_series(lower(r), upper(r) - 1) pos
            ORDER BY pos LIMIT CASE WHEN deaths >= 2 THEN 1 ELSE p_n END) x;
    INSERT INTO host.{q}__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
            row_count, leaves, deaths, is_cursor, more, token, hi, txids, positions, lane)
        VALUES (p_seq, l.from_txid, l.from_id, l.to_txid, l.to_id, l.handler_id, p_session,
            l.row_count, l.leaves, deaths, false, false, p_token, l.hi, l.txids, mine, l.lane)
        RETURNING id INTO lease_id;
    more := rest <> mine;
    IF more THEN
        -- Negative: chosen by the server, and its death is counted already.
        INSERT INTO host.{q}__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
                row_count, leaves, deaths, is_cursor, more, token, hi, txids, positions, lane)
            VALUES (-p_lease, l.from_txid, l.from_id, l.to_txid, l.to_id, l.handler_id, l.session_id,
                l.row_count, l.leaves, deaths, false, false, gen_random_uuid(), l.hi, l.txids, rest - mine, l.lane);
    END IF;
END $$;

-- The open leases of a handler whose sessions have ended, oldest first. Then those of p_session
-- itself that are some seconds old: the reply to one may have been lost.
CREATE OR REPLACE FUNCTION host.{q}__strays(p_handler int, p_session int, p_limit int)
RETURNS SETOF bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off AS $$
    SELECT l.id
    FROM host.session s
    JOIN host.{q}__lease l ON l.session_id = s.id
    WHERE (s.ended_at IS NOT NULL
            -- A negative number is take_over's: what it left of one, which the session does not
            -- know of. One from the future: the clock was set back.
            OR (s.id = p_session AND (l.seq < 0
                OR l.leased_at NOT BETWEEN clock_timestamp() - interval '3 s' AND clock_timestamp() + interval '3 s')))
        AND l.handler_id = p_handler AND l.row_count > 0
        -- A probe for each: of a join without statistics Postgres makes one that compares every
        -- lease with every settlement.
        AND {rest_of_lease} IS DISTINCT FROM 0
    -- Its own last: it may have any number that it knows of.
    ORDER BY s.id = p_session, l.id LIMIT p_limit
$$;
