-- What `host status` says, for psql as well: SELECT * FROM host.status(). Reads only. Tables
-- touched: host.queue, host.handler, host.session, host.heartbeat, and the queues' own. Locks:
-- ACCESS SHARE.

-- The live sessions. `connected`: it holds its lock. `beat_age_ms`: since its newest heartbeat, by
-- the server's clock; NULL before the first. `late`: which of its loops is overdue, as it says
-- itself.
CREATE OR REPLACE FUNCTION host.sessions()
RETURNS TABLE (
    id int, host_name text, pid int, host_version text, started_at timestamptz, connected boolean, beat_age_ms bigint,
    late text
)
LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.id, s.host_name, s.pid, s.host_version, s.started_at,
        EXISTS (SELECT FROM pg_locks k WHERE k.locktype = 'advisory' AND k.classid = {session_lock}
            AND k.objid::bigint = s.id AND k.objsubid = 2 AND k.granted
            AND k.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())),
        (extract(epoch FROM clock_timestamp() - newest.beat_at) * 1000)::bigint, newest.late
    FROM host.session s
    LEFT JOIN LATERAL (SELECT b.beat_at, b.late FROM host.heartbeat b
        WHERE b.session_id = s.id ORDER BY b.beat DESC LIMIT 1) newest ON true
    WHERE s.ended_at IS NULL ORDER BY s.id
$$;

-- What each live session has made of a version: whether it has reported, and the
-- error if it cannot run it. `connected`: it holds its lock, so it can be expected to.
CREATE OR REPLACE FUNCTION host.reports(p_handler int, p_version int)
RETURNS TABLE (session_id int, host_name text, pid int, connected boolean, reported boolean, error text)
LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.id, s.host_name, s.pid, s.connected, l.loaded_at IS NOT NULL, l.error
    FROM host.sessions() s
    LEFT JOIN host.loaded l ON l.session_id = s.id AND l.handler_id = p_handler AND l.version = p_version
    ORDER BY s.id
$$;

