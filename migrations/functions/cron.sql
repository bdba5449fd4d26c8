-- Cron entries. The times come from hosts, which know the patterns and the time zones; that each
-- comes to pass once is decided here, by a compare-and-set on the entry's row, and by the
-- database's clock. Tables touched: host.cron, and the queue of a firing. Locks: the entry's row.

-- Puts the messages of an entry on its queue, in the caller's transaction: one for each time, which
-- its headers name, as they name the entry. Returns the last one's id. Raises HQ012 if something
-- leaves one out: then the entry has not fired.
CREATE OR REPLACE FUNCTION host.cron_enqueue(p_id int, p_times timestamptz[]) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c record;
    ids bigint[];
BEGIN
    SELECT x.name, x.payload, x.headers, q.name AS queue, q.payload_type INTO STRICT c
        FROM host.cron x JOIN host.queue q ON q.id = x.queue_id WHERE x.id = p_id;
    EXECUTE format(
        'WITH enqueued AS (
             INSERT INTO queue.%I (payload, headers)
             SELECT %s, $2 || jsonb_build_object(''cron'', $3, ''cron-at'', host.rfc3339(t.at))
             FROM unnest($4) t (at) ORDER BY t.at RETURNING id
         ) SELECT array_agg(id ORDER BY id) FROM enqueued',
        c.queue, host.payload_cast('$1', c.payload_type))
    INTO ids USING c.payload, c.headers, c.name, p_times;
    PERFORM host.require_kept(coalesce(cardinality(ids), 0), cardinality(p_times), format('queue.%I', c.queue));
    RETURN ids[cardinality(ids)];
END $$;

