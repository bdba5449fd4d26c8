-- Creating, changing and dropping queues. Tables touched: host.queue, host.template, host.catalog,
-- host.catalog_change, and the queue's own. Locks: what CREATE and DROP TABLE take.

-- How many lanes a queue has: strands with cursors of their own, numbered from 0.
CREATE OR REPLACE FUNCTION host.lanes(q host.queue) RETURNS int
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN q.priorities THEN 3 ELSE coalesce(q.ordered_lanes, q.keyed_lanes, 1) END
$$;

-- What the session 0, nobody's, calls the cursor of a handler and lane in the lease log: once in a
-- generation.
CREATE OR REPLACE FUNCTION host.cursor_seq(p_handler int, p_lane int) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT -p_handler - p_lane * (1::bigint << 33)
$$;

-- What a payload has to fulfil to be within its queue's limit.
CREATE OR REPLACE FUNCTION host.payload_check(q host.queue) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN q.payload_type IN ('text', 'bytea') THEN format('octet_length(payload) <= %s', q.payload_bytes_max)
        -- As text, which is how it travels: 1e100000 is small in a jsonb, and compressed data
        -- anywhere. What cannot be too long is not made text of: 14 bytes can be a number of
        -- 147,457 characters, and nothing in a jsonb is longer for its size.
        WHEN q.payload_type = 'jsonb'
            THEN format('pg_column_size(payload) <= %s AND pg_column_compression(payload) IS NULL'
                ' OR octet_length(payload::text) <= %s', q.payload_bytes_max / 12288, q.payload_bytes_max)
        ELSE format('octet_length(payload::text) <= %s', q.payload_bytes_max)
    END
$$;

-- The text of a template for one queue. Text in {lanes?…} is only for a queue with several lanes,
-- text in {plain?…} only for a queue with one, and so on. So a plain queue pays nothing for lanes.
-- Raises HQ004 where there is no such template. Raises P0001 where a placeholder or a condition is
-- unknown.
CREATE OR REPLACE FUNCTION host.render(template text, q host.queue) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    made text;
    kind record;
    unknown text;
BEGIN
    SELECT replace(replace(replace(replace(replace(replace(replace(replace(replace(t.body,
            '{q}', q.name),
            '{unique}', (q.unique_ms IS NOT NULL)::text),
            '{limited}', host.is_limited(q)::text),
            '{queue_id}', q.id::text),
            '{payload_bytes_max}', q.payload_bytes_max::text),
            '{payload_check}', host.payload_check(q)),
            '{payload}', q.payload_type),
            '{lanes}', host.lanes(q)::text),
            '{lane_of}', CASE
                WHEN q.priorities THEN 'coalesce(priority, 2) - 1'
                -- Without a key there is nothing to keep together: over all lanes.
                ELSE format('coalesce(hashtextextended(key, 0), id) & %s', host.lanes(q) - 1)
            END)
        INTO made FROM host.template t WHERE t.name = template;
    FOR kind IN
        SELECT * FROM (VALUES
            ('lanes', host.lanes(q) > 1), ('plain', host.lanes(q) = 1),
            ('priorities', q.priorities), ('no_priorities', NOT q.priorities),
            ('ordered', q.ordered_lanes IS NOT NULL), ('unordered', q.ordered_lanes IS NULL),
            ('keyed', q.keyed_lanes IS NOT NULL), ('unkeyed', q.keyed_lanes IS NULL),
            ('keys', num_nonnulls(q.ordered_lanes, q.keyed_lanes) = 1),
            ('no_keys', num_nonnulls(q.ordered_lanes, q.keyed_lanes) = 0)) v (name, holds)
    LOOP
        -- Brackets and E'': a backslash in plain quotes means something else where
        -- standard_conforming_strings is off.
        made := regexp_replace(made, '[{]' || kind.name || '[?]([^{}]*)[}]', CASE WHEN kind.holds THEN E'\\1' ELSE '' END, 'g');
    END LOOP;
    IF made IS NULL THEN
        RAISE EXCEPTION 'no template "%"', template USING ERRCODE = 'HQ004';
    END IF;
    unknown := substring(made FROM '[{][a-z_]+[?}]');
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'template "%" has %, which host.render does not know', template, unknown;
    END IF;
    RETURN made;
END $$;

-- Raised by every change to a queue, a handler or a deployment, and by the end of a session. Hosts
-- compare it with what they have loaded.
CREATE OR REPLACE FUNCTION host.catalog_version() RETURNS bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.version + (SELECT count(*) FROM host.catalog_change) FROM host.catalog c
$$;