-- One queue, in numbers. Waiting, scheduled and dead are counted as far as p_cap; what is not due
-- is scheduled, also where no host has put it on the schedule yet. On a queue with several
-- handlers, `waiting` is what the slowest has before it, and the others are sums over the handlers;
-- `lag` has each handler's own numbers.
CREATE OR REPLACE FUNCTION host.queue_status(
    p_queue text, p_cap int DEFAULT 1000000,
    OUT waiting bigint, OUT in_flight bigint, OUT scheduled bigint, OUT dead bigint, OUT last_minute bigint,
    OUT bytes bigint, OUT lag jsonb
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    h record;
    b record;
    held record;
    limited text;
    refused bigint;
    later bigint := 0;
BEGIN
    EXECUTE format('SELECT unhandled, scheduled, dead, bytes FROM host.%I($1)', p_queue || '__stored')
        INTO waiting, scheduled, dead, bytes USING p_cap;
    in_flight := 0;
    last_minute := 0;
    lag := '[]';
    FOR h IN SELECT x.*, q.ordered_lanes, q.keyed_lanes FROM host.handler x JOIN host.queue q ON q.id = x.queue_id
        WHERE q.name = p_queue ORDER BY x.name
    LOOP
        EXECUTE format('SELECT * FROM host.%I($1, $2)', p_queue || '__backlog') INTO b USING h.id, p_cap;
        EXECUTE format('SELECT why FROM host.%I($1)', p_queue || CASE WHEN h.keyed_lanes IS NULL THEN '__allowance' ELSE '__limited_lanes' END)
            INTO limited USING h.id;
        lag := lag || jsonb_build_object('handler', h.name, 'version', h.version, 'paused', h.paused,
            'waiting', b.waiting, 'in_flight', b.in_flight, 'limited', limited);
        EXECUTE format('SELECT messages FROM host.%I($1, $2)', p_queue || '__refused')
            INTO refused USING h.id, least(p_cap, 1000);
        lag := jsonb_set(lag, '{-1,refused}', to_jsonb(refused));
        IF h.ordered_lanes IS NOT NULL THEN
            EXECUTE format('SELECT * FROM host.%I($1)', p_queue || '__held_lanes') INTO held USING h.id;
            lag := jsonb_set(lag, '{-1,held}', jsonb_build_object('lanes', held.lanes,
                'until', to_char(held.last_due AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')));
        END IF;
        waiting := greatest(waiting, b.waiting);
        later := greatest(later, b.later);
        in_flight := in_flight + b.in_flight;
        last_minute := last_minute + b.last_minute;
    END LOOP;
    scheduled := scheduled + later;
END $$;

-- What keeps a queue's used leaves from being truncated, in words. That is normal while a handler
-- has yet to handle a message in them. It is worth a look when it stays.
CREATE OR REPLACE FUNCTION host.queue_holds(p_queue text) RETURNS TABLE (leaf int, why text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    used int[];
BEGIN
    EXECUTE format('SELECT used FROM host.%I()', p_queue || '__rotation') INTO used;
    FOREACH leaf IN ARRAY coalesce(used, '{}') LOOP
        EXECUTE format('SELECT host.%I($1)', p_queue || '__holds') INTO why USING leaf;
        IF why IS NULL THEN
            SELECT format('%s of its messages were never leased, see `host doctor`', c.missed) INTO why
                FROM host.partition_count c JOIN host.queue q ON q.id = c.queue_id
                WHERE q.name = p_queue AND c.kind = 'message' AND c.leaf = queue_holds.leaf AND c.missed > 0;
        END IF;
        IF why IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;

-- One queue, in numbers and words.
CREATE OR REPLACE FUNCTION host.status_of(p_queue text, p_cap int DEFAULT 1000000)
RETURNS TABLE (
    queue text, paused boolean, waiting bigint, in_flight bigint, scheduled bigint, dead bigint, last_minute bigint,
    bytes bigint, handlers text[], held text[], lag jsonb
)
LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$
    SELECT q.name, q.paused, s.waiting, s.in_flight, s.scheduled, s.dead, s.last_minute, s.bytes,
        ARRAY(SELECT format('%s v%s', h.name, h.version) FROM host.handler h WHERE h.queue_id = q.id ORDER BY h.name),
        ARRAY(SELECT format('%s is detached, and hides its messages: %s', d.partition, d.remedy) FROM host.detached(q.name) d)
            || ARRAY(SELECT format('leaf %s: %s', l.leaf, l.why) FROM host.queue_holds(q.name) l), s.lag
    FROM host.queue q CROSS JOIN LATERAL host.queue_status(q.name, p_cap) s
    WHERE q.name = p_queue
$$;

-- Some queues, in their order; p_idle: true, those that are idle, and of the others the name;
-- false, all. The locks that a look at a queue takes, some forty, are given back with it: a
-- thousand queues have more tables than the server has locks by default. What aborts a
-- subtransaction gives back its locks, and keeps what variables hold. A queue that is dropped
-- meanwhile is left out. Of a queue whose tables somebody has locked, the numbers are NULL.
DROP FUNCTION IF EXISTS host.status_of_each(text[], int);
CREATE OR REPLACE FUNCTION host.status_of_each(p_queues text[], p_cap int DEFAULT 1000000, p_idle boolean DEFAULT false)
RETURNS TABLE (
    queue text, paused boolean, waiting bigint, in_flight bigint, scheduled bigint, dead bigint, last_minute bigint,
    bytes bigint, handlers text[], held text[], lag jsonb
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    one text;
    probe record;
    hiding text[] := ARRAY(SELECT host.hiding_queues());
BEGIN
    FOREACH one IN ARRAY p_queues LOOP
        BEGIN
            queue := NULL;
            SELECT * INTO probe FROM host.idle(one, p_cap) r WHERE one <> ALL (hiding);
            IF probe.idle THEN
                SELECT q.name, q.paused, 0, 0, 0, probe.dead, probe.last_minute, probe.bytes, h.names, '{}', h.lag
                    INTO queue, paused, waiting, in_flight, scheduled, dead, last_minute, bytes, handlers, held, lag
                    FROM host.queue q CROSS JOIN LATERAL (
                        SELECT coalesce(array_agg(format('%s v%s', h.name, h.version) ORDER BY h.name), '{}') AS names,
                            coalesce(jsonb_agg(jsonb_build_object('handler', h.name, 'version', h.version, 'paused', h.paused,
                                    'waiting', 0, 'in_flight', 0, 'limited', NULL, 'refused', 0)
                                || CASE WHEN q.ordered_lanes IS NULL THEN '{}' ELSE '{"held": {"lanes": 0, "until": null}}'::jsonb END
                                ORDER BY h.name), '[]') AS lag
                        FROM host.handler h WHERE h.queue_id = q.id) h
                    WHERE q.name = one;
            ELSIF p_idle THEN
                SELECT q.name, q.paused INTO queue, paused FROM host.queue q WHERE q.name = one;
                handlers := NULL;
            ELSE
                SELECT s.* INTO queue, paused, waiting, in_flight, scheduled, dead, last_minute, bytes, handlers, held, lag
                    FROM host.status_of(one, p_cap) s;
            END IF;
            RAISE SQLSTATE 'HQ009';
        EXCEPTION
            WHEN SQLSTATE 'HQ009' THEN NULL;
            WHEN undefined_table OR undefined_function THEN
                IF EXISTS (SELECT FROM host.queue q WHERE q.name = one) THEN
                    RAISE;
                END IF;
                queue := NULL;
            WHEN lock_not_available THEN
                SELECT q.name, q.paused, ARRAY(SELECT format('%s v%s', h.name, h.version) FROM host.handler h
                        WHERE h.queue_id = q.id ORDER BY h.name), '{}', '[]'
                    INTO queue, paused, handlers, held, lag FROM host.queue q WHERE q.name = one;
                handlers := CASE WHEN NOT p_idle THEN handlers END;
                waiting := NULL; in_flight := NULL; scheduled := NULL; dead := NULL; last_minute := NULL; bytes := NULL;
        END;
        IF queue IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;

-- All queues.
CREATE OR REPLACE FUNCTION host.status(p_cap int DEFAULT 1000000)
RETURNS TABLE (
    queue text, paused boolean, waiting bigint, in_flight bigint, scheduled bigint, dead bigint, last_minute bigint,
    bytes bigint, handlers text[], held text[], lag jsonb
)
LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$
    SELECT * FROM host.status_of_each(ARRAY(SELECT q.name FROM host.queue q ORDER BY q.name), p_cap)
$$;

-- Handlers with something to do now: messages that wait, are in flight or are due on the schedule.
-- Paused ones are left out, and so are queues without a handler. What is due later does not count.
-- STABLE, so one snapshot for all: whoever looks sees a follow-up, or the message it comes from.
CREATE OR REPLACE FUNCTION host.unfinished() RETURNS TABLE (queue text, handler text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
DECLARE
    h record;
    busy boolean;
BEGIN
    FOR h IN SELECT q.name AS queue, x.name, x.id FROM host.handler x JOIN host.queue q ON q.id = x.queue_id
        WHERE NOT q.paused AND NOT x.paused ORDER BY q.name, x.name
    LOOP
        EXECUTE format('SELECT b.waiting + b.in_flight > 0 FROM host.%I($1, 10000) b', h.queue || '__backlog')
            INTO busy USING h.id;
        IF NOT busy THEN
            EXECUTE format('SELECT coalesce(min(p.due) <= clock_timestamp(), false) FROM host.%I($1, 1) p',
                h.queue || '__peek_scheduled') INTO busy USING h.id;
        END IF;
        IF busy THEN
            queue := h.queue;
            handler := h.name;
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;
