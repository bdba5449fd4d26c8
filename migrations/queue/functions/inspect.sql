-- Template: what `host status` and `host queue show` say of a queue, and what `host doctor` looks
-- at. Reads only.

-- Counts for one handler: messages that wait, messages that are not due and that no host has seen
-- yet (`later`), messages in flight, and messages settled in the last minute. The first two
-- together stop at p_cap.
CREATE OR REPLACE FUNCTION host.{q}__backlog(
    p_handler int, p_cap int, OUT waiting bigint, OUT later bigint, OUT in_flight bigint, OUT last_minute bigint
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
DECLARE
    part record;
    seen record;
    at timestamptz := clock_timestamp();
BEGIN
    waiting := 0;
    later := 0;
    FOR part IN SELECT * FROM host.{q}__ahead(p_handler) LOOP
        SELECT count(*) AS n, count(*) FILTER (WHERE m.run_at > at) AS later INTO seen FROM (SELECT m.run_at FROM queue.{q} m
            WHERE {lanes?m.lane = part.lane AND }(m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b{ordered? AND m.id > part.after_id}
            LIMIT p_cap - waiting - later) m;
        waiting := waiting + seen.n - seen.later;
        later := later + seen.later;
    END LOOP;
    -- What session 0 has is nobody's: it waits for a retry before it. Probes, not joins: of a join
    -- without statistics Postgres makes one that compares every lease with every settlement.
    SELECT waiting + coalesce(sum(o.rest) FILTER (WHERE o.session_id = 0), 0),
            coalesce(sum(o.rest) FILTER (WHERE o.session_id <> 0), 0) INTO waiting, in_flight
        FROM (
            SELECT l.session_id, coalesce(
                {rest_of_lease},
                host.positions(l.positions), l.row_count) AS rest
            FROM host.{q}__lease l
            WHERE l.handler_id = p_handler AND l.row_count > 0
        ) o;
    -- What was put on the schedule is not done.
    SELECT coalesce(sum(host.positions(s.settled) - coalesce(s.parked, 0)), 0) INTO last_minute
        FROM host.{q}__settlement s
        WHERE s.settled_at > at - interval '1 minute'
            AND (SELECT l.handler_id FROM host.{q}__lease l
                WHERE l.id = s.lease_id AND l.id / {generation_size} % 3 = s.lease_id / {generation_size} % 3) = p_handler;
    SELECT last_minute + coalesce(sum(p.messages), 0) INTO last_minute FROM host.pace p
        WHERE p.queue_id = {queue_id} AND p.handler_id = p_handler AND p.settled_at > at - interval '1 minute';
END $$;

-- What a queue stores: messages that wait for a first handler, messages on the schedule, dead
-- letters, and bytes on disk. Messages for which no handler was deployed are unhandled if they are
-- due, else they count as scheduled. Each count stops at p_cap.
CREATE OR REPLACE FUNCTION host.{q}__stored(p_cap int, OUT unhandled bigint, OUT scheduled bigint, OUT dead bigint, OUT bytes bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET enable_sort = off SET enable_bitmapscan = off AS $$
DECLARE
    c record;
    later bigint := 0;
    at timestamptz := clock_timestamp();
BEGIN
    unhandled := 0;
    IF NOT EXISTS (SELECT FROM host.handler WHERE queue_id = {queue_id}) THEN
        SELECT count(*) FILTER (WHERE coalesce(m.run_at <= at, true)), count(*) FILTER (WHERE m.run_at > at)
            INTO unhandled, later FROM (SELECT m.run_at FROM queue.{q} m LIMIT p_cap) m;
    END IF;
    SELECT * INTO c FROM host.{q}__promotion ORDER BY id DESC LIMIT 1;
    SELECT count(*) INTO scheduled FROM (
        SELECT FROM host.{q}__schedule s
        WHERE {is_scheduled}
        LIMIT p_cap) s;
    scheduled := scheduled + later;
    SELECT count(*) INTO dead FROM (SELECT FROM host.{q}__dead_letter LIMIT p_cap) d;
    -- All that begin with {q}__, by the index on their names: a thousand queues have a hundred
    -- thousand tables and indexes.
    SELECT sum(host.table_bytes(r.oid))::bigint INTO bytes FROM pg_class r
        WHERE r.relkind = 'r' AND r.relnamespace = 'host'::regnamespace AND r.relname >= '{q}__' AND r.relname < '{q}_`';
END $$;

-- When the first message beyond a handler's cursor that is due was enqueued, and how many there are
-- as far as p_cap.
CREATE OR REPLACE FUNCTION host.{q}__lag(p_handler int, p_cap int, OUT waiting bigint, OUT oldest timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
DECLARE
    part record;
    lane_done smallint := -1;
    first_at timestamptz;
BEGIN
    SELECT b.waiting INTO waiting FROM host.{q}__backlog(p_handler, p_cap) b;
    FOR part IN SELECT * FROM host.{q}__ahead(p_handler) LOOP
        CONTINUE WHEN part.lane = lane_done;
        SELECT m.enqueued_at INTO first_at FROM (SELECT m.enqueued_at, m.run_at FROM queue.{q} m
            WHERE {lanes?m.lane = part.lane AND }(m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b{ordered? AND m.id > part.after_id}
            ORDER BY m.txid, m.id LIMIT p_cap) m
            WHERE coalesce(m.run_at <= clock_timestamp(), true) LIMIT 1;
        IF FOUND THEN
            oldest := least(oldest, first_at);
            lane_done := part.lane;
        END IF;
    END LOOP;
END $$;

-- How many messages of a handler were refused, and why one of them. The database did not take them
-- when they were due, or they could not be read when leased. Each such try is an attempt. The words
-- are those of put_off and of a host's verdict. Looks at the next p_n messages on the schedule.
CREATE OR REPLACE FUNCTION host.{q}__refused(p_handler int, p_n int DEFAULT 1000, OUT messages bigint, OUT why text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off
SET enable_sort = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
    SELECT count(*), min(x.error) FROM (
        SELECT s.handler_id, s.history -> -1 ->> 'error' AS error FROM host.{q}__schedule s
        WHERE (s.due, s.id) > (SELECT c.due, c.schedule_id FROM host.{q}__promotion c ORDER BY c.id DESC LIMIT 1)
        ORDER BY s.due, s.id LIMIT p_n) x
    WHERE x.handler_id = p_handler AND (starts_with(x.error, 'cannot be put back on the queue: ')
        OR starts_with(x.error, 'the message cannot be read: '))
$$;

-- The queue, its handlers, and the oldest open lease that keeps a leaf from being truncated.
CREATE OR REPLACE FUNCTION host.{q}__examine() RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
    SELECT jsonb_build_object(
        'name', '{q}',
        'paused', q.paused,
        -- Where the schedule was when the clock was set back; not negative: it was not, or it is
        -- there again.
        'clock_ms', (SELECT min((extract(epoch FROM clock_timestamp() - x.due) * 1000)::bigint)
            FROM (SELECT * FROM host.{q}__promotion ORDER BY id DESC LIMIT 1) c
            CROSS JOIN LATERAL unnest(c.passed_due || c.due) x (due) WHERE isfinite(x.due)),
        'missed', (SELECT sum(c.missed) FROM host.partition_count c WHERE c.queue_id = q.id),
        'row_security', (SELECT coalesce(jsonb_agg(c.oid::regclass::text ORDER BY c.relname), '[]') FROM pg_class c
            WHERE c.relrowsecurity AND (c.oid = 'queue.{q}'::regclass
                OR c.relnamespace = 'host'::regnamespace AND starts_with(c.relname, '{q}__'))),
        'unhandled', (SELECT unhandled FROM host.{q}__stored(1000000)),
        'handlers', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', h.name, 'paused', h.paused, 'waiting', g.waiting,
                'refused', (SELECT to_jsonb(r) FROM host.{q}__refused(h.id) r WHERE r.messages > 0),
                'oldest_age_ms', CASE WHEN isfinite(g.oldest)
                    THEN (extract(epoch FROM clock_timestamp() - g.oldest) * 1000)::bigint END) ORDER BY h.name), '[]')
            FROM host.handler h CROSS JOIN LATERAL host.{q}__lag(h.id, 1000000) g WHERE h.queue_id = q.id),
        'open_lease', (SELECT jsonb_build_object('lease', l.id, 'session', l.session_id,
                'age_ms', (extract(epoch FROM clock_timestamp() - l.leased_at) * 1000)::bigint)
            FROM host.{q}__lease l
            WHERE l.row_count > 0 AND (l.id / {generation_size} % 3 <> p.leaf OR l.leaves & ~(1 << p.leaf) <> 0)
                AND {rest_of_lease} IS DISTINCT FROM 0
            ORDER BY l.leased_at LIMIT 1))
    FROM host.queue q
    CROSS JOIN (SELECT (last_value / {generation_size} % 3)::int AS leaf FROM queue.{q}_id_seq) p
    WHERE q.id = {queue_id}
$$;