-- Adds the changes there are to the version, which stays the same, and forgets them. For hosts, now
-- and then: in the transaction of a change this would have all other changes wait. If another host
-- does it, this does nothing.
-- Locks: the row of host.catalog, which nobody else waits for.
CREATE OR REPLACE FUNCTION host.count_catalog_changes() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
    PERFORM FROM host.catalog FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        WITH counted AS (DELETE FROM host.catalog_change RETURNING id)
        UPDATE host.catalog SET version = version + (SELECT count(*) FROM counted);
    END IF;
END $$;

-- Tells hosts that there is something to load. A row of its own, so that no change waits for
-- another's transaction. An UPDATE to what was there before is no change: each would have all hosts
-- read the catalog.
CREATE OR REPLACE FUNCTION host.bump_catalog() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'UPDATE' OR OLD IS DISTINCT FROM NEW THEN
        INSERT INTO host.catalog_change DEFAULT VALUES;
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER bump_catalog AFTER INSERT OR UPDATE OR DELETE ON host.queue
    FOR EACH ROW EXECUTE FUNCTION host.bump_catalog();
CREATE OR REPLACE TRIGGER bump_catalog AFTER INSERT OR UPDATE OR DELETE ON host.handler
    FOR EACH ROW EXECUTE FUNCTION host.bump_catalog();
CREATE OR REPLACE TRIGGER bump_catalog AFTER INSERT OR UPDATE OR DELETE ON host.handler_version
    FOR EACH ROW EXECUTE FUNCTION host.bump_catalog();
-- Not at a firing: only for what hosts would otherwise sleep through.
CREATE OR REPLACE TRIGGER bump_catalog AFTER INSERT OR UPDATE OF paused OR DELETE ON host.cron
    FOR EACH ROW EXECUTE FUNCTION host.bump_catalog();
-- Whatever session_replication_role somebody has: hosts would never hear of it.
ALTER TABLE host.queue ENABLE ALWAYS TRIGGER bump_catalog;
ALTER TABLE host.handler ENABLE ALWAYS TRIGGER bump_catalog;
ALTER TABLE host.handler_version ENABLE ALWAYS TRIGGER bump_catalog;
ALTER TABLE host.cron ENABLE ALWAYS TRIGGER bump_catalog;

-- Creates a queue: its row, its tables, its functions, and who may do what with them. Raises
-- unique_violation if there is one. SECURITY DEFINER: all tables have one owner, whoever made the
-- queue.
CREATE OR REPLACE FUNCTION host.create_queue(
    p_name text,
    p_payload_type text DEFAULT 'jsonb',
    p_payload_bytes_max bigint DEFAULT 1 << 20,
    p_max_attempts int DEFAULT 10,
    p_backoff_base_ms bigint DEFAULT 1000,
    p_backoff_cap_ms bigint DEFAULT 3600000,
    p_rotate_bytes bigint DEFAULT 64 << 20,
    p_rotate_age_ms bigint DEFAULT 60000,
    p_wake_up boolean DEFAULT true,
    p_delays_ms bigint[] DEFAULT NULL,
    p_keep_ms bigint DEFAULT NULL,
    p_priorities boolean DEFAULT false,
    p_ordered_lanes int DEFAULT NULL,
    p_keyed_lanes int DEFAULT NULL
) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    q host.queue;
BEGIN
    IF right(p_name, 7) = '_id_seq' THEN
        RAISE EXCEPTION 'a queue cannot be named "%": the ids of queue "%" come from a sequence of that name',
                p_name, left(p_name, -7)
            USING ERRCODE = '42602', HINT = 'choose a name that does not end in _id_seq';
    ELSIF to_regclass(format('queue.%I', p_name)) IS NOT NULL AND NOT EXISTS (SELECT FROM host.queue WHERE name = p_name) THEN
        RAISE EXCEPTION 'queue.% exists, and is no queue', p_name
            USING ERRCODE = '42P07', HINT = 'choose another name, or rename or drop what is there';
    END IF;
    INSERT INTO host.queue (name, payload_type, payload_bytes_max, max_attempts, backoff_base_ms,
            backoff_cap_ms, rotate_bytes, rotate_age_ms, wake_up, delays_ms, keep_ms, priorities,
            ordered_lanes, keyed_lanes)
        VALUES (p_name, p_payload_type, p_payload_bytes_max, p_max_attempts, p_backoff_base_ms,
            p_backoff_cap_ms, p_rotate_bytes, p_rotate_age_ms, p_wake_up, p_delays_ms, p_keep_ms, p_priorities,
            p_ordered_lanes, p_keyed_lanes)
        RETURNING * INTO q;
    EXECUTE host.render('tables.sql', q);
    IF q.keep_ms IS NOT NULL THEN
        EXECUTE host.render('history.sql', q);
    END IF;
    PERFORM host.apply_queue_functions(p_name);
    PERFORM host.grant_privileges(p_name);
    PERFORM host.put_comments(p_name);
    RETURN q.id;