-- A moment in UTC as text; with a fraction if it has one.
CREATE OR REPLACE FUNCTION host.rfc3339(t timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT to_char(t AT TIME ZONE 'UTC', CASE WHEN t = date_trunc('second', t, 'UTC')
        THEN 'YYYY-MM-DD"T"HH24:MI:SS"Z"' ELSE 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"' END)
$$;

-- Adds an entry. Raises unique_violation if there is one of that name, unless p_replace: then that
-- goes, and a host that is firing it finds it gone. Headers that would be too long at each firing
-- are refused here.
CREATE OR REPLACE FUNCTION host.cron_add(
    p_name text, p_queue text, p_schedule text, p_time_zone text, p_missed text, p_payload bytea, p_headers jsonb,
    p_next_at timestamptz, p_replace boolean
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    queue int;
BEGIN
    SELECT id INTO queue FROM host.queue WHERE name = p_queue;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue "%"', p_queue USING ERRCODE = 'HQ004';
    END IF;
    IF octet_length((p_headers || jsonb_build_object('cron', p_name,
            'cron-at', host.rfc3339('2030-01-31 08:00:00.000001')))::text) > 65536 THEN
        RAISE EXCEPTION 'the headers of cron entry "%" are too long: with those that a firing adds, a message has at most 65536 bytes', p_name
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF p_replace THEN
        DELETE FROM host.cron WHERE name = p_name;
    END IF;
    INSERT INTO host.cron (name, queue_id, schedule, time_zone, missed, payload, headers, next_at)
        VALUES (p_name, queue, p_schedule, p_time_zone, p_missed, p_payload, p_headers, p_next_at);
END $$;

-- All entries.
CREATE OR REPLACE FUNCTION host.cron_list()
RETURNS TABLE (
    name text, queue text, schedule text, time_zone text, missed text, paused boolean, next_at timestamptz,
    fired_at timestamptz, messages bigint, error text, created_at timestamptz, created_by text
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.name, q.name, c.schedule, c.time_zone, c.missed, c.paused, c.next_at, c.fired_at, c.messages, c.error,
        c.created_at, c.created_by
    FROM host.cron c JOIN host.queue q ON q.id = c.queue_id ORDER BY c.name
$$;

-- Pauses an entry. False: it was paused before, or there is none.
CREATE OR REPLACE FUNCTION host.cron_pause(p_name text) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE host.cron SET paused = true, error = NULL, retry_at = NULL WHERE name = p_name AND NOT paused;
    RETURN FOUND;
END $$;

-- Lets a paused entry go on, with the next time after now: nothing was missed while it was paused.
-- False: it was not paused, or there is none.
CREATE OR REPLACE FUNCTION host.cron_resume(p_name text, p_next_at timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE host.cron SET paused = false, next_at = p_next_at WHERE name = p_name AND paused;
    RETURN FOUND;
END $$;

-- Removes an entry; what it has enqueued stays. False: there is none.
CREATE OR REPLACE FUNCTION host.cron_remove(p_name text) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM host.cron WHERE name = p_name;
    RETURN FOUND;
END $$;

-- Enqueues an entry's message now, by hand, whether it is paused or not; its times stay as they
-- are. Returns the message's id; NULL: there is no such entry.
CREATE OR REPLACE FUNCTION host.cron_run(p_name text) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c record;
BEGIN
    UPDATE host.cron SET messages = messages + 1, fired_at = clock_timestamp() WHERE name = p_name
        RETURNING id, fired_at INTO c;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    RETURN host.cron_enqueue(c.id, ARRAY[c.fired_at]);
END $$;

-- The entries that are due first, at most p_limit. `in_ms`: how long until then; 0 or less: it is
-- due. `now`: the database's clock, by which it is decided what has become due.
CREATE OR REPLACE FUNCTION host.cron_look(p_limit int)
RETURNS TABLE (
    id int, name text, schedule text, time_zone text, missed text, next_at timestamptz, now timestamptz, in_ms bigint
)
LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.id, c.name, c.schedule, c.time_zone, c.missed, c.next_at, t.now,
        ceil(extract(epoch FROM x.at - t.now) * 1000)::bigint
    FROM host.cron c CROSS JOIN (SELECT clock_timestamp() AS now) t
    -- Nobody waits longer than some seconds to try again: if it seems so, the clock was set back.
    CROSS JOIN LATERAL (SELECT greatest(c.next_at, CASE WHEN c.retry_at < t.now + interval '1 minute' THEN c.retry_at END) AS at) x
    WHERE NOT c.paused ORDER BY x.at, c.id LIMIT p_limit
$$;

-- The entries that have fired, or were added, at a time that is to come: the clock was set back,
-- and `next_at` may be later than the next time of the schedule. As cron_look has them.
CREATE OR REPLACE FUNCTION host.cron_ahead()
RETURNS TABLE (
    id int, name text, schedule text, time_zone text, missed text, next_at timestamptz, now timestamptz, in_ms bigint
)
LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.id, c.name, c.schedule, c.time_zone, c.missed, c.next_at, t.now,
        ceil(extract(epoch FROM c.next_at - t.now) * 1000)::bigint
    FROM host.cron c CROSS JOIN (SELECT clock_timestamp() AS now) t
    WHERE NOT c.paused AND greatest(c.fired_at, c.created_at) > t.now AND c.next_at > t.now
$$;

-- Has an entry that was to fire at p_next_at fire before that, at p_then. False: another host has
-- said so, or it was paused or removed.
CREATE OR REPLACE FUNCTION host.cron_set_back(p_id int, p_next_at timestamptz, p_then timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
    UPDATE host.cron SET next_at = p_then, retry_at = NULL
        WHERE id = p_id AND next_at = p_next_at AND p_then < p_next_at AND NOT paused;
    RETURN FOUND;
END $$;

-- Fires an entry that was to fire at p_next_at: enqueues a message for each of p_times, and moves
-- on to p_then. One transaction: of all hosts that try, one does it. False: another has, or the
-- entry was paused or removed.
CREATE OR REPLACE FUNCTION host.cron_fire(
    p_id int, p_next_at timestamptz, p_times timestamptz[], p_then timestamptz
) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
    UPDATE host.cron SET next_at = p_then, messages = messages + cardinality(p_times), error = NULL, retry_at = NULL,
            fired_at = CASE WHEN cardinality(p_times) > 0 THEN clock_timestamp() ELSE fired_at END
        WHERE id = p_id AND next_at = p_next_at AND NOT paused AND p_next_at <= clock_timestamp();
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- An INSERT of nothing would wake hosts as well.
    IF cardinality(p_times) > 0 THEN
        PERFORM host.cron_enqueue(p_id, p_times);
    END IF;
    RETURN true;
END $$;

-- Notes why an entry could not be fired, and leaves it alone for p_wait_ms. True: it is the first
-- time since it last could.
CREATE OR REPLACE FUNCTION host.cron_failed(p_id int, p_next_at timestamptz, p_error text, p_wait_ms bigint)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    before text;
BEGIN
    SELECT error INTO before FROM host.cron WHERE id = p_id AND next_at = p_next_at FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE host.cron SET error = p_error, retry_at = clock_timestamp() + p_wait_ms * interval '1 ms' WHERE id = p_id;
    RETURN before IS NULL;
END $$;