END $$;
REVOKE EXECUTE ON FUNCTION host.create_queue FROM PUBLIC;

-- Drops a queue with everything in it. With messages left, or cron entries, only if p_force:
-- nothing that was enqueued while this looked is overlooked, since it looks under the lock that a
-- producer waits for. Raises HQ005 when there are some.
-- Locks: advisory ({rotation_lock}, queue), ({promotion_lock}, queue) and ({cursor_lock},
-- handlers), as rotation does, so that no host is in the midst of it; ACCESS EXCLUSIVE on the
-- queue's tables. At most 10 s for each. SECURITY DEFINER: only the owner of tables can drop them.
CREATE OR REPLACE FUNCTION host.drop_queue(p_name text, p_force boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '10s' AS $$
DECLARE
    number int;
    entries text;
    remaining text;
    f regprocedure;
BEGIN
    PERFORM host.require_read_committed('dropping a queue');
    SELECT id INTO number FROM host.queue WHERE name = p_name FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue "%"', p_name USING ERRCODE = 'HQ004';
    END IF;
    PERFORM pg_advisory_xact_lock({rotation_lock}, number);
    PERFORM pg_advisory_xact_lock({promotion_lock}, number);
    PERFORM pg_advisory_xact_lock({cursor_lock}, id)
        FROM (SELECT id FROM host.handler WHERE queue_id = number ORDER BY id) x;
    -- Before the table: a firing locks its entry first, too. Deleted only after: that locks the
    -- entries' rows as well, for which others should not wait while this waits for a producer.
    SELECT string_agg(name, ', ' ORDER BY name) INTO entries
        FROM (SELECT name FROM host.cron WHERE queue_id = number FOR UPDATE) c;
    EXECUTE format('LOCK TABLE queue.%I IN ACCESS EXCLUSIVE MODE', p_name);
    IF NOT p_force THEN
        IF entries IS NOT NULL THEN
            RAISE EXCEPTION 'cron enqueues on queue "%": %', p_name, entries
                USING ERRCODE = 'HQ005', HINT = format('to remove these entries with it: host queue drop %s --force', p_name);
        END IF;
        SELECT concat_ws(', ', nullif(s.waiting, 0) || ' waiting', nullif(s.in_flight, 0) || ' in flight',
                nullif(s.scheduled, 0) || ' scheduled', nullif(s.dead, 0) || ' dead')
            INTO remaining FROM host.queue_status(p_name) s;
        IF remaining <> '' THEN
            RAISE EXCEPTION 'queue "%" has messages left: %', p_name, remaining
                USING ERRCODE = 'HQ005', HINT = format('to drop them with it: host queue drop %s --force', p_name);
        END IF;
    END IF;
    DELETE FROM host.cron WHERE queue_id = number;
    DELETE FROM host.pace WHERE queue_id = number;
    DELETE FROM host.queue WHERE id = number;
    DELETE FROM host.partition_count WHERE queue_id = number;
    DELETE FROM host.migration_queue WHERE queue_id = number;
    EXECUTE format('DROP VIEW queue.%I', p_name || '__orm');
    EXECUTE format('DROP TABLE queue.%I, host.%I, host.%I, host.%I, host.%I, host.%I, host.%I',
        p_name, p_name || '__lease', p_name || '__settlement', p_name || '__promotion',
        p_name || '__schedule', p_name || '__dead_letter', p_name || '__unique');
    EXECUTE format('DROP TABLE IF EXISTS host.%I', p_name || '__history');
    EXECUTE format('DROP SEQUENCE host.%I', p_name || '__asleep');
    FOR f IN SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = 'host'::regnamespace AND starts_with(p.proname, p_name || '__')
    LOOP
        EXECUTE format('DROP FUNCTION %s', f);
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION host.drop_queue FROM PUBLIC;

-- Lets a role enqueue, and see the ids of what it has enqueued; nothing else. Column by column, so
-- that nobody forges what the system owns. SECURITY DEFINER: only an owner can grant.
CREATE OR REPLACE FUNCTION host.grant_producer(p_queue text, p_role name) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM host.queue WHERE name = p_queue) THEN
        RAISE EXCEPTION 'no queue "%"', p_queue USING ERRCODE = 'HQ004';
    END IF;
    -- "public" would mean everybody, quoted or not.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = p_role) THEN
        RAISE EXCEPTION 'no role "%"', p_role USING ERRCODE = 'HQ004';
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA queue TO %I', p_role);
    EXECUTE format('GRANT INSERT (payload, headers, run_at, expires_at, priority, key, unique_key), SELECT (id) ON queue.%I TO %I', p_queue, p_role);
    EXECUTE format('GRANT SELECT, INSERT ON queue.%I TO %I', p_queue || '__orm', p_role);
    EXECUTE format('GRANT SELECT ON SEQUENCE queue.%I TO %I', p_queue || '_id_seq', p_role);
END $$;
REVOKE EXECUTE ON FUNCTION host.grant_producer FROM PUBLIC;

-- Pauses a queue, or lets it go on. False: it was so before.
CREATE OR REPLACE FUNCTION host.pause(p_queue text, p_paused boolean) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE host.queue SET paused = p_paused WHERE name = p_queue AND paused <> p_paused;
    RETURN FOUND;
END $$;

-- The expression that makes a payload of a type from its bytes.
CREATE OR REPLACE FUNCTION host.payload_cast(p_bytes text, p_payload_type text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE p_payload_type
        WHEN 'bytea' THEN p_bytes
        ELSE format('convert_from(%s, ''UTF8'')::%s', p_bytes, p_payload_type)
    END
$$;

-- Puts follow-up messages on their queues, in the caller's transaction. The arrays run in parallel;
-- the last three are NULL if no message has such a thing. Keys that several settlements take at
-- once are taken in their own order, or they would deadlock; where the queue keeps order that goes
-- before, and a settlement that deadlocks is tried again.
CREATE OR REPLACE FUNCTION host.enqueue_follow_ups(
    p_queue text[], p_payload bytea[], p_headers jsonb[], p_delay_ms bigint[],
    p_key text[] DEFAULT NULL, p_priority smallint[] DEFAULT NULL, p_unique_key text[] DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    more text := CASE WHEN num_nonnulls(p_key, p_priority, p_unique_key) > 0 THEN ', key, priority, unique_key' ELSE '' END;
    q record;
BEGIN
    FOR q IN
        SELECT f.name, x.payload_type, x.ordered_lanes
        FROM (SELECT DISTINCT unnest(p_queue) AS name) f LEFT JOIN host.queue x USING (name)
        ORDER BY f.name
    LOOP
        IF q.payload_type IS NULL THEN
            RAISE EXCEPTION 'no queue "%"', q.name USING ERRCODE = 'HQ004';
        END IF;
        EXECUTE format(
            'INSERT INTO queue.%I (payload, headers, run_at%s)
             SELECT %s, f.headers, CASE WHEN f.delay_ms > 0 THEN now() + f.delay_ms * interval ''1 ms'' END%s
             FROM unnest($2, $3, $4, $5%s) WITH ORDINALITY AS f (queue, payload, headers, delay_ms%s, n)
             WHERE f.queue = $1 ORDER BY %s f.n',
            q.name, more, host.payload_cast('f.payload', q.payload_type), more,
            CASE WHEN more <> '' THEN ', $6, $7, $8' ELSE '' END, more,
            CASE WHEN p_unique_key IS NOT NULL AND q.ordered_lanes IS NULL THEN 'unique_key COLLATE "C",' ELSE '' END)
        USING q.name, p_queue, p_payload, p_headers, p_delay_ms, p_key, p_priority, p_unique_key;
    END LOOP;
END $$;

-- Whether an error may be over when the same is tried again: it says nothing of the row at hand.
CREATE OR REPLACE FUNCTION host.may_pass(p_sqlstate text) RETURNS boolean
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT left(p_sqlstate, 2) IN ('08', '40', '53', '57', '58') OR p_sqlstate IN ('25006', '55P03')
$$;

-- The wait after an attempt that failed here, and not in a handler. Half of what doubles is at
-- random, as where hosts say how long to wait.
CREATE OR REPLACE FUNCTION host.retry_delay(q host.queue, p_attempt int) RETURNS interval
LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$
    SELECT interval '1 ms' * coalesce(q.delays_ms[least(p_attempt, cardinality(q.delays_ms))],
        least(q.backoff_cap_ms, q.backoff_base_ms * 2.0 ^ least(p_attempt - 1, 40)) * (0.5 + 0.5 * random()))
$$;

-- Refuses UPDATE, DELETE and TRUNCATE by producers. A row that vanishes or changes would move the
-- positions of open leases. And a queue would need vacuum, which this product exists to avoid (I3).
CREATE OR REPLACE FUNCTION host.refuse_change() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% on a queue: messages are only ever inserted', TG_OP
        USING HINT = 'to be rid of a queue with its messages: host queue drop --force';
END $$;
