-- A migrated database with one queue named `sample`, for reading and for review. Never applied.
-- Written by `make schema` from PostgreSQL 15.
CREATE SCHEMA host;

COMMENT ON SCHEMA host IS 'Of host, the job server: what it knows of its queues. Made and changed by host alone: exclude it from schema tools.';

CREATE SCHEMA queue;

COMMENT ON SCHEMA queue IS 'Queues of host: a table for each, to INSERT into. Made and changed by host alone: exclude it from schema tools.';

CREATE FUNCTION host.apply_queue_functions(p_name text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    q host.queue;
    want int := (SELECT max(m.version) FROM host.migration m);
BEGIN
    SELECT * INTO STRICT q FROM host.queue WHERE name = p_name;
    -- A new one has the tables of this release.
    INSERT INTO host.migration_queue (queue_id, version, functions) VALUES (q.id, want, host.migration_target())
        ON CONFLICT (queue_id) DO NOTHING;
    IF EXISTS (SELECT FROM host.migration_queue m WHERE m.queue_id = q.id AND m.version < want) THEN
        RAISE EXCEPTION 'an upgrade of the schema has not reached queue "%"', p_name
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'run `host migrate`, which goes on where it stopped';
    END IF;
    PERFORM host.run_templates(q, host.function_templates(q));
    PERFORM host.run_templates(q, '{triggers.sql}');
    PERFORM host.note_functions(q.id);
END $$;

CREATE FUNCTION host.beat(p_session integer, p_beat bigint, p_late text DEFAULT NULL::text) RETURNS TABLE(session_id integer, beat bigint, locked boolean, catalog_version bigint, server_started timestamp with time zone)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO host.heartbeat (session_id, slot, beat, late)
        VALUES (p_session, extract(epoch FROM now())::bigint / 3600 % 3, p_beat, p_late);
    RETURN QUERY
        SELECT s.id,
            (SELECT h.beat FROM host.heartbeat h WHERE h.session_id = s.id ORDER BY h.beat DESC LIMIT 1),
            l.objid IS NOT NULL,
            host.catalog_version(),
            greatest(pg_postmaster_start_time(), (SELECT w.stats_reset FROM pg_stat_bgwriter w))
        FROM host.session s
        LEFT JOIN (
            SELECT DISTINCT objid::bigint AS objid FROM pg_locks
            WHERE locktype = 'advisory' AND classid = 1752134401 AND objsubid = 2 AND granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        ) l ON l.objid = s.id
        WHERE s.ended_at IS NULL;
END $$;

CREATE FUNCTION host.begin_from_now(p_handler integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $_$
DECLARE
    queue text;
    lanes int;
    passed bigint[];
BEGIN
    PERFORM host.require_read_committed('deploying from now on');
    SELECT q.name, host.lanes(q) INTO queue, lanes FROM host.handler h JOIN host.queue q ON q.id = h.queue_id
        WHERE h.id = p_handler AND h.created_at = now();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'handler % has begun already', p_handler;
    END IF;
    EXECUTE format(
        'WITH passed AS MATERIALIZED (
            SELECT %1$s AS lane, count(*) FILTER (WHERE id / 100000000000 %% 3 = 0) AS a,
                count(*) FILTER (WHERE id / 100000000000 %% 3 = 1) AS b,
                count(*) FILTER (WHERE id / 100000000000 %% 3 = 2) AS c
            FROM queue.%2$I GROUP BY 1
        ), cursors AS (
            INSERT INTO host.%3$I (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
                row_count, leaves, is_cursor, more, token, hi, txids, lane, leased)
            SELECT host.cursor_seq($1, n) - (1::bigint << 32), 0, 0, 0, 0, $1, 0, 0, 0, true, false, gen_random_uuid(),
                txid_current_snapshot(), ''{}'', n, ARRAY[coalesce(p.a, 0), coalesce(p.b, 0), coalesce(p.c, 0)]
            FROM generate_series(0, $2 - 1) n LEFT JOIN passed p ON p.lane = n
        )
        SELECT ARRAY(SELECT message_id FROM host.%4$I)',
        CASE WHEN lanes > 1 THEN 'lane' ELSE '0' END, queue, queue || '__lease', queue || '__unique')
        INTO passed USING p_handler, lanes;
    EXECUTE format('SELECT host.%I($1, $2)', queue || '__release_keys') USING p_handler, passed;
END $_$;

CREATE FUNCTION host.begin_session(p_host_name text, p_pid integer, p_host_version text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    session int;
BEGIN
    IF host.restored() THEN
        RAISE EXCEPTION 'this database was restored from a dump, copied or upgraded: its queues count by another cluster''s transaction ids'
            USING HINT = 'run `host migrate --restored`, when the restore is complete', ERRCODE = 'HQ003';
    END IF;
    INSERT INTO host.session (host_name, pid, host_version)
        VALUES (p_host_name, p_pid, p_host_version) RETURNING id INTO session;
    -- The next try gets the next number.
    IF NOT pg_try_advisory_lock(1752134401, session) THEN
        PERFORM host.refuse_held_session(session);
    END IF;
    RETURN session;
END $$;

CREATE FUNCTION host.begun_account(p_account bigint[], p_cursor bigint, p_messages bigint) RETURNS bigint[]
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    FOR generation IN greatest(p_cursor + 1, p_messages - 2) .. p_messages LOOP
        p_account[generation % 3 + 1] := 0;
    END LOOP;
    RETURN p_account;
END $$;

CREATE FUNCTION host.bump_catalog() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    IF TG_OP <> 'UPDATE' OR OLD IS DISTINCT FROM NEW THEN
        INSERT INTO host.catalog_change DEFAULT VALUES;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION host.catalog_version() RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT c.version + (SELECT count(*) FROM host.catalog_change) FROM host.catalog c
$$;

CREATE FUNCTION host.changed_functions() RETURNS TABLE(queue text, function text, how text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
    SELECT q.name, coalesce(f.function, n.function), CASE
        WHEN f.function IS NULL THEN 'missing'
        WHEN n.function IS NULL THEN 'added'
        ELSE 'changed'
    END
    FROM host.functions_now() f
    FULL JOIN (SELECT x.queue_id, e.key AS function, e.value AS digest
        FROM host.queue_functions x CROSS JOIN jsonb_each_text(x.digests) e) n USING (queue_id, function)
    JOIN host.queue q ON q.id = queue_id
    WHERE f.digest IS DISTINCT FROM n.digest
        -- Of a queue whose functions were never noted nothing can be said.
        AND queue_id IN (SELECT queue_id FROM host.queue_functions)
$$;

CREATE FUNCTION host.comments() RETURNS TABLE(relation text, comment text, columns jsonb)
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    VALUES
        ('queue.{q}',
            'Queue {q}, one row a message. Producers insert payload, headers, run_at, expires_at, priority, key and unique_key, and read back id; the rest is the system''s. Made and changed by host alone: exclude it from schema tools.',
            '{"id": "The system''s: the message''s id, from the identity.",
            "txid": "The system''s: the transaction that inserted the row.",
            "enqueued_at": "The system''s: when the message was enqueued.",
            "run_at": "A producer''s: not before this time. NULL: at once.",
            "origin": "The system''s: the id that the message had first, if it was inserted again.",
            "handler_id": "The system''s: the only handler that this row is for. NULL: all.",
            "attempt": "The system''s: the attempt that this row is for, from 1.",
            "headers": "A producer''s: a JSON object. NULL, or JSON''s null: none.",
            "history": "The system''s: one entry for each failed attempt.", "payload": "A producer''s: the message.",
            "expires_at": "A producer''s: from this time on it is a dead letter and is not run. NULL: never.",
            "unique_key": "A producer''s: left out, or refused, while another message has the key. Always NULL in a stored row.",
            "priority": "A producer''s: 1 is high, 2 normal, 3 low. NULL: 2.",
            "key": "A producer''s: messages of one key run in order, or have limits of their own.",
            "lane": "The system''s: the strand of the queue, computed."}'::jsonb),
        ('queue.{q}__orm',
            'Where object-relational mappers insert into queue {q}. Always empty: what is inserted goes to queue.{q}. Made by host: exclude it from schema tools.',
            '{"id": "Given by the queue; a value that is inserted is ignored.", "payload": "The message.",
            "headers": "A JSON object. NULL, or JSON''s null: none.",
            "run_at": "Not before this time. NULL: at once.",
            "expires_at": "From this time on it is a dead letter and is not run. NULL: never.",
            "priority": "1 is high, 2 normal, 3 low. NULL: 2.",
            "key": "Messages of one key run in order, or have limits of their own.",
            "unique_key": "A duplicate gets the id of the message that has the key, or is refused."}'),
        ('host.{q}__lease',
            'Leases of queue {q}: which messages a host may process. Append-only.',
            '{"id": "Its number.", "seq": "What its session calls it.", "leased_at": "When it was leased.",
            "from_txid": "Its messages come after this transaction …", "from_id": "… and this id.",
            "to_txid": "The transaction of its last message.", "to_id": "The id of its last message.",
            "handler_id": "The handler.", "session_id": "The host''s session; 0: nobody''s.",
            "row_count": "How many messages; 0: a cursor only.",
            "leaves": "Which partitions they are in, bit by bit.",
            "deaths": "How many hosts have died with them in flight.",
            "is_cursor": "Whether the handler goes on from here.", "more": "Whether the window has more messages.",
            "token": "What a settlement must know.", "hi": "Up to where transactions were looked at.",
            "txids": "The transactions of the window.",
            "positions": "What is left to do, if it was taken over. NULL: all.",
            "lane": "The strand of the queue.", "last_id": "The last id of the window, if the queue keeps order.",
            "due": "Not before this time, if a retry holds the lane.",
            "attempt": "Of the first message, if it is tried again.",
            "history": "Of the first message, if it is tried again.",
            "tat": "With limits: when the next may start.", "held": "With limits: leases that were open.",
            "leased": "Of a cursor: messages of each partition that were leased."}'),
        ('host.{q}__settlement',
            'Settlements of queue {q}: which messages of a lease are done. Append-only.',
            '{"lease_id": "The lease.", "seq": "Its number within the lease.",
            "rest": "Messages that are not settled after it.", "settled_at": "When.",
            "revoked": "Whether the lease was taken over.", "settled": "The positions that it settles.",
            "removed": "Of these: removed by an operator.", "result_pos": "Of these: acked with a result.",
            "results": "The results, in the same order.", "parked": "How many only went to the schedule.",
            "heir_session": "Who took the lease over.", "heir_seq": "What the taker calls its lease."}'),
        ('host.{q}__promotion',
            'How far the schedule of queue {q} was promoted. Append-only; the newest row counts.',
            '{"id": "Its number.", "due": "Promoted up to this due time …", "schedule_id": "… and this row.",
            "hi": "Of what was visible then.", "late_txids": "Transactions that came late.",
            "late_txid": "Of these: looked at up to this one …", "late_id": "… and this row.",
            "passed_due": "From where the clock was set back: due times …", "passed_id": "… rows …",
            "passed_hi": "… and what was visible then.",
            "promoted": "How many were promoted from each bucket of the schedule since it was truncated."}'),
        ('host.{q}__schedule',
            'Messages of queue {q} that are not due yet. Append-only.',
            '{"id": "Its number.", "due": "When.", "txid": "The transaction that inserted the row.",
            "origin": "The message''s id.", "enqueued_at": "When the message was enqueued.",
            "handler_id": "The only handler that it is for. NULL: all.", "slot": "The partition, by due time.",
            "attempt": "The attempt that it is for.", "headers": "As on the queue.", "history": "As on the queue.",
            "payload": "As on the queue.", "expires_at": "As on the queue.", "priority": "As on the queue.",
            "key": "As on the queue."}'),
        ('host.{q}__dead_letter',
            'Messages of queue {q} that were given up on: see host dead.',
            '{"id": "Its number.", "message_id": "The message''s id.",
            "enqueued_at": "When the message was enqueued.", "died_at": "When it was given up on.",
            "handler_id": "The handler that gave up.", "attempt": "The last attempt.", "reason": "Why, in a word.",
            "error": "What the last attempt said.", "headers": "As on the queue.", "history": "As on the queue.",
            "payload": "As on the queue.", "priority": "As on the queue.", "key": "As on the queue."}'),
        ('host.{q}__unique',
            'Unique keys of queue {q} that are taken.',
            '{"key": "The key.", "message_id": "The message that has it.", "taken_at": "Since when.",
            "settled_by": "The handlers that are done with the message."}'),
        ('host.{q}__history',
            'Settled messages that queue {q} keeps. Append-only.',
            '{"message_id": "The message''s id.", "lease_id": "The lease that it was settled in.",
            "enqueued_at": "When it was enqueued.", "leased_at": "When it was leased.",
            "settled_at": "When it was settled.", "handler_id": "The handler.",
            "session_id": "The host''s session.", "slot": "The partition, by time.", "attempt": "The last attempt.",
            "removed": "Whether an operator removed it.", "handler": "The handler''s name.",
            "headers": "As on the queue.", "history": "As on the queue.",
            "result": "What the handler left. NULL: nothing.", "payload": "As on the queue."}'),
        ('host.cancellation',
            'Messages that a handler is not to run, until it meets them.',
            '{"queue_id": "The queue.", "handler_id": "The handler.", "message_id": "The message.",
            "cancelled_at": "When.", "cancelled_by": "By which role."}'),
        ('host.catalog',
            'One row: the changes of the catalog that were counted. With those in catalog_change it tells hosts to read queues and handlers again.',
            '{"version": "How many.", "only_row": "Always true."}'),
        ('host.catalog_change',
            'Changes of the catalog that are not counted yet, one row each.',
            '{"id": "Its number.", "changed_at": "When."}'),
        ('host.cluster',
            'One row: the cluster whose transaction ids the cursors count by.',
            '{"system_identifier": "As pg_control_system() says.", "only_row": "Always true."}'),
        ('host.component',
            'Uploaded components, each once.',
            '{"sha256": "The digest.", "wasm": "The component.", "uploaded_at": "When."}'),
        ('host.cron',
            'Messages at set times: see host cron.',
            '{"id": "Its number.", "name": "Its name.", "queue_id": "The queue.",
            "schedule": "When it fires, in cron''s terms.", "time_zone": "In which zone.",
            "missed": "What becomes of firings that nobody was there for.", "payload": "What it enqueues.",
            "headers": "With these headers.", "paused": "Whether it is paused.", "next_at": "When it fires next.",
            "error": "Why it last failed.", "retry_at": "When a firing that failed is tried again.",
            "fired_at": "When it last fired.", "messages": "How often it has fired.",
            "created_at": "When it was made.", "created_by": "By which role."}'),
        ('host.failing',
            'How many messages of a handler failed lately, as each host reports it.',
            '{"session_id": "The host''s session.", "handler_id": "The handler.", "version": "The version that last failed.",
            "calls": "Messages that ran in the five minutes before.", "failed": "Of these: failed.",
            "dead": "Of these: dead letters.", "error": "The commonest error.", "reported_at": "When."}'),
        ('host.handler',
            'Handlers of queues.',
            '{"id": "Its number.", "queue_id": "The queue.", "name": "Its name.", "version": "The version in force.",
            "created_at": "When it was first deployed.", "paused": "Whether it is paused."}'),
        ('host.handler_version',
            'Versions of handlers, and what each may use.',
            '{"handler_id": "The handler.", "version": "Its number.", "sha256": "The component.",
            "config": "What the guest may ask for by key.",
            "isolation": "Whether a sandbox serves a message or a batch.",
            "concurrency": "Sandboxes at once, on each host.", "memory_bytes": "Memory of a sandbox.",
            "timeout_ms": "Time of a call.", "cpu_ms": "Time on a processor of a call.",
            "log_bytes": "Log text of a call.", "follow_ups": "Messages that a call enqueues.",
            "follow_up_bytes": "Their bytes.", "deployed_at": "When.", "deployed_by": "By which role.",
            "http": "The HTTP requests that are granted.", "secrets": "The secrets that are granted.",
            "http_requests": "HTTP requests of a call.", "http_bytes": "Their bytes.",
            "batch_size": "Messages of a call."}'),
        ('host.heartbeat',
            'Heartbeats of hosts. Append-only.',
            '{"session_id": "The session.", "slot": "The partition, by the hour.", "beat": "Its number.",
            "beat_at": "When, for people.", "late": "Which loop of the host is overdue. NULL: none."}'),
        ('host.partition_count',
            'Counts of partitions that are about to be truncated.',
            '{"queue_id": "The queue.", "kind": "Of messages, or of the schedule.", "leaf": "The partition.", "hi": "What the count has seen.",
            "blocks": "How many blocks are counted.", "messages": "How many messages these have.",
            "missed": "Of these: never leased by some handler, or never promoted."}'),
        ('host.loaded',
            'What each host has made of each deployment.',
            '{"session_id": "The host''s session.", "handler_id": "The handler.", "version": "The version.",
            "error": "Why it cannot run. NULL: it runs.", "loaded_at": "When."}'),
        ('host.migration',
            'The numbered migrations that were applied to this database.',
            '{"version": "Its number.", "name": "Its name.", "sha256": "The digest of the file.",
            "applied_at": "When."}'),
        ('host.migration_functions',
            'One row: the digest of the function files and templates that this database has.',
            '{"only_row": "Always true.", "sha256": "The digest; after the word unfinished while queues lack theirs.",
            "applied_at": "When."}'),
        ('host.migration_queue',
            'How far each queue is brought to the schema of this database.',
            '{"queue_id": "The queue.", "version": "The last numbered migration that its tables have.",
            "functions": "The digest of what its functions are from."}'),
        ('host.pace',
            'What was settled in the last minute, of partitions that were truncated since.',
            '{"queue_id": "The queue.", "handler_id": "The handler.", "settled_at": "In which second.",
            "messages": "How many messages."}'),
        ('host.queue',
            'Queues and their settings: see host queue.',
            '{"id": "Its number.", "name": "Its name, and that of its table.",
            "payload_type": "The type of its payloads.", "payload_bytes_max": "Its largest payload.",
            "max_attempts": "Attempts before a message is a dead letter.",
            "backoff_base_ms": "The wait before the second attempt.", "backoff_cap_ms": "The longest wait.",
            "rotate_bytes": "The size at which the next partition is begun …", "rotate_age_ms": "… and the age.",
            "wake_up": "Whether an INSERT may NOTIFY a sleeping host.", "paused": "Whether it is paused.",
            "created_at": "When it was made.", "delays_ms": "The waits between attempts, instead of a backoff.",
            "unique_ms": "How long a unique key is taken at least. NULL: no keys.",
            "on_duplicate": "What becomes of a duplicate.", "keep_ms": "How long settled messages are kept.",
            "priorities": "Whether it has priorities.", "ordered_lanes": "Its strands, if it keeps order.",
            "fleet_concurrency": "Messages in flight over all hosts.", "rate_count": "Messages that may start …",
            "rate_ms": "… in this time.", "rate_burst": "How many of these at once.",
            "keyed_lanes": "Its strands, if it has limits for each key."}'),
        ('host.queue_functions',
            'The functions that each queue was given, for host doctor.',
            '{"queue_id": "The queue.", "digests": "Of each function, what it does."}'),
        ('host.secret',
            'Secrets of handlers: see host secret.',
            '{"name": "Its name.", "value": "For hosts alone: grant no other role SELECT on it.",
            "set_at": "When it was set.", "set_by": "By which role."}'),
        ('host.session',
            'Runs of host serve.',
            '{"id": "Its number.", "host_name": "The machine.", "pid": "The process.",
            "host_version": "The release.", "started_at": "When it began.",
            "ended_at": "When it ended. NULL: it runs.", "lost": "Whether it was found dead."}'),
        ('host.template',
            'What a queue is made from: SQL in which {q} stands for the queue''s name.',
            '{"name": "Its file.", "body": "The SQL."}')
$$;

CREATE FUNCTION host.count_catalog_changes() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '1s'
    AS $$
BEGIN
    PERFORM FROM host.catalog FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        WITH counted AS (DELETE FROM host.catalog_change RETURNING id)
        UPDATE host.catalog SET version = version + (SELECT count(*) FROM counted);
    END IF;
END $$;

CREATE FUNCTION host.create_queue(p_name text, p_payload_type text DEFAULT 'jsonb'::text, p_payload_bytes_max bigint DEFAULT (1 << 20), p_max_attempts integer DEFAULT 10, p_backoff_base_ms bigint DEFAULT 1000, p_backoff_cap_ms bigint DEFAULT 3600000, p_rotate_bytes bigint DEFAULT (64 << 20), p_rotate_age_ms bigint DEFAULT 60000, p_wake_up boolean DEFAULT true, p_delays_ms bigint[] DEFAULT NULL::bigint[], p_keep_ms bigint DEFAULT NULL::bigint, p_priorities boolean DEFAULT false, p_ordered_lanes integer DEFAULT NULL::integer, p_keyed_lanes integer DEFAULT NULL::integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION host.cron_add(p_name text, p_queue text, p_schedule text, p_time_zone text, p_missed text, p_payload bytea, p_headers jsonb, p_next_at timestamp with time zone, p_replace boolean) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION host.cron_ahead() RETURNS TABLE(id integer, name text, schedule text, time_zone text, missed text, next_at timestamp with time zone, now timestamp with time zone, in_ms bigint)
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT c.id, c.name, c.schedule, c.time_zone, c.missed, c.next_at, t.now,
        ceil(extract(epoch FROM c.next_at - t.now) * 1000)::bigint
    FROM host.cron c CROSS JOIN (SELECT clock_timestamp() AS now) t
    WHERE NOT c.paused AND greatest(c.fired_at, c.created_at) > t.now AND c.next_at > t.now
$$;

CREATE FUNCTION host.cron_enqueue(p_id integer, p_times timestamp with time zone[]) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
END $_$;

CREATE FUNCTION host.cron_failed(p_id integer, p_next_at timestamp with time zone, p_error text, p_wait_ms bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '1s'
    AS $$
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

CREATE FUNCTION host.cron_fire(p_id integer, p_next_at timestamp with time zone, p_times timestamp with time zone[], p_then timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '1s'
    AS $$
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

CREATE FUNCTION host.cron_list() RETURNS TABLE(name text, queue text, schedule text, time_zone text, missed text, paused boolean, next_at timestamp with time zone, fired_at timestamp with time zone, messages bigint, error text, created_at timestamp with time zone, created_by text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT c.name, q.name, c.schedule, c.time_zone, c.missed, c.paused, c.next_at, c.fired_at, c.messages, c.error,
        c.created_at, c.created_by
    FROM host.cron c JOIN host.queue q ON q.id = c.queue_id ORDER BY c.name
$$;

CREATE FUNCTION host.cron_look(p_limit integer) RETURNS TABLE(id integer, name text, schedule text, time_zone text, missed text, next_at timestamp with time zone, now timestamp with time zone, in_ms bigint)
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT c.id, c.name, c.schedule, c.time_zone, c.missed, c.next_at, t.now,
        ceil(extract(epoch FROM x.at - t.now) * 1000)::bigint
    FROM host.cron c CROSS JOIN (SELECT clock_timestamp() AS now) t
    -- Nobody waits longer than some seconds to try again: if it seems so, the clock was set back.
    CROSS JOIN LATERAL (SELECT greatest(c.next_at, CASE WHEN c.retry_at < t.now + interval '1 minute' THEN c.retry_at END) AS at) x
    WHERE NOT c.paused ORDER BY x.at, c.id LIMIT p_limit
$$;

CREATE FUNCTION host.cron_pause(p_name text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    UPDATE host.cron SET paused = true, error = NULL, retry_at = NULL WHERE name = p_name AND NOT paused;
    RETURN FOUND;
END $$;

CREATE FUNCTION host.cron_remove(p_name text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    DELETE FROM host.cron WHERE name = p_name;
    RETURN FOUND;
END $$;

CREATE FUNCTION host.cron_resume(p_name text, p_next_at timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    UPDATE host.cron SET paused = false, next_at = p_next_at WHERE name = p_name AND paused;
    RETURN FOUND;
END $$;

CREATE FUNCTION host.cron_run(p_name text) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION host.cron_set_back(p_id integer, p_next_at timestamp with time zone, p_then timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '1s'
    AS $$
BEGIN
    UPDATE host.cron SET next_at = p_then, retry_at = NULL
        WHERE id = p_id AND next_at = p_next_at AND p_then < p_next_at AND NOT paused;
    RETURN FOUND;
END $$;

CREATE FUNCTION host.cursor_seq(p_handler integer, p_lane integer) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT -p_handler - p_lane * (1::bigint << 33)
$$;

CREATE FUNCTION host.deploy(p_queue text, p_handler text, p_sha256 text, p_config jsonb, p_isolation text, p_concurrency integer, p_memory_bytes bigint, p_timeout_ms bigint, p_cpu_ms bigint, p_log_bytes bigint, p_follow_ups integer, p_follow_up_bytes bigint, p_http text[] DEFAULT '{}'::text[], p_secrets text[] DEFAULT '{}'::text[], p_http_requests integer DEFAULT 100, p_http_bytes bigint DEFAULT (16 << 20), p_batch_size integer DEFAULT NULL::integer, OUT handler_id integer, OUT version integer) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
DECLARE
    queue int;
BEGIN
    PERFORM host.require_read_committed('deploying a handler');
    SELECT id INTO queue FROM host.queue WHERE name = p_queue;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue "%"', p_queue USING ERRCODE = 'HQ004';
    END IF;
    SELECT h.id INTO handler_id FROM host.handler h WHERE h.queue_id = queue AND h.name = p_handler FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM pg_advisory_xact_lock(1752134404, queue);
        SELECT h.id INTO handler_id FROM host.handler h WHERE h.queue_id = queue AND h.name = p_handler FOR UPDATE;
    END IF;
    IF handler_id IS NULL THEN
        INSERT INTO host.handler (queue_id, name, version) VALUES (queue, p_handler, 0) RETURNING id INTO handler_id;
        EXECUTE format(
            'INSERT INTO host.%I (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
                row_count, leaves, is_cursor, more, token, hi, txids, lane, leased)
             SELECT host.cursor_seq($1, n), 0, 0, 0, 0, $1, 0, 0, 0, true, false, gen_random_uuid(), ''1:1:'', ''{}'', n,
                ''{0,0,0}''
             FROM generate_series(0, $2 - 1) n', p_queue || '__lease')
            USING handler_id, (SELECT host.lanes(q) FROM host.queue q WHERE q.id = queue);
    END IF;
    version := 1 + coalesce((SELECT max(v.version) FROM host.handler_version v WHERE v.handler_id = deploy.handler_id), 0);
    INSERT INTO host.handler_version (handler_id, version, sha256, config, isolation, concurrency, memory_bytes,
            timeout_ms, cpu_ms, log_bytes, follow_ups, follow_up_bytes, deployed_by, http, secrets, http_requests, http_bytes,
            batch_size)
        VALUES (handler_id, deploy.version, p_sha256, p_config, p_isolation, p_concurrency, p_memory_bytes,
            p_timeout_ms, p_cpu_ms, p_log_bytes, p_follow_ups, p_follow_up_bytes, session_user, p_http, p_secrets,
            p_http_requests, p_http_bytes, p_batch_size);
    UPDATE host.handler h SET version = deploy.version WHERE h.id = deploy.handler_id;
END $_$;

CREATE FUNCTION host.detached(p_queue text) RETURNS TABLE(partition text, remedy text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
    SELECT format('host.%I', c.relname), format('ALTER TABLE %s ATTACH PARTITION host.%I FOR VALUES IN (%s)',
        CASE x.log WHEN 'message' THEN format('queue.%I', p_queue) ELSE format('host.%I', p_queue || '__' || x.log) END,
        c.relname, x.leaf)
    FROM pg_class c
    CROSS JOIN LATERAL (SELECT m[1] AS log, m[2] AS leaf
        FROM regexp_match(substr(c.relname, length(p_queue) + 3), '^(message|lease|settlement|promotion|schedule|history)_([0-9]+)$') m) x
    WHERE c.relnamespace = 'host'::regnamespace AND c.relkind = 'r'
        AND c.relname >= p_queue || '__' AND c.relname < p_queue || '_`' AND x.log IS NOT NULL
        AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND NOT i.inhdetachpending)
    ORDER BY c.relname
$_$;

CREATE FUNCTION host.drop_queue(p_name text, p_force boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET lock_timeout TO '10s'
    AS $$
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
    PERFORM pg_advisory_xact_lock(1752134404, number);
    PERFORM pg_advisory_xact_lock(1752134403, number);
    PERFORM pg_advisory_xact_lock(1752134402, id)
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

CREATE FUNCTION host.dump_at_work(p_tables regclass[]) RETURNS integer
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
    SELECT min(a.pid) FROM pg_stat_activity a
    WHERE a.application_name = 'pg_dump' AND a.datname = current_database()
        AND EXISTS (SELECT FROM pg_roles r CROSS JOIN unnest(p_tables) t
            WHERE pg_has_role(a.usesysid, r.oid, 'MEMBER') AND has_table_privilege(r.oid, t, 'SELECT'))
        AND NOT (a.state IN ('active', 'idle in transaction') AND a.query !~* '^[[:space:]]*(LOCK[[:space:]]|$)'
            -- What is below is the catalog's.
            AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.granted AND l.relation >= 16384))
$_$;

CREATE FUNCTION host.end_rebase() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    t record;
BEGIN
    UPDATE host.session SET ended_at = clock_timestamp(), lost = true WHERE ended_at IS NULL;
    -- A logical copy brings rows without their sequences.
    FOR t IN
        SELECT c.oid::regclass AS name, pg_get_serial_sequence(c.oid::regclass::text, 'id')::regclass AS sequence
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id' AND a.attidentity <> ''
        WHERE c.relnamespace = 'host'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition
    LOOP
        BEGIN
            EXECUTE format('SELECT setval(%L, greatest(s.last_value, (SELECT max(id) FROM %s))) FROM %s s',
                t.sequence, t.name, t.sequence);
            -- No transaction takes a setval back; but the locks are given back, of which there
            -- would be some for each queue.
            RAISE SQLSTATE 'HQ009';
        EXCEPTION WHEN SQLSTATE 'HQ009' THEN NULL;
        END;
    END LOOP;
    INSERT INTO host.cluster (system_identifier) SELECT system_identifier FROM pg_control_system()
        ON CONFLICT (only_row) DO UPDATE SET system_identifier = EXCLUDED.system_identifier;
    INSERT INTO host.catalog_change DEFAULT VALUES;
END $$;

CREATE FUNCTION host.end_session(p_session integer, p_lost boolean) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '1s'
    AS $$
BEGIN
    UPDATE host.session SET ended_at = clock_timestamp(), lost = p_lost
        WHERE id = p_session AND ended_at IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF p_lost THEN
        PERFORM host.terminate(pid) FROM pg_stat_activity
            WHERE application_name = 'host session ' || p_session AND datname = current_database();
    END IF;
    INSERT INTO host.catalog_change DEFAULT VALUES;
    RETURN true;
END $$;

CREATE FUNCTION host.end_upgrade(p_name text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    PERFORM FROM host.queue WHERE name = p_name FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM host.put_comments(p_name);
    PERFORM host.grant_privileges(p_name);
    UPDATE host.migration_queue m SET functions = host.migration_target()
        FROM host.queue q WHERE q.id = m.queue_id AND q.name = p_name;
END $$;

CREATE FUNCTION host.enqueue_follow_ups(p_queue text[], p_payload bytea[], p_headers jsonb[], p_delay_ms bigint[], p_key text[] DEFAULT NULL::text[], p_priority smallint[] DEFAULT NULL::smallint[], p_unique_key text[] DEFAULT NULL::text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
END $_$;

CREATE FUNCTION host.error_kind(p_error text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT left(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(p_error,
            '"[^"]*"', '"…"', 'g'),
            '[^ ]+@[^ ]+', '#', 'g'),
            '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}', '#', 'g'),
            '(?=[0-9A-Za-z]*[0-9])(?=[0-9A-Za-z]*[A-Za-z])[0-9A-Za-z]{8,}', '#', 'g'),
            '[0-9]+', '#', 'g'), 200)
$$;

CREATE FUNCTION host.examine() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
BEGIN
    RETURN jsonb_build_object(
        'restored', host.restored(),
        'sees_others', pg_has_role('pg_read_all_stats', 'USAGE'),
        'missing_roles', ARRAY(SELECT DISTINCT p.role FROM host.privileges() p
            WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = p.role)),
        'missing_privileges', ARRAY(SELECT host.missing_privileges()),
        'open_privileges', ARRAY(SELECT host.open_privileges()),
        'open_defaults', ARRAY(SELECT host.open_defaults()),
        'excess_privileges', (SELECT coalesce(jsonb_agg(to_jsonb(e)), '[]') FROM host.excess_privileges() e),
        'connections', (SELECT sum(numbackends) FROM pg_stat_database),
        'connections_max', current_setting('max_connections')::int,
        -- As this session has them, and as any role has them here.
        'settings', (SELECT jsonb_agg(jsonb_build_object('name', s.name, 'value', s.value, 'role', s.role))
            FROM (
                SELECT name, setting AS value, NULL AS role FROM pg_settings
                UNION ALL
                SELECT split_part(c, '=', 1), split_part(c, '=', 2), r.rolname FROM pg_db_role_setting d
                    JOIN pg_roles r ON r.oid = d.setrole CROSS JOIN unnest(d.setconfig) c
                    WHERE d.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
            ) s
            WHERE s.name IN ('synchronous_commit', 'fsync', 'full_page_writes', 'default_transaction_read_only')),
        -- Not negative: no entry has fired in the future.
        'cron_clock_ms', (SELECT min((extract(epoch FROM clock_timestamp() - c.fired_at) * 1000)::bigint)
            FROM host.cron c WHERE isfinite(c.fired_at)),
        'dead_catalog_rows', pg_stat_get_dead_tuples('pg_class'::regclass),
        'oldest_snapshot', (SELECT to_jsonb(o) FROM (
            SELECT a.pid, NULL AS prepared, nullif(a.application_name, '') AS application, a.usename::text AS role,
                left(a.query, 200) AS query,
                (extract(epoch FROM clock_timestamp() - a.xact_start) * 1000)::bigint AS age_ms
            FROM pg_stat_activity a
            WHERE a.backend_xmin IS NOT NULL AND a.pid <> pg_backend_pid()
            ORDER BY age(a.backend_xmin) DESC LIMIT 1) o),
        'sessions', (SELECT coalesce(jsonb_agg(to_jsonb(s)), '[]') FROM host.sessions() s),
        'failing_cron', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', c.name, 'queue', q.name, 'error', c.error) ORDER BY c.name), '[]')
            FROM host.cron c JOIN host.queue q ON q.id = c.queue_id WHERE c.error IS NOT NULL AND NOT c.paused),
        'detached', ARRAY(SELECT format('ALTER TABLE host.heartbeat ATTACH PARTITION host.heartbeat_%1$s FOR VALUES IN (%1$s)', n)
            FROM generate_series(0, 2) n
            WHERE NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = to_regclass('host.heartbeat_' || n) AND NOT i.inhdetachpending)),
        'held_sessions', (SELECT coalesce(jsonb_agg(to_jsonb(s)), '[]') FROM host.held_sessions() s),
        'handlers', (SELECT coalesce(jsonb_agg(jsonb_build_object('queue', h.queue, 'handler', h.handler,
                'version', h.version, 'failed_on', h.failed_on)), '[]')
            FROM host.handlers() h WHERE h.in_force),
        'locks', (SELECT to_jsonb(l) || jsonb_build_object('per_transaction', current_setting('max_locks_per_transaction')::int)
            FROM host.lock_table() l));
END $_$;

CREATE FUNCTION host.examine_catalog() RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
    SELECT coalesce(jsonb_object_agg(f.queue, f.facts), '{}') FROM (
        SELECT x.queue, jsonb_object_agg(x.kind, x.list) AS facts FROM (
            SELECT c.relname AS queue, 'triggers' AS kind, jsonb_agg(jsonb_build_object(
                'name', t.tgname, 'function', p.oid::regprocedure::text) ORDER BY t.tgname) AS list
            FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid AND c.relnamespace = 'queue'::regnamespace
                JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_language g ON g.oid = p.prolang
            WHERE NOT t.tgisinternal AND p.pronamespace <> 'host'::regnamespace AND g.lanname NOT IN ('internal', 'c')
                AND NOT EXISTS (SELECT FROM unnest(p.proconfig) s WHERE starts_with(s, 'search_path='))
            GROUP BY c.relname
            UNION ALL
            SELECT split_part(c.relname, '__', 1), 'autovacuum', jsonb_agg(c.relname ORDER BY c.relname) FROM pg_class c
            WHERE c.relnamespace = 'host'::regnamespace AND c.relkind = 'r' AND c.relispartition
                AND NOT coalesce(c.reloptions, '{}') && '{autovacuum_enabled=off,autovacuum_enabled=false}'
            GROUP BY 1
            UNION ALL
            SELECT h.queue, 'locks', jsonb_agg(to_jsonb(h) - 'queue') FROM host.held_locks() h GROUP BY h.queue
        ) x GROUP BY x.queue
    ) f
$$;

CREATE FUNCTION host.examine_each(p_queues text[], p_idle boolean DEFAULT false) RETURNS SETOF jsonb
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
DECLARE
    one text;
    facts jsonb;
    probe record;
    hiding text[] := ARRAY(SELECT host.hiding_queues());
    of_catalog jsonb := host.examine_catalog();
BEGIN
    FOREACH one IN ARRAY p_queues LOOP
        BEGIN
            facts := NULL;
            SELECT * INTO probe FROM host.idle(one, 1) r WHERE one <> ALL (hiding);
            IF probe.idle THEN
                facts := (SELECT jsonb_build_object('name', q.name, 'paused', q.paused, 'clock_ms', probe.clock_ms, 'missed', NULL,
                        'row_security', '[]'::jsonb, 'unhandled', 0, 'open_lease', NULL, 'handlers', (
                            SELECT coalesce(jsonb_agg(jsonb_build_object('name', h.name, 'paused', h.paused, 'waiting', 0,
                                'refused', NULL, 'oldest_age_ms', NULL)
                                ORDER BY h.name), '[]')
                            FROM host.handler h WHERE h.queue_id = q.id))
                    FROM host.queue q WHERE q.name = one);
            ELSIF p_idle THEN
                facts := to_jsonb(one);
            ELSE
                EXECUTE format('SELECT host.%I()', one || '__examine') INTO facts;
            END IF;
            RAISE SQLSTATE 'HQ009';
        EXCEPTION
            WHEN SQLSTATE 'HQ009' THEN NULL;
            WHEN undefined_table OR undefined_function THEN
                IF EXISTS (SELECT FROM host.queue q WHERE q.name = one) THEN
                    RAISE;
                END IF;
                facts := NULL;
            WHEN lock_not_available THEN
                facts := to_jsonb(one);
        END;
        IF jsonb_typeof(facts) = 'object' THEN
            RETURN NEXT '{"triggers": [], "autovacuum": [], "locks": []}' || facts || coalesce(of_catalog -> one, '{}');
        ELSIF facts IS NOT NULL THEN
            RETURN NEXT facts;
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION host.excess_privileges() RETURNS TABLE(role text, rights text[], statements text[])
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
    WITH other AS MATERIALIZED (
        SELECT r.oid, r.rolname
        FROM pg_roles r
        -- Whoever is the owner in effect, as superusers are, may do all of it anyway.
        WHERE NOT pg_has_role(r.oid, (SELECT nspowner FROM pg_namespace WHERE nspname = 'host'), 'USAGE')
    ), listed AS MATERIALIZED (
        SELECT p.role, p.object, p.privilege, p.columns FROM host.privileges() p
    ), relation AS MATERIALIZED (
        SELECT n.nspname, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, c.oid, c.relname, c.relacl
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN ('host', 'queue')
        WHERE c.relkind IN ('r', 'p', 'v', 'S')
    ), held (role, nspname, kind, object, listed_as, privilege, column_name) AS (
        SELECT a.grantee, r.nspname, r.kind, r.oid::regclass::text, concat_ws('.', r.nspname, r.relname), a.privilege_type, NULL
        FROM relation r CROSS JOIN aclexplode(r.relacl) a
        UNION ALL
        SELECT a.grantee, r.nspname, r.kind, r.oid::regclass::text, concat_ws('.', r.nspname, r.relname), a.privilege_type, c.attname
        FROM relation r JOIN pg_attribute c ON c.attrelid = r.oid CROSS JOIN aclexplode(c.attacl) a
        UNION ALL
        SELECT a.grantee, 'host', 'FUNCTION', f.oid::regprocedure::text, 'host.' || f.proname, a.privilege_type, NULL
        FROM pg_proc f CROSS JOIN aclexplode(f.proacl) a
        WHERE f.pronamespace = 'host'::regnamespace AND f.prosecdef
        UNION ALL
        SELECT a.grantee, n.nspname, 'SCHEMA', n.nspname, n.nspname, a.privilege_type, NULL
        FROM pg_namespace n CROSS JOIN aclexplode(n.nspacl) a WHERE n.nspname IN ('host', 'queue')
    ), excess AS (
        SELECT o.rolname, h.nspname, h.kind, count(DISTINCT h.object) AS n, min(h.object) AS example,
            string_agg(DISTINCT h.privilege, ', ') AS privileges
        FROM held h JOIN other o ON o.oid = h.role
        WHERE CASE h.kind
                WHEN 'SCHEMA' THEN h.privilege = 'CREATE'
                WHEN 'FUNCTION' THEN true
                -- nextval() on the ids of messages only leaves a gap, as does an INSERT that is
                -- rolled back.
                WHEN 'SEQUENCE' THEN h.privilege = 'UPDATE' OR (h.privilege = 'USAGE' AND h.nspname = 'host')
                -- Whoever may enqueue is for the owner of the queue to say.
                ELSE h.privilege <> 'SELECT' AND (h.privilege <> 'INSERT' OR h.nspname = 'host') OR h.listed_as = 'host.secret'
            END
            AND NOT EXISTS (SELECT FROM listed p
                WHERE p.role = o.rolname AND p.object = h.listed_as AND p.privilege = h.privilege
                    AND (p.columns IS NULL OR h.column_name = ANY (p.columns)))
        GROUP BY o.rolname, h.nspname, h.kind
    )
    SELECT e.rolname,
        array_agg(CASE
            WHEN e.n = 1 THEN format('%s on %s %s', e.privileges, lower(e.kind), e.example)
            ELSE format('%s on %s %ss of %s, such as %s', e.privileges, e.n, lower(e.kind), e.nspname, e.example)
        END ORDER BY e.kind, e.nspname),
        array_agg(CASE
            WHEN e.n = 1 THEN format('REVOKE %s ON %s %s FROM %I', e.privileges, e.kind, e.example, e.rolname)
            ELSE format('REVOKE %s ON ALL %sS IN SCHEMA %I FROM %I', e.privileges, e.kind, e.nspname, e.rolname)
        END ORDER BY e.kind, e.nspname)
    FROM excess e GROUP BY e.rolname ORDER BY e.rolname
$$;

CREATE FUNCTION host.expect_versions(p_queue text, p_handler text, p_newest integer, p_in_force integer) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    handler int;
    in_force int;
    newest int;
BEGIN
    SELECT h.id, h.version INTO handler, in_force FROM host.handler h JOIN host.queue q ON q.id = h.queue_id
        WHERE q.name = p_queue AND h.name = p_handler FOR UPDATE OF h;
    SELECT max(v.version) INTO newest FROM host.handler_version v WHERE v.handler_id = handler;
    IF (coalesce(newest, 0), coalesce(in_force, 0)) <> (p_newest, p_in_force) THEN
        RAISE EXCEPTION 'handler %/% was changed meanwhile: version % is in force now', p_queue, p_handler,
            coalesce(in_force, 0) USING ERRCODE = 'HQ007', HINT = 'run the command again';
    END IF;
END $$;

CREATE FUNCTION host.failing_handlers() RETURNS TABLE(queue text, handler text, version integer, calls bigint, failed bigint, dead bigint, error text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT q.name, h.name, h.version, sum(f.calls)::bigint, sum(f.failed)::bigint, sum(f.dead)::bigint,
        (array_agg(f.error ORDER BY f.failed DESC, f.session_id))[1]
    FROM host.failing f JOIN host.handler h ON h.id = f.handler_id AND h.version = f.version
        JOIN host.queue q ON q.id = h.queue_id
    WHERE f.reported_at > now() - interval '2 minutes'
    GROUP BY q.name, h.name, h.version ORDER BY q.name, h.name
$$;

CREATE FUNCTION host.fresh_dead_letters(p_within interval DEFAULT '01:00:00'::interval) RETURNS TABLE(queue text, letters bigint, since timestamp with time zone, error text)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
DECLARE
    one text;
BEGIN
    FOR one IN SELECT q.name FROM host.queue q ORDER BY q.name LOOP
        letters := 0;
        BEGIN
            CONTINUE WHEN coalesce(pg_relation_size(to_regclass(format('host.%I', one || '__dead_letter'))), 0) = 0;
            EXECUTE format(
                'WITH fresh AS MATERIALIZED (
                    SELECT d.died_at, d.error FROM (SELECT * FROM host.%I ORDER BY id DESC LIMIT 1000) d
                    WHERE d.died_at > clock_timestamp() - $1
                )
                SELECT count(*), min(f.died_at), (SELECT min(c.error) FROM fresh c GROUP BY host.error_kind(c.error)
                    ORDER BY count(*) DESC, min(c.died_at) LIMIT 1)
                FROM fresh f', one || '__dead_letter')
                INTO letters, since, error USING p_within;
            RAISE SQLSTATE 'HQ009';
        EXCEPTION
            WHEN SQLSTATE 'HQ009' THEN NULL;
            -- Dropped meanwhile, or locked by somebody.
            WHEN undefined_table OR lock_not_available THEN NULL;
        END;
        IF letters > 0 THEN
            queue := one;
            RETURN NEXT;
        END IF;
    END LOOP;
END $_$;

CREATE TABLE host.queue (
    id integer NOT NULL,
    name text NOT NULL,
    payload_type text NOT NULL,
    payload_bytes_max bigint NOT NULL,
    max_attempts integer NOT NULL,
    backoff_base_ms bigint NOT NULL,
    backoff_cap_ms bigint NOT NULL,
    rotate_bytes bigint NOT NULL,
    rotate_age_ms bigint NOT NULL,
    wake_up boolean DEFAULT true NOT NULL,
    paused boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    delays_ms bigint[],
    unique_ms bigint,
    on_duplicate text DEFAULT 'drop'::text NOT NULL,
    keep_ms bigint,
    priorities boolean DEFAULT false NOT NULL,
    ordered_lanes integer,
    fleet_concurrency integer,
    rate_count integer,
    rate_ms bigint,
    rate_burst integer,
    keyed_lanes integer,
    CONSTRAINT a_queue_has_one_kind_of_lanes CHECK (((keyed_lanes IS NULL) OR ((NOT priorities) AND (ordered_lanes IS NULL)))),
    CONSTRAINT delays_are_at_most_a_year CHECK (((0 <= ALL (delays_ms)) AND ('31536000000'::bigint >= ALL (delays_ms)))),
    CONSTRAINT delays_are_one_to_a_hundred CHECK ((((cardinality(delays_ms) >= 1) AND (cardinality(delays_ms) <= 100)) AND (array_position(delays_ms, NULL::bigint) IS NULL))),
    CONSTRAINT keep_is_at_most_10_years CHECK (((keep_ms >= 1) AND (keep_ms <= '315360000000'::bigint))),
    CONSTRAINT keyed_lanes_are_a_power_of_two CHECK ((keyed_lanes = ANY (ARRAY[2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]))),
    CONSTRAINT limits_are_not_for_queues_that_keep_an_order CHECK (((ordered_lanes IS NULL) OR (num_nonnulls(fleet_concurrency, rate_count) = 0))),
    CONSTRAINT ordered_lanes_are_a_power_of_two CHECK ((ordered_lanes = ANY (ARRAY[2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]))),
    CONSTRAINT priorities_and_order_exclude_each_other CHECK (((NOT priorities) OR (ordered_lanes IS NULL))),
    CONSTRAINT queue_backoff_base_ms_check CHECK (((backoff_base_ms >= 1) AND (backoff_base_ms <= 86400000))),
    CONSTRAINT queue_check CHECK (((backoff_cap_ms >= backoff_base_ms) AND (backoff_cap_ms <= '31536000000'::bigint))),
    CONSTRAINT queue_fleet_concurrency_check CHECK (((fleet_concurrency >= 1) AND (fleet_concurrency <= 10000))),
    CONSTRAINT queue_max_attempts_check CHECK (((max_attempts >= 1) AND (max_attempts <= 1000))),
    CONSTRAINT queue_name_is_lower_case_and_short CHECK (((name ~ '^[a-z][a-z0-9_]{0,39}$'::text) AND (name !~ '__'::text) AND (name !~ '_$'::text))),
    CONSTRAINT queue_on_duplicate_check CHECK ((on_duplicate = ANY (ARRAY['drop'::text, 'refuse'::text]))),
    CONSTRAINT queue_payload_bytes_max_check CHECK (((payload_bytes_max >= 1) AND (payload_bytes_max <= (64 << 20)))),
    CONSTRAINT queue_payload_type_check CHECK ((payload_type = ANY (ARRAY['jsonb'::text, 'json'::text, 'text'::text, 'bytea'::text]))),
    CONSTRAINT queue_rate_burst_check CHECK (((rate_burst >= 1) AND (rate_burst <= 1000000))),
    CONSTRAINT queue_rate_count_check CHECK (((rate_count >= 1) AND (rate_count <= 1000000))),
    CONSTRAINT queue_rate_ms_check CHECK (((rate_ms >= 1) AND (rate_ms <= '31536000000'::bigint))),
    CONSTRAINT queue_rotate_age_ms_check CHECK ((rotate_age_ms >= 10)),
    CONSTRAINT queue_rotate_bytes_check CHECK ((rotate_bytes >= 8192)),
    CONSTRAINT queue_unique_ms_check CHECK (((unique_ms >= 0) AND (unique_ms <= '31536000000'::bigint))),
    CONSTRAINT rate_is_at_most_1000_a_millisecond CHECK ((rate_count <= (rate_ms * 1000))),
    CONSTRAINT rate_is_whole CHECK ((num_nulls(rate_count, rate_ms, rate_burst) = ANY (ARRAY[0, 3]))),
    CONSTRAINT rotate_age_is_at_most_a_year CHECK ((rotate_age_ms <= '31536000000'::bigint))
);

COMMENT ON TABLE host.queue IS 'Queues and their settings: see host queue.';

COMMENT ON COLUMN host.queue.id IS 'Its number.';

COMMENT ON COLUMN host.queue.name IS 'Its name, and that of its table.';

COMMENT ON COLUMN host.queue.payload_type IS 'The type of its payloads.';

COMMENT ON COLUMN host.queue.payload_bytes_max IS 'Its largest payload.';

COMMENT ON COLUMN host.queue.max_attempts IS 'Attempts before a message is a dead letter.';

COMMENT ON COLUMN host.queue.backoff_base_ms IS 'The wait before the second attempt.';

COMMENT ON COLUMN host.queue.backoff_cap_ms IS 'The longest wait.';

COMMENT ON COLUMN host.queue.rotate_bytes IS 'The size at which the next partition is begun …';

COMMENT ON COLUMN host.queue.rotate_age_ms IS '… and the age.';

COMMENT ON COLUMN host.queue.wake_up IS 'Whether an INSERT may NOTIFY a sleeping host.';

COMMENT ON COLUMN host.queue.paused IS 'Whether it is paused.';

COMMENT ON COLUMN host.queue.created_at IS 'When it was made.';

COMMENT ON COLUMN host.queue.delays_ms IS 'The waits between attempts, instead of a backoff.';

COMMENT ON COLUMN host.queue.unique_ms IS 'How long a unique key is taken at least. NULL: no keys.';

COMMENT ON COLUMN host.queue.on_duplicate IS 'What becomes of a duplicate.';

COMMENT ON COLUMN host.queue.keep_ms IS 'How long settled messages are kept.';

COMMENT ON COLUMN host.queue.priorities IS 'Whether it has priorities.';

COMMENT ON COLUMN host.queue.ordered_lanes IS 'Its strands, if it keeps order.';

COMMENT ON COLUMN host.queue.fleet_concurrency IS 'Messages in flight over all hosts.';

COMMENT ON COLUMN host.queue.rate_count IS 'Messages that may start …';

COMMENT ON COLUMN host.queue.rate_ms IS '… in this time.';

COMMENT ON COLUMN host.queue.rate_burst IS 'How many of these at once.';

COMMENT ON COLUMN host.queue.keyed_lanes IS 'Its strands, if it has limits for each key.';

CREATE FUNCTION host.function_templates(q host.queue) RETURNS text[]
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT array_agg(t.name) FROM host.template t
    WHERE t.name LIKE 'functions/%' OR (t.name LIKE 'priorities/%' AND q.priorities)
        OR (t.name LIKE 'ordered/%' AND q.ordered_lanes IS NOT NULL)
        OR (t.name LIKE 'keyed/%' AND q.keyed_lanes IS NOT NULL)
$$;

CREATE FUNCTION host.functions_now(p_queue integer DEFAULT NULL::integer) RETURNS TABLE(queue_id integer, function text, digest text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
    SELECT q.id, format('host.%s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)),
        md5(concat_ws(' ', p.prosrc, p.prosecdef, p.provolatile, p.proconfig))
    FROM pg_proc p JOIN host.queue q ON q.name = split_part(p.proname, '__', 1)
    WHERE p.pronamespace = 'host'::regnamespace AND strpos(p.proname, '__') > 0 AND (p_queue IS NULL OR q.id = p_queue)
$$;

CREATE FUNCTION host.grant_privileges(p_queue text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    statement text;
    granted int := 0;
BEGIN
    FOR statement IN SELECT host.open_privileges(p_queue) LOOP
        EXECUTE statement;
        granted := granted + 1;
    END LOOP;
    -- After that: what everybody could do, a group role may have had no other way to do.
    FOR statement IN SELECT host.missing_privileges(p_queue) LOOP
        EXECUTE statement;
        granted := granted + 1;
    END LOOP;
    RETURN granted;
END $$;

CREATE FUNCTION host.grant_producer(p_queue text, p_role name) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION host.handler_versions(p_queue text, p_handler text) RETURNS TABLE(handler_id integer, version integer, in_force boolean, sha256 text, size_bytes bigint, settings jsonb, deployed_at timestamp with time zone, deployed_by text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT h.id, v.version, v.version = h.version, v.sha256, length(c.wasm), to_jsonb(v), v.deployed_at, v.deployed_by
    FROM host.queue q
    JOIN host.handler h ON h.queue_id = q.id
    JOIN host.handler_version v ON v.handler_id = h.id
    JOIN host.component c ON c.sha256 = v.sha256
    WHERE q.name = p_queue AND h.name = p_handler
    ORDER BY v.version DESC
$$;

CREATE FUNCTION host.handlers() RETURNS TABLE(queue text, handler text, version integer, in_force boolean, paused boolean, sha256 text, size_bytes bigint, isolation text, concurrency integer, batch_size integer, http text[], secrets text[], deployed_at timestamp with time zone, deployed_by text, runs_on text[], failed_on text[])
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    WITH newest AS (
        SELECT DISTINCT ON (l.handler_id, l.session_id, l.error IS NULL)
            l.handler_id, l.session_id, l.version, l.error, format('%s/%s', s.host_name, s.pid) AS host
        FROM host.loaded l JOIN host.session s ON s.id = l.session_id AND s.ended_at IS NULL
        ORDER BY l.handler_id, l.session_id, l.error IS NULL, l.loaded_at DESC
    )
    SELECT q.name, h.name, v.version, v.version = h.version, h.paused, v.sha256, length(c.wasm), v.isolation,
        v.concurrency, v.batch_size,
        -- SQL can deploy anything: what it granted to nobody is nothing to show.
        array_remove(v.http, NULL), array_remove(v.secrets, NULL), v.deployed_at, v.deployed_by,
        ARRAY(SELECT n.host FROM newest n
            WHERE n.handler_id = h.id AND n.version = v.version AND n.error IS NULL ORDER BY n.session_id),
        ARRAY(SELECT n.host || ': ' || n.error FROM newest n
            WHERE n.handler_id = h.id AND n.version = v.version AND n.error IS NOT NULL
                AND v.version = h.version ORDER BY n.session_id)
    FROM host.queue q
    JOIN host.handler h ON h.queue_id = q.id
    JOIN host.handler_version v ON v.handler_id = h.id
    JOIN host.component c ON c.sha256 = v.sha256
    ORDER BY q.name, h.name, v.version DESC
$$;

CREATE FUNCTION host.held_locks() RETURNS TABLE(queue text, lock text, pid integer, prepared text, application text, role text, query text, age_ms bigint)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH held AS MATERIALIZED (
        SELECT DISTINCT split_part(c.relname, '__', 1) AS queue, 'leaf' AS lock, l.pid, l.virtualtransaction
        FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
        WHERE l.locktype = 'relation' AND l.granted AND c.relnamespace = 'host'::regnamespace AND c.relispartition
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        UNION ALL
        SELECT DISTINCT q.name, CASE l.classid WHEN 1752134402 THEN format('handler "%s"', h.name)
                WHEN 1752134403 THEN 'schedule' ELSE 'rotation' END, l.pid, l.virtualtransaction
        FROM pg_locks l
        LEFT JOIN host.handler h ON l.classid = 1752134402 AND h.id = l.objid::bigint
        JOIN host.queue q ON q.id = CASE WHEN l.classid = 1752134402 THEN h.queue_id ELSE l.objid::bigint END
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
            AND l.classid IN (1752134402, 1752134403, 1752134404, 1752134405)
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        UNION ALL
        SELECT q.name, 'dump', host.dump_at_work(ARRAY[to_regclass(format('host.%I', q.name || '__message_0'))]), NULL
        FROM host.queue q WHERE EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pg_dump')
    )
    SELECT DISTINCT ON (d.queue, d.lock, d.pid, p.gid) d.queue, d.lock, d.pid, p.gid, nullif(a.application_name, ''),
        coalesce(a.usename, p.owner)::text, left(a.query, 200),
        -- A lock of the session, not of a transaction, is none of a host's: it may be as old.
        (extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared, a.backend_start)) * 1000)::bigint
    FROM held d
    LEFT JOIN pg_stat_activity a ON a.pid = d.pid
    LEFT JOIN pg_locks own ON d.pid IS NULL AND own.pid IS NULL AND own.locktype = 'transactionid'
        AND own.virtualtransaction = d.virtualtransaction
    LEFT JOIN pg_prepared_xacts p ON p.transaction = own.transactionid
    WHERE (d.lock <> 'dump' OR d.pid IS NOT NULL) AND d.pid IS DISTINCT FROM pg_backend_pid();
END $$;

CREATE FUNCTION host.held_sessions() RETURNS TABLE(first bigint, sessions bigint, pid integer, prepared text, application text, role text, query text, age_ms bigint)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT min(l.objid::bigint), count(*), l.pid, NULL, nullif(min(a.application_name), ''), min(a.usename::text),
        left(min(a.query), 200),
        (extract(epoch FROM clock_timestamp() - min(coalesce(a.xact_start, a.backend_start))) * 1000)::bigint
    FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = 1752134401
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND NOT EXISTS (SELECT FROM host.session s WHERE s.id = l.objid::bigint)
    GROUP BY l.pid ORDER BY l.pid
$$;

CREATE FUNCTION host.held_tables() RETURNS TABLE(tables text[], pid integer, prepared text, application text, role text, query text, age_ms bigint)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT array_agg(DISTINCT l.relation::regclass::text), l.pid, p.gid, nullif(min(a.application_name), ''),
        coalesce(min(a.usename), min(p.owner))::text, left(min(a.query), 200),
        (extract(epoch FROM clock_timestamp() - min(coalesce(a.xact_start, p.prepared))) * 1000)::bigint
    FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
        AND c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('host', 'queue'))
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    LEFT JOIN pg_locks own ON l.pid IS NULL AND own.pid IS NULL AND own.locktype = 'transactionid'
        AND own.virtualtransaction = l.virtualtransaction
    LEFT JOIN pg_prepared_xacts p ON p.transaction = own.transactionid
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.pid IS DISTINCT FROM pg_backend_pid()
        AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    GROUP BY l.pid, p.gid ORDER BY l.pid
$$;

CREATE FUNCTION host.hiding_queues() RETURNS SETOF text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $_$
    SELECT split_part(c.relname, '__', 1) FROM pg_class c
    WHERE c.relnamespace IN ('host'::regnamespace, 'queue'::regnamespace) AND (c.relrowsecurity
        OR NOT c.relispartition AND c.relkind = 'r'
            AND c.relname ~ '__(message|lease|settlement|promotion|schedule|history)_[0-9]+$')
    UNION
    SELECT split_part(c.relname, '__', 1) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhdetachpending
    UNION
    SELECT q.name FROM host.partition_count x JOIN host.queue q ON q.id = x.queue_id WHERE x.missed > 0
$_$;

CREATE FUNCTION host.history_slot(at timestamp with time zone, keep_ms bigint) RETURNS smallint
    LANGUAGE sql IMMUTABLE
    RETURN ((((EXTRACT(epoch FROM at))::bigint / GREATEST((1)::bigint, (keep_ms / 6000))) % (12)::bigint))::smallint;

CREATE FUNCTION host.idle(p_queue text, p_cap integer, OUT idle boolean, OUT dead bigint, OUT last_minute bigint, OUT bytes bigint, OUT clock_ms bigint) RETURNS record
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $_$
DECLARE
    q host.queue;
    s record;
    leaf int;
    lanes int;
BEGIN
    idle := false;
    SELECT * INTO q FROM host.queue x WHERE x.name = p_queue;
    IF NOT FOUND OR host.is_limited(q) THEN
        RETURN;
    END IF;
    EXECUTE format(
        'SELECT m.last_value / 100000000000 AS message, m.is_called AS used, l.last_value / 100000000000 AS lease,
            p.last_value / 100000000000 AS promotion, s.is_called AS scheduled
        FROM queue.%I m, host.%I l, host.%I p, host.%I s',
        q.name || '_id_seq', q.name || '__lease_id_seq', q.name || '__promotion_id_seq', q.name || '__schedule_id_seq')
        INTO s;
    IF s.message <> s.lease OR s.message <> s.promotion THEN
        RETURN;
    END IF;
    leaf := s.message % 3;
    -- In the first generation, the other partitions have never been used.
    IF s.message > 0 AND EXISTS (
            SELECT FROM unnest(ARRAY['message', 'lease', 'settlement', 'promotion']) kind CROSS JOIN generate_series(0, 2) n
            WHERE n <> leaf AND pg_relation_size(format('host.%I', format('%s__%s_%s', q.name, kind, n))::regclass) > 0)
        OR s.scheduled AND EXISTS (
            SELECT FROM generate_series(0, 20) n
            WHERE pg_relation_size(format('host.%I', format('%s__schedule_%s', q.name, n))::regclass) > 0) THEN
        RETURN;
    END IF;
    last_minute := 0;
    IF s.used THEN
        lanes := host.lanes(q);
        EXECUTE format(
            'SELECT NOT EXISTS (
                    SELECT FROM host.handler h CROSS JOIN generate_series(0, %4$s - 1) n
                    LEFT JOIN LATERAL (SELECT l.* FROM host.%2$I l
                        WHERE l.handler_id = h.id AND l.lane = n AND l.is_cursor ORDER BY l.id DESC LIMIT 1) c ON true
                    WHERE h.queue_id = $1 AND (c.id IS NULL
                        -- Of a database that was restored.
                        OR txid_snapshot_xmax(c.hi) > txid_snapshot_xmax(txid_current_snapshot())
                        OR EXISTS (SELECT FROM host.%1$I m WHERE %5$s m.txid >= txid_snapshot_xmax(c.hi))
                        OR EXISTS (SELECT FROM host.%1$I m WHERE %5$s m.txid = ANY (ARRAY(SELECT txid_snapshot_xip(c.hi))))
                        OR c.more AND EXISTS (%6$s)))
                AND (EXISTS (SELECT FROM host.handler h WHERE h.queue_id = $1) OR NOT EXISTS (SELECT FROM host.%1$I))
                AND NOT EXISTS (
                    SELECT FROM host.%2$I l WHERE l.row_count > 0
                        AND (SELECT t.rest FROM host.%3$I t WHERE t.lease_id = l.id ORDER BY t.seq DESC LIMIT 1)
                            IS DISTINCT FROM 0),
                (SELECT coalesce(sum(host.positions(t.settled) - coalesce(t.parked, 0)), 0) FROM host.%3$I t
                    WHERE t.settled_at > clock_timestamp() - interval ''1 minute''
                        AND EXISTS (SELECT FROM host.%2$I l JOIN host.handler h ON h.id = l.handler_id WHERE l.id = t.lease_id))',
            q.name || '__message_' || leaf, q.name || '__lease_' || leaf, q.name || '__settlement_' || leaf, lanes,
            CASE WHEN lanes > 1 THEN 'm.lane = n AND' END,
            format(CASE WHEN q.ordered_lanes IS NULL THEN
                    'SELECT FROM host.parts_after(c.txids, c.to_txid, c.to_id) p JOIN host.%I m
                        ON %s (m.txid, m.id) > (p.a_txid, p.a_id) AND m.txid < p.b'
                ELSE 'SELECT FROM host.%I m WHERE %s m.id > c.to_id AND m.id <= c.last_id AND m.txid <@ c.txids' END,
                q.name || '__message_' || leaf, CASE WHEN lanes > 1 THEN 'm.lane = n AND' END))
            INTO idle, last_minute USING q.id;
        IF NOT idle THEN
            RETURN;
        END IF;
    END IF;
    idle := true;
    EXECUTE format(
        'SELECT min((extract(epoch FROM clock_timestamp() - x.due) * 1000)::bigint)
        FROM (SELECT p.passed_due || p.due AS dues FROM host.%I p ORDER BY p.id DESC LIMIT 1) p
        CROSS JOIN LATERAL unnest(p.dues) x (due) WHERE isfinite(x.due)', q.name || '__promotion_' || leaf)
        INTO clock_ms;
    last_minute := last_minute + coalesce((SELECT sum(p.messages) FROM host.pace p JOIN host.handler h ON h.id = p.handler_id
        WHERE p.queue_id = q.id AND p.settled_at > clock_timestamp() - interval '1 minute'), 0);
    dead := 0;
    IF pg_relation_size(format('host.%I', q.name || '__dead_letter')::regclass) > 0 THEN
        EXECUTE format('SELECT count(*) FROM (SELECT FROM host.%I LIMIT $1) d', q.name || '__dead_letter')
            INTO dead USING p_cap;
    END IF;
    bytes := (SELECT sum(host.table_bytes(format('host.%I', q.name || '__' || t)::regclass))
        FROM unnest(ARRAY['message_' || leaf, 'lease_' || leaf, 'settlement_' || leaf, 'promotion_' || leaf, 'dead_letter',
            'unique']) t);
    IF q.keep_ms IS NOT NULL THEN
        bytes := bytes + (SELECT sum(host.table_bytes(c.oid)) FROM pg_class c
            WHERE c.relnamespace = 'host'::regnamespace AND c.relkind = 'r'
                AND c.relname >= q.name || '__history_' AND c.relname < q.name || '__history`');
    END IF;
END $_$;

CREATE FUNCTION host.is_limited(q host.queue) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT q.fleet_concurrency IS NOT NULL OR q.rate_count IS NOT NULL
$$;

CREATE FUNCTION host.is_settled(p_queue integer, p_taken_at timestamp with time zone, p_settled_by integer[]) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RETURN p_settled_by <> '{}' AND NOT EXISTS (SELECT FROM host.handler h
        -- One of the future was there before the clock was set back.
        WHERE h.queue_id = p_queue AND (h.created_at <= p_taken_at OR h.created_at > clock_timestamp())
            AND h.id <> ALL (p_settled_by));
END $$;

CREATE FUNCTION host.is_whole(p_table regclass, p_partitions integer) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RETURN (SELECT count(*) = p_partitions FROM pg_inherits i WHERE i.inhparent = p_table AND NOT i.inhdetachpending);
END $$;

CREATE FUNCTION host.lanes(q host.queue) RETURNS integer
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT CASE WHEN q.priorities THEN 3 ELSE coalesce(q.ordered_lanes, q.keyed_lanes, 1) END
$$;

CREATE FUNCTION host.leaves_between(a bigint, b bigint) RETURNS smallint
    LANGUAGE sql IMMUTABLE
    RETURN (CASE ((b / '100000000000'::bigint) - (a / '100000000000'::bigint)) WHEN 0 THEN (1 << (((a / '100000000000'::bigint) % (3)::bigint))::integer) WHEN 1 THEN ((1 << (((a / '100000000000'::bigint) % (3)::bigint))::integer) | (1 << (((b / '100000000000'::bigint) % (3)::bigint))::integer)) ELSE 7 END)::smallint;

CREATE FUNCTION host.lock_table(OUT room bigint, OUT dump bigint) RETURNS record
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT current_setting('max_locks_per_transaction')::bigint
            * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint
                + current_setting('autovacuum_max_workers')::bigint + current_setting('max_worker_processes')::bigint
                + current_setting('max_wal_senders')::bigint + 1),
        (SELECT count(*) FROM pg_class c WHERE c.relkind IN ('r', 'p', 'S') AND c.relnamespace NOT IN (
            'pg_catalog'::regnamespace, 'pg_toast'::regnamespace, 'information_schema'::regnamespace))
$$;

CREATE FUNCTION host.may_pass(p_sqlstate text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT left(p_sqlstate, 2) IN ('08', '40', '53', '57', '58') OR p_sqlstate IN ('25006', '55P03')
$$;

CREATE FUNCTION host.migration_applied() RETURNS TABLE(version integer, name text, sha256 text)
    LANGUAGE sql STABLE
    SET search_path TO 'host', 'pg_catalog', 'pg_temp'
    AS $$
    SELECT m.version, m.name, m.sha256 FROM host.migration m ORDER BY m.version;
$$;

CREATE FUNCTION host.migration_begin(digest text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'host', 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    IF to_regclass('host.queue') IS NULL THEN
        RETURN;
    END IF;
    LOCK TABLE host.queue IN SHARE ROW EXCLUSIVE MODE;
    INSERT INTO host.migration_queue (queue_id, version, functions)
        SELECT q.id, (SELECT max(m.version) FROM host.migration m), '' FROM host.queue q
        ON CONFLICT (queue_id) DO NOTHING;
    IF NOT EXISTS (SELECT FROM host.migration_functions f WHERE f.sha256 = 'unfinished ' || digest) THEN
        UPDATE host.migration_queue SET functions = '';
    END IF;
END;
$$;

CREATE FUNCTION host.migration_finish() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'host', 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    UPDATE host.migration_functions SET sha256 = host.migration_target(), applied_at = now();
    IF to_regclass('host.catalog_change') IS NOT NULL THEN
        -- Whatever running hosts have made of a function that was away, they look again.
        INSERT INTO host.catalog_change DEFAULT VALUES;
    END IF;
END;
$$;

CREATE FUNCTION host.migration_functions_sha256() RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'host', 'pg_catalog', 'pg_temp'
    AS $$
    SELECT f.sha256 FROM host.migration_functions f;
$$;

CREATE FUNCTION host.migration_grant(OUT granted integer, OUT missing_roles text[]) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'host', 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    granted := 0;
    IF to_regproc('host.grant_privileges') IS NOT NULL THEN
        granted := host.grant_privileges();
    END IF;
    missing_roles := ARRAY(SELECT r FROM unnest(ARRAY['host_producer', 'host_operator', 'host_serve']) WITH ORDINALITY x (r, n)
        WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) ORDER BY n);
END;
$$;

CREATE FUNCTION host.migration_locks(queue text, OUT now bigint, OUT needed bigint) RETURNS record
    LANGUAGE sql STABLE
    SET search_path TO 'host', 'pg_catalog', 'pg_temp'
    AS $$
    SELECT s.now, greatest(s.now + 1, 1 + s.locks * 3 / 2 / s.transactions)
    FROM (SELECT current_setting('max_locks_per_transaction')::bigint AS now,
        current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint AS transactions,
        (SELECT count(*) FROM pg_locks) + (SELECT count(*) FROM pg_class c
            WHERE c.relnamespace::regnamespace::text IN ('host', 'queue')
                AND split_part(c.relname, '__', 1) = coalesce(migration_locks.queue, c.relname)) AS locks) s;
$$;

CREATE FUNCTION host.migration_queues() RETURNS SETOF text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'host', 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    IF to_regproc('host.upgrade_queue') IS NOT NULL THEN
        RETURN QUERY SELECT q.name FROM host.queue q JOIN host.migration_queue m ON m.queue_id = q.id
            WHERE m.functions <> host.migration_target() OR m.version < (SELECT max(x.version) FROM host.migration x)
            ORDER BY q.name;
    END IF;
END;
$$;

CREATE FUNCTION host.migration_record(version integer, name text, sha256 text) RETURNS void
    LANGUAGE sql
    SET search_path TO 'host', 'pg_catalog', 'pg_temp'
    AS $_$
    INSERT INTO host.migration (version, name, sha256) VALUES ($1, $2, $3);
$_$;

CREATE FUNCTION host.migration_record_functions(names text[], bodies text[], digest text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'host', 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    DELETE FROM host.template;
    INSERT INTO host.template (name, body)
        SELECT t.name, t.body FROM unnest(names, bodies) AS t (name, body);
    INSERT INTO host.migration_functions (sha256) VALUES ('unfinished ' || digest)
        ON CONFLICT (only_row) DO UPDATE SET sha256 = EXCLUDED.sha256, applied_at = now();
END;
$$;

CREATE FUNCTION host.migration_target() RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'host', 'pg_catalog', 'pg_temp'
    AS $$
    SELECT replace(f.sha256, 'unfinished ', '') FROM host.migration_functions f;
$$;

CREATE FUNCTION host.migration_waits_for(queue text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'host', 'pg_catalog', 'pg_temp'
    AS $$
    SELECT string_agg(h.line, '; ') FROM (
        SELECT concat_ws(' ', coalesce(format('process %s', l.pid), 'a prepared transaction'),
            '(' || coalesce(nullif(min(a.application_name), ''), min(a.usename)) || ')',
            'holds', (array_agg(DISTINCT l.mode))[1], 'on', min(format('%s.%s', c.relnamespace::regnamespace, c.relname)),
            'since ' || date_trunc('second', min(a.xact_start))) AS line
        FROM pg_locks l
        JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p', 'v')
        LEFT JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
            AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
            AND c.relnamespace::regnamespace::text IN ('host', 'queue')
            AND (c.oid = to_regclass('host.queue') AND l.mode <> 'AccessShareLock' OR CASE
                WHEN migration_waits_for.queue IS NULL THEN strpos(c.relname, '__') = 0
                ELSE split_part(c.relname, '__', 1) = migration_waits_for.queue END)
        GROUP BY l.pid ORDER BY min(a.xact_start) LIMIT 3) h;
$$;

CREATE FUNCTION host.missing_privileges(p_queue text DEFAULT NULL::text) RETURNS SETOF text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT format('GRANT %s%s ON %s %s TO %I', p.privilege, ' (' || array_to_string(p.columns, ', ') || ')',
        p.kind, p.object, p.role)
    FROM host.privileges(p_queue) p JOIN pg_roles r ON r.rolname = p.role
    WHERE NOT CASE p.kind
        WHEN 'SCHEMA' THEN has_schema_privilege(r.oid, p.object, p.privilege)
        WHEN 'SEQUENCE' THEN has_sequence_privilege(r.oid, p.object, p.privilege)
        WHEN 'FUNCTION' THEN has_function_privilege(r.oid, p.object::regproc, p.privilege)
        WHEN 'TABLE' THEN has_table_privilege(r.oid, p.object, p.privilege)
            OR (SELECT bool_and(has_column_privilege(r.oid, p.object, c, p.privilege)) FROM unnest(p.columns) c) IS TRUE
    END
    UNION ALL
    SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', f.oid::regprocedure, r.rolname)
    FROM pg_proc f CROSS JOIN pg_roles r
    WHERE f.pronamespace = 'host'::regnamespace AND NOT f.prosecdef AND f.prorettype <> 'trigger'::regtype
        AND (p_queue IS NULL OR split_part(f.proname, '__', 1) = p_queue)
        AND r.rolname IN ('host_operator', 'host_serve') AND NOT has_function_privilege(r.oid, f.oid, 'EXECUTE')
$$;

CREATE FUNCTION host.nobody_sleeps(p_after integer) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    ids int[] := ARRAY(SELECT id FROM host.queue WHERE id > p_after ORDER BY id LIMIT 100);
BEGIN
    IF EXISTS (SELECT FROM host.session WHERE ended_at IS NULL) THEN
        RETURN NULL;
    END IF;
    PERFORM setval(to_regclass(format('host.%I', q.name || '__asleep')), 0) FROM host.queue q WHERE q.id = ANY (ids);
    -- One that has begun meanwhile may have said that it sleeps: then producers rather notify too
    -- often.
    IF EXISTS (SELECT FROM host.session WHERE ended_at IS NULL) THEN
        PERFORM setval(to_regclass(format('host.%I', q.name || '__asleep')), 1) FROM host.queue q
            WHERE q.id = ANY (ids) AND q.wake_up;
        RETURN NULL;
    END IF;
    RETURN ids[cardinality(ids)];
END $$;

CREATE FUNCTION host.note_functions(p_queue integer) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    INSERT INTO host.queue_functions (queue_id, digests)
        SELECT p_queue, jsonb_object_agg(f.function, f.digest) FROM host.functions_now(p_queue) f
        ON CONFLICT (queue_id) DO UPDATE SET digests = EXCLUDED.digests
$$;

CREATE FUNCTION host.open_defaults() RETURNS SETOF text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT DISTINCT concat('ALTER DEFAULT PRIVILEGES FOR ROLE ', quote_ident(o.rolname), ' IN SCHEMA ' || quote_ident(n.nspname), ' REVOKE ALL ON ',
        CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'n' THEN 'SCHEMAS' ELSE 'FUNCTIONS' END,
        ' FROM ', coalesce(quote_ident(g.rolname), 'PUBLIC'))
    FROM pg_default_acl d JOIN pg_roles o ON o.oid = d.defaclrole
        LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
        CROSS JOIN aclexplode(d.defaclacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
    WHERE d.defaclrole = (SELECT nspowner FROM pg_namespace WHERE nspname = 'host')
        AND (d.defaclnamespace = 0 OR n.nspname IN ('host', 'queue'))
        AND CASE WHEN d.defaclobjtype = 'f' THEN a.grantee NOT IN (0, d.defaclrole)
            ELSE d.defaclobjtype IN ('r', 'S', 'n') AND a.grantee = 0 END
$$;

CREATE FUNCTION host.open_privileges(p_queue text DEFAULT NULL::text) RETURNS SETOF text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT format('REVOKE ALL ON %s %s FROM PUBLIC', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass)
    FROM pg_class c
    WHERE c.relnamespace IN ('host'::regnamespace, 'queue'::regnamespace) AND c.relkind IN ('r', 'p', 'v', 'S')
        AND (p_queue IS NULL OR c.relname IN (p_queue, p_queue || '_id_seq') OR starts_with(c.relname, p_queue || '__'))
        AND EXISTS (SELECT FROM aclexplode(c.relacl) a
            WHERE a.grantee = 0 AND (a.privilege_type <> 'INSERT' OR c.relnamespace = 'host'::regnamespace))
    UNION ALL
    SELECT format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', n.nspname)
    FROM pg_namespace n
    WHERE n.nspname IN ('host', 'queue') AND EXISTS (SELECT FROM aclexplode(n.nspacl) a
        WHERE a.grantee = 0 AND a.privilege_type = 'CREATE')
    UNION ALL
    SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f.oid::regprocedure)
    FROM pg_proc f
    WHERE f.pronamespace = 'host'::regnamespace AND f.prosecdef
        AND (p_queue IS NULL OR split_part(f.proname, '__', 1) = p_queue)
        AND EXISTS (SELECT FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a WHERE a.grantee = 0)
$$;

CREATE FUNCTION host.parts_after(p_window int8multirange, p_txid bigint, p_id bigint) RETURNS TABLE(a_txid bigint, a_id bigint, b bigint)
    LANGUAGE sql IMMUTABLE
    BEGIN ATOMIC
 SELECT GREATEST(lower(r.r), parts_after.p_txid) AS "greatest",
         CASE
             WHEN (lower(r.r) > parts_after.p_txid) THEN (0)::bigint
             ELSE parts_after.p_id
         END AS p_id,
     upper(r.r) AS upper
    FROM unnest(parts_after.p_window) r(r)
   WHERE (upper(r.r) > parts_after.p_txid);
END;

CREATE FUNCTION host.pause(p_queue text, p_paused boolean) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    UPDATE host.queue SET paused = p_paused WHERE name = p_queue AND paused <> p_paused;
    RETURN FOUND;
END $$;

CREATE FUNCTION host.pause_handler(p_handler integer, p_paused boolean) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    UPDATE host.handler SET paused = p_paused WHERE id = p_handler AND paused <> p_paused;
    RETURN FOUND;
END $$;

CREATE FUNCTION host.payload_cast(p_bytes text, p_payload_type text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT CASE p_payload_type
        WHEN 'bytea' THEN p_bytes
        ELSE format('convert_from(%s, ''UTF8'')::%s', p_bytes, p_payload_type)
    END
$$;

CREATE FUNCTION host.payload_check(q host.queue) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION host.positions(p int4multirange) RETURNS integer
    LANGUAGE plpgsql IMMUTABLE STRICT
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RETURN (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(p) r);
END $$;

CREATE FUNCTION host.privileges(p_queue text DEFAULT NULL::text) RETURNS TABLE(role text, kind text, object text, privilege text, columns text[])
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT p.role, p.kind, replace(p.object, '{q}', coalesce(q.name, '')), privilege, p.columns::text[]
    FROM (VALUES
        ('host_producer', 'SCHEMA', 'queue', 'USAGE', NULL),
        ('host_producer', 'TABLE', 'queue.{q}', 'INSERT', '{payload,headers,run_at,expires_at,priority,key,unique_key}'),
        ('host_producer', 'TABLE', 'queue.{q}', 'SELECT', '{id}'),
        -- Empty for everybody: what is inserted is read back, and nothing else.
        ('host_producer', 'TABLE', 'queue.{q}__orm', 'SELECT INSERT', NULL),
        -- lastval() and currval(). Its last value is the newest id, which every INSERT returns as
        -- well.
        ('host_producer', 'SEQUENCE', 'queue.{q}_id_seq', 'SELECT', NULL),

        ('host_operator', 'SCHEMA', 'queue', 'USAGE', NULL),
        ('host_operator', 'SCHEMA', 'host', 'USAGE', NULL),
        ('host_operator', 'TABLE', 'host.migration', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.migration_functions', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.cluster', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.partition_count', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.catalog', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.catalog_change', 'SELECT', NULL),
        -- Not the id: whoever takes the next ones holds up all other changes.
        ('host_operator', 'TABLE', 'host.catalog_change', 'INSERT', '{changed_at}'),
        ('host_operator', 'TABLE', 'host.queue', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.queue', 'UPDATE', '{paused}'),
        ('host_operator', 'TABLE', 'host.queue_functions', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.component', 'SELECT INSERT', NULL),
        ('host_operator', 'TABLE', 'host.handler', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.handler', 'UPDATE', '{version,paused}'),
        ('host_operator', 'TABLE', 'host.cancellation', 'SELECT INSERT DELETE', NULL),
        ('host_operator', 'TABLE', 'host.handler_version', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.loaded', 'SELECT DELETE', NULL),
        ('host_operator', 'TABLE', 'host.session', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.failing', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.heartbeat', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.pace', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.cron', 'SELECT INSERT UPDATE DELETE', NULL),
        -- Sets a value, and never sees one.
        ('host_operator', 'TABLE', 'host.secret', 'SELECT', '{name,set_at,set_by}'),
        ('host_operator', 'TABLE', 'host.secret', 'INSERT', '{name,value}'),
        ('host_operator', 'TABLE', 'host.secret', 'UPDATE', '{value,set_at,set_by}'),
        ('host_operator', 'TABLE', 'host.secret', 'DELETE', NULL),
        ('host_operator', 'FUNCTION', 'host.create_queue', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.set_unique', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.set_limits', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.drop_queue', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.set_keep', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.set_queue', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.set_wake_up', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.grant_producer', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.deploy', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.begin_from_now', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.idle', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.remove_handler', 'EXECUTE', NULL),
        -- Peeking is an operator's business.
        ('host_operator', 'TABLE', 'queue.{q}', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.{q}__message_0', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.{q}__message_1', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.{q}__message_2', 'SELECT', NULL),
        -- What retrying a dead letter inserts.
        ('host_operator', 'TABLE', 'queue.{q}', 'INSERT',
            '{payload,headers,run_at,expires_at,priority,key,unique_key,enqueued_at,origin,handler_id,attempt,history}'),
        ('host_operator', 'TABLE', 'host.{q}__dead_letter', 'SELECT DELETE', NULL),
        ('host_operator', 'TABLE', 'host.{q}__schedule', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.{q}__unique', 'SELECT', NULL),
        ('host_operator', 'FUNCTION', 'host.{q}__purge', 'EXECUTE', NULL),
        ('host_operator', 'TABLE', 'host.{q}__lease', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.{q}__settlement', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.{q}__promotion', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.{q}__history', 'SELECT', NULL),
        ('host_operator', 'SEQUENCE', 'queue.{q}_id_seq', 'SELECT', NULL),
        ('host_operator', 'SEQUENCE', 'host.{q}__lease_id_seq', 'SELECT', NULL),
        ('host_operator', 'SEQUENCE', 'host.{q}__promotion_id_seq', 'SELECT', NULL),

        ('host_serve', 'SCHEMA', 'queue', 'USAGE', NULL),
        ('host_serve', 'SCHEMA', 'host', 'USAGE', NULL),
        ('host_serve', 'TABLE', 'host.migration', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.migration_functions', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.cluster', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.catalog', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.catalog', 'UPDATE', '{version}'),
        ('host_serve', 'TABLE', 'host.catalog_change', 'SELECT DELETE', NULL),
        ('host_serve', 'TABLE', 'host.catalog_change', 'INSERT', '{changed_at}'),
        ('host_serve', 'TABLE', 'host.queue', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.component', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.handler', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.handler_version', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.cancellation', 'SELECT DELETE', NULL),
        ('host_serve', 'TABLE', 'host.loaded', 'SELECT INSERT', NULL),
        ('host_serve', 'TABLE', 'host.loaded', 'UPDATE', '{error,loaded_at}'),
        ('host_serve', 'TABLE', 'host.session', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.session', 'INSERT', '{host_name,pid,host_version}'),
        ('host_serve', 'TABLE', 'host.session', 'UPDATE', '{ended_at,lost}'),
        ('host_serve', 'TABLE', 'host.heartbeat', 'SELECT INSERT', NULL),
        ('host_serve', 'TABLE', 'host.pace', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.cron', 'SELECT UPDATE', NULL),
        ('host_serve', 'TABLE', 'host.failing', 'SELECT INSERT UPDATE DELETE', NULL),
        ('host_serve', 'TABLE', 'host.secret', 'SELECT', '{name,value}'),
        ('host_serve', 'FUNCTION', 'host.truncate_heartbeat', 'EXECUTE', NULL),
        ('host_serve', 'TABLE', 'queue.{q}', 'SELECT INSERT', NULL),
        ('host_serve', 'TABLE', 'host.{q}__lease', 'SELECT INSERT', NULL),
        ('host_serve', 'TABLE', 'host.{q}__settlement', 'SELECT INSERT', NULL),
        ('host_serve', 'TABLE', 'host.{q}__promotion', 'SELECT INSERT', NULL),
        ('host_serve', 'TABLE', 'host.{q}__schedule', 'SELECT INSERT', NULL),
        ('host_serve', 'TABLE', 'host.{q}__dead_letter', 'INSERT', NULL),
        ('host_serve', 'TABLE', 'host.{q}__history', 'INSERT', NULL),
        ('host_serve', 'TABLE', 'host.{q}__unique', 'SELECT DELETE', NULL),
        ('host_serve', 'TABLE', 'host.{q}__unique', 'UPDATE', '{settled_by}'),
        ('host_serve', 'SEQUENCE', 'queue.{q}_id_seq', 'SELECT', NULL),
        ('host_serve', 'SEQUENCE', 'host.{q}__lease_id_seq', 'SELECT', NULL),
        ('host_serve', 'SEQUENCE', 'host.{q}__promotion_id_seq', 'SELECT', NULL),
        ('host_serve', 'SEQUENCE', 'host.{q}__schedule_id_seq', 'SELECT', NULL),
        ('host_serve', 'SEQUENCE', 'host.{q}__asleep', 'UPDATE', NULL),
        ('host_serve', 'FUNCTION', 'host.{q}__missing', 'EXECUTE', NULL),
        ('host_serve', 'FUNCTION', 'host.{q}__truncate', 'EXECUTE', NULL),
        ('host_serve', 'FUNCTION', 'host.{q}__try_truncate', 'EXECUTE', NULL),
        ('host_serve', 'FUNCTION', 'host.{q}__advance', 'EXECUTE', NULL),
        ('host_serve', 'FUNCTION', 'host.{q}__truncate_schedule', 'EXECUTE', NULL),
        ('host_serve', 'FUNCTION', 'host.{q}__truncate_history', 'EXECUTE', NULL)
    ) p (role, kind, object, privileges, columns)
    CROSS JOIN string_to_table(p.privileges, ' ') privilege
    LEFT JOIN host.queue q ON strpos(p.object, '{q}') > 0
    WHERE CASE
        WHEN p_queue IS NOT NULL THEN q.name = p_queue
        ELSE q.name IS NOT NULL OR strpos(p.object, '{q}') = 0
    END
        -- Only queues that keep what is settled have one.
        AND (p.object <> 'host.{q}__history' OR to_regclass('host.' || q.name || '__history') IS NOT NULL)
$$;

CREATE FUNCTION host.put_comments(p_queue text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        WITH relation AS (
            SELECT c.oid, c.relkind, replace(t.comment, '{q}', coalesce(p_queue, '{q}')) AS comment, t.columns
            FROM host.comments() t
            JOIN pg_class c ON c.oid = to_regclass(replace(t.relation, '{q}', coalesce(p_queue, 'q')))
            WHERE (strpos(t.relation, '{q}') > 0) = (p_queue IS NOT NULL)
        )
        SELECT format('COMMENT ON %s %s IS %L', CASE r.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, r.oid::regclass, r.comment)
            FROM relation r WHERE obj_description(r.oid, 'pg_class') IS DISTINCT FROM r.comment
        UNION ALL
        SELECT format('COMMENT ON COLUMN %s.%I IS %L', r.oid::regclass, a.attname, r.columns ->> a.attname)
            FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE r.columns ? a.attname AND col_description(r.oid, a.attnum) IS DISTINCT FROM r.columns ->> a.attname
        UNION ALL
        SELECT format('COMMENT ON TABLE %s IS %L', i.inhrelid::regclass, format('A partition of %s.', r.oid::regclass))
            FROM relation r JOIN pg_inherits i ON i.inhparent = r.oid
            WHERE obj_description(i.inhrelid, 'pg_class') IS DISTINCT FROM format('A partition of %s.', r.oid::regclass)
    LOOP
        EXECUTE statement;
    END LOOP;
END $$;

CREATE FUNCTION host.put_trigger(p_table regclass, p_name text, p_definition text, p_enabled text DEFAULT 'O'::text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    t record;
BEGIN
    SELECT pg_get_triggerdef(x.oid) AS definition, x.tgenabled INTO t
        FROM pg_trigger x WHERE x.tgrelid = p_table AND x.tgname = p_name AND NOT x.tgisinternal;
    -- Postgres quotes a queue's name that is a word of SQL; no name has quotes in it.
    IF replace(t.definition, '"', '') IS DISTINCT FROM format('CREATE TRIGGER %s %s', p_name, p_definition) THEN
        EXECUTE format('CREATE OR REPLACE TRIGGER %s %s', p_name, p_definition);
        t.tgenabled := 'O';
    END IF;
    IF t.tgenabled::text <> p_enabled THEN
        EXECUTE format('ALTER TABLE %s %s TRIGGER %s', p_table,
            CASE p_enabled WHEN 'O' THEN 'ENABLE' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'DISABLE' END, p_name);
    END IF;
END $$;

CREATE FUNCTION host.queue_holds(p_queue text) RETURNS TABLE(leaf integer, why text)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
END $_$;

CREATE FUNCTION host.queue_status(p_queue text, p_cap integer DEFAULT 1000000, OUT waiting bigint, OUT in_flight bigint, OUT scheduled bigint, OUT dead bigint, OUT last_minute bigint, OUT bytes bigint, OUT lag jsonb) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
END $_$;

CREATE FUNCTION host.read_secrets(p_names text[]) RETURNS TABLE(name text, value text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT s.name, s.value FROM host.secret s WHERE s.name = ANY (p_names)
$$;

CREATE FUNCTION host.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RAISE EXCEPTION '% on a queue: messages are only ever inserted', TG_OP
        USING HINT = 'to be rid of a queue with its messages: host queue drop --force';
END $$;

CREATE FUNCTION host.refuse_copied_row(p_id bigint, p_txid bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    IF p_id > 0 AND host.restored() THEN
        RETURN true;
    END IF;
    RAISE EXCEPTION 'a message came with id % and txid %, which are for the database to set: no handler would run it', p_id, p_txid
        USING ERRCODE = 'check_violation',
            HINT = 'copy only the columns payload, headers, run_at, expires_at, priority, key and unique_key';
END $$;

CREATE FUNCTION host.refuse_held_session(p_session integer) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    holder text := (SELECT format('process %s of role %s', l.pid, coalesce(a.usename, '?'))
            || coalesce(format(' (%s)', nullif(a.application_name, '')), '')
        FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
        WHERE l.locktype = 'advisory' AND l.classid = 1752134401 AND l.objid = p_session::oid AND l.objsubid = 2
            AND l.granted AND l.pid <> pg_backend_pid()
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        LIMIT 1);
BEGIN
    RAISE EXCEPTION 'the advisory lock of session % is held by %', p_session, coalesce(holder, 'somebody who has just let it go')
        USING ERRCODE = 'lock_not_available';
END $$;

CREATE FUNCTION host.rejoin_session(p_session integer) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '1s'
    AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM host.session WHERE id = p_session AND ended_at IS NULL) THEN
        RAISE EXCEPTION 'session % has ended', p_session USING ERRCODE = 'HQ001';
    END IF;
    PERFORM host.terminate(l.pid) FROM pg_locks l
        WHERE l.locktype = 'advisory' AND l.classid = 1752134401 AND l.objid = p_session::oid AND l.objsubid = 2
            AND l.granted AND l.pid <> pg_backend_pid()
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database());
    BEGIN
        PERFORM pg_advisory_lock(1752134401, p_session);
    EXCEPTION WHEN lock_not_available THEN
        PERFORM host.refuse_held_session(p_session);
    END;
END $$;

CREATE FUNCTION host.release_all_keys(p_queue text, p_handler integer) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
BEGIN
    EXECUTE format('SELECT host.%I($1, ARRAY(SELECT message_id FROM host.%I))', p_queue || '__release_keys', p_queue || '__unique')
        USING p_handler;
END $_$;

CREATE FUNCTION host.remove_handler(p_handler integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '10s'
    AS $$
BEGIN
    PERFORM host.require_read_committed('removing a handler');
    PERFORM pg_advisory_xact_lock(1752134404, queue_id) FROM host.handler WHERE id = p_handler;
    PERFORM host.release_all_keys(q.name, h.id)
        FROM host.handler h JOIN host.queue q ON q.id = h.queue_id WHERE h.id = p_handler;
    DELETE FROM host.handler WHERE id = p_handler;
END $$;

CREATE FUNCTION host.remove_secret(p_name text, p_force boolean DEFAULT false) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    granted text[] := (SELECT s.granted_to FROM host.secrets() s WHERE s.name = p_name);
BEGIN
    IF cardinality(granted) > 0 AND NOT p_force THEN
        RAISE EXCEPTION 'secret "%" is granted to %', p_name, array_to_string(granted, ', ')
            USING ERRCODE = 'HQ005', HINT = format('to remove it all the same: host secret remove %s --force', p_name);
    END IF;
    DELETE FROM host.secret WHERE name = p_name;
    RETURN FOUND;
END $$;

CREATE FUNCTION host.render(template text, q host.queue) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION host.report_failing(p_session integer, p_rows jsonb) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    DELETE FROM host.failing f WHERE f.reported_at < now() - interval '1 day';
    INSERT INTO host.failing (session_id, handler_id, version, calls, failed, dead, error)
        SELECT p_session, r.handler_id, r.version, r.calls, r.failed, r.dead, r.error
        FROM jsonb_to_recordset(p_rows) r (handler_id int, version int, calls bigint, failed bigint, dead bigint, error text)
        ORDER BY r.handler_id
        ON CONFLICT (session_id, handler_id) DO UPDATE SET version = EXCLUDED.version, calls = EXCLUDED.calls,
            failed = EXCLUDED.failed, dead = EXCLUDED.dead, error = EXCLUDED.error, reported_at = now()
$$;

CREATE FUNCTION host.report_loaded(p_session integer, p_handlers integer[], p_versions integer[], p_errors text[]) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    INSERT INTO host.loaded (session_id, handler_id, version, error)
        SELECT s.id, v.handler_id, v.version, said.error
        FROM unnest(p_handlers, p_versions, p_errors) said (handler, version, error)
            JOIN host.handler_version v ON v.handler_id = said.handler AND v.version = said.version
            JOIN host.session s ON s.id = p_session
        ON CONFLICT (session_id, handler_id, version)
            DO UPDATE SET error = EXCLUDED.error, loaded_at = EXCLUDED.loaded_at
$$;

CREATE FUNCTION host.reports(p_handler integer, p_version integer) RETURNS TABLE(session_id integer, host_name text, pid integer, connected boolean, reported boolean, error text)
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT s.id, s.host_name, s.pid, s.connected, l.loaded_at IS NOT NULL, l.error
    FROM host.sessions() s
    LEFT JOIN host.loaded l ON l.session_id = s.id AND l.handler_id = p_handler AND l.version = p_version
    ORDER BY s.id
$$;

CREATE FUNCTION host.require_kept(p_rows bigint, p_messages bigint, p_table text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    IF p_rows <> p_messages THEN
        RAISE EXCEPTION '% of % messages were not written to %: something leaves them out', p_messages - p_rows, p_messages, p_table
            USING ERRCODE = 'HQ012', HINT = format('drop the trigger or rule on %s; until then the messages wait', p_table);
    END IF;
END $$;

CREATE FUNCTION host.require_read_committed(p_what text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION '% needs a READ COMMITTED transaction; this one is %', p_what, upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'invalid_transaction_state',
                HINT = 'begin it with BEGIN ISOLATION LEVEL READ COMMITTED, or SET default_transaction_isolation = ''read committed''';
    END IF;
END $$;

CREATE FUNCTION host.restored() RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT NOT EXISTS (SELECT FROM host.cluster c JOIN pg_control_system() USING (system_identifier))
$$;

CREATE FUNCTION host.retry_delay(q host.queue, p_attempt integer) RETURNS interval
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT interval '1 ms' * coalesce(q.delays_ms[least(p_attempt, cardinality(q.delays_ms))],
        least(q.backoff_cap_ms, q.backoff_base_ms * 2.0 ^ least(p_attempt - 1, 40)) * (0.5 + 0.5 * random()))
$$;

CREATE FUNCTION host.rfc3339(t timestamp with time zone) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT to_char(t AT TIME ZONE 'UTC', CASE WHEN t = date_trunc('second', t, 'UTC')
        THEN 'YYYY-MM-DD"T"HH24:MI:SS"Z"' ELSE 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"' END)
$$;

CREATE FUNCTION host.roll_back(p_handler integer, p_version integer) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM host.handler_version v WHERE v.handler_id = p_handler AND v.version = p_version) THEN
        RAISE EXCEPTION 'handler % has no version %', p_handler, p_version USING ERRCODE = 'HQ004';
    END IF;
    DELETE FROM host.loaded l WHERE l.handler_id = p_handler AND l.version = p_version;
    UPDATE host.handler SET version = p_version WHERE id = p_handler;
END $$;

CREATE FUNCTION host.run_templates(q host.queue, p_templates text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    t text;
BEGIN
    FOR t IN SELECT x.t FROM unnest(p_templates) x (t) ORDER BY x.t COLLATE "C" LOOP
        EXECUTE host.render(t, q);
    END LOOP;
END $$;

CREATE FUNCTION host.sample__advance() RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET lock_timeout TO '1s'
    AS $$
DECLARE
    g bigint;
    q record;
    since timestamptz;
    h record;
BEGIN
    PERFORM host.require_read_committed('rotating a queue');
    SELECT rotate_bytes, rotate_age_ms INTO STRICT q FROM host.queue WHERE id = 1;
    SELECT greatest(a.last_value, b.last_value, c.last_value) / 100000000000 INTO g
        FROM queue.sample_id_seq a, host.sample__lease_id_seq b, host.sample__promotion_id_seq c;
    IF host.sample__leaf_bytes((g % 3)::int) < q.rotate_bytes THEN
        RETURN 'the present leaf is not full';
    END IF;
    SELECT leased_at INTO since FROM host.sample__lease
        WHERE id >= g * 100000000000 ORDER BY id LIMIT 1;
    -- In the future: the clock was set back.
    IF since <= clock_timestamp() AND since > clock_timestamp() - q.rotate_age_ms * interval '1 ms'
            * (1 + pg_stat_get_dead_tuples('pg_class'::regclass) / 1000.0) THEN
        RETURN 'the present leaf is not old enough';
    END IF;
    IF host.sample__leaf_bytes(((g + 1) % 3)::int) > 0 THEN
        RETURN format('leaf %s, which would be next, is not empty', (g + 1) % 3);
    END IF;
    IF NOT pg_try_advisory_xact_lock(1752134404, 1) THEN
        RETURN 'another host is rotating';
    END IF;
    PERFORM pg_advisory_xact_lock(1752134403, 1);
    PERFORM pg_advisory_xact_lock(1752134402, id) FROM (SELECT id FROM host.handler WHERE queue_id = 1 ORDER BY id) x;
    IF (SELECT last_value / 100000000000 FROM queue.sample_id_seq) > g THEN
        RETURN 'another host has just rotated';
    END IF;
    g := g + 1;
    -- Again, where no lease can begin: the accounts of this leaf begin at 0.
    IF host.sample__leaf_bytes((g % 3)::int) > 0 THEN
        RETURN format('leaf %s, which would be next, is not empty', g % 3);
    END IF;
    -- In this order, and for good, even if this is cut off: what leases messages of a generation is
    -- of that generation then, so that its account says by itself which generation it is of (see
    -- begun_account).
    PERFORM setval('host.sample__lease_id_seq', g * 100000000000 + 1, false);
    PERFORM setval('host.sample__promotion_id_seq', g * 100000000000 + 1, false);
    PERFORM setval('queue.sample_id_seq', g * 100000000000 + 1, false);
    INSERT INTO host.sample__promotion (due, schedule_id, hi, late_txids, late_txid, late_id, passed_due, passed_id, passed_hi,
            promoted)
        SELECT due, schedule_id, hi, late_txids, late_txid, late_id, passed_due, passed_id, passed_hi, promoted
        FROM host.sample__promotion ORDER BY id DESC LIMIT 1;
    FOR h IN SELECT id FROM host.handler WHERE queue_id = 1 ORDER BY id LOOP
        INSERT INTO host.sample__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
                row_count, leaves, is_cursor, more, token, hi, txids, lane, last_id, tat, held, leased)
            SELECT host.cursor_seq(h.id, c.lane), c.from_txid, c.from_id, c.to_txid, c.to_id, h.id, 0, 0, 0, true, c.more,
                gen_random_uuid(), c.hi, c.txids, c.lane, c.last_id, a.tat, a.held,
                host.begun_account((SELECT coalesce(l.leased, ARRAY[NULL, NULL, NULL]::bigint[]) FROM host.sample__lease l WHERE l.id = c.id),
                    c.id / 100000000000, g)
            FROM host.sample__cursors(h.id) c CROSS JOIN LATERAL host.sample__allowance(h.id, c.lane) a;
    END LOOP;
    RETURN NULL;
END $$;

CREATE FUNCTION host.sample__ahead(p_handler integer) RETURNS TABLE(lane smallint, a_txid bigint, a_id bigint, b bigint, after_id bigint)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    AS $$
    SELECT c.lane, p.* FROM (
        SELECT x.lane, x.hi, x.to_txid, x.to_id, CASE WHEN x.more THEN x.txids ELSE '{}' END AS txids
            FROM host.sample__cursors(p_handler) x
        UNION ALL
        SELECT n::smallint, '1:1:', 0, 0, '{}' FROM generate_series(0, 1 - 1) n WHERE p_handler IS NULL
    ) c
    CROSS JOIN LATERAL (
        SELECT x.*, 0 FROM host.parts_after(c.txids, c.to_txid, c.to_id) x
        UNION ALL
        SELECT x.*, 0 FROM host.parts_after(host.txid_window(c.hi, txid_current_snapshot()), 0, 0) x
    ) p
$$;

CREATE FUNCTION host.sample__allowance(p_handler integer, p_lane integer DEFAULT 0, OUT messages integer, OUT wait_ms bigint, OUT full_up boolean, OUT why text, OUT tat timestamp with time zone, OUT held bigint[], OUT step double precision) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
DECLARE
    q record;
    c record;
    in_flight bigint;
    -- Until the bucket is full again, in microseconds.
    ahead float8;
BEGIN
    IF NOT false THEN
        RETURN;
    END IF;
    SELECT x.* INTO STRICT q FROM host.queue x WHERE x.id = 1;
    SELECT l.id, l.row_count, l.tat, l.held INTO c FROM host.sample__lease l
        WHERE l.handler_id = p_handler AND l.is_cursor
        ORDER BY l.id DESC LIMIT 1;
    messages := 2147483647;
    full_up := false;

    IF q.fleet_concurrency IS NOT NULL THEN
        -- As noted, and the newest itself; or, where the limit is new, all there are.
        held := CASE WHEN c.held IS NOT NULL THEN c.held || c.id ELSE ARRAY(SELECT l.id FROM host.sample__lease l
            WHERE l.handler_id = p_handler AND l.row_count > 0
                -- A probe for each: see strays.
                AND (SELECT t.rest FROM host.sample__settlement t
                    WHERE t.lease_id = l.id AND t.lease_id / 100000000000 % 3 = l.id / 100000000000 % 3
                    ORDER BY t.seq DESC LIMIT 1) IS DISTINCT FROM 0) END;
        -- What was taken over goes on as its heirs: the lease of who took it, and what that one
        -- left. LIMIT 1, of what is one: so that each is probed for. A join would read the whole
        -- log.
        WITH RECURSIVE chain AS (
            SELECT unnest(held) AS id
            UNION
            SELECT h.id FROM chain
                CROSS JOIN LATERAL (SELECT s.heir_session, s.heir_seq FROM host.sample__settlement s
                    WHERE s.lease_id = chain.id AND s.revoked LIMIT 1) s
                CROSS JOIN LATERAL (SELECT l.id, l.session_id FROM host.sample__lease l WHERE l.id = chain.id LIMIT 1) l
                CROSS JOIN LATERAL (
                    SELECT x.id FROM host.sample__lease x WHERE x.session_id = s.heir_session AND x.seq = s.heir_seq
                    UNION ALL
                    SELECT x.id FROM host.sample__lease x WHERE x.session_id = l.session_id AND x.seq = -l.id
                ) h
        )
        SELECT coalesce(array_agg(chain.id), '{}'), coalesce(sum(r.rest), 0) INTO held, in_flight
            FROM chain CROSS JOIN LATERAL (
                SELECT coalesce(
                    (SELECT t.rest FROM host.sample__settlement t
                        WHERE t.lease_id = l.id AND t.lease_id / 100000000000 % 3 = l.id / 100000000000 % 3
                        ORDER BY t.seq DESC LIMIT 1),
                    host.positions(l.positions), l.row_count) AS rest
                FROM host.sample__lease l WHERE l.id = chain.id LIMIT 1) r
            WHERE r.rest > 0;
        messages := greatest(0, q.fleet_concurrency - in_flight);
        IF messages = 0 THEN
            full_up := true;
            wait_ms := 50;
            why := format('%s of %s in flight', in_flight, q.fleet_concurrency);
        END IF;
    END IF;

    IF q.rate_count IS NOT NULL THEN
        step := 1000.0 * q.rate_ms / q.rate_count;
        tat := coalesce(c.tat, clock_timestamp());
        -- Further ahead than a whole bucket: the clock has gone back, or the rate has changed. One
        -- may start, and sets it right.
        IF tat > clock_timestamp() + (q.rate_burst * step + 1000) * interval '1 microsecond' THEN
            tat := clock_timestamp() + (q.rate_burst - 1) * step * interval '1 microsecond';
        END IF;
        ahead := greatest(0, 1000000 * extract(epoch FROM tat - clock_timestamp())::float8);
        messages := least(messages, greatest(0, q.rate_burst - ceil(ahead / step)));
        IF messages = 0 AND NOT full_up THEN
            -- For what comes in 20 ms at once: a look costs the same for one as for many. But half
            -- a bucket is left to who comes late.
            wait_ms := ceil((ahead - (q.rate_burst - greatest(1, least(q.rate_burst / 2, floor(20000 / step)))) * step) / 1000);
            why := format('%s every %s, the next in %s ms', q.rate_count, q.rate_ms * interval '1 ms', wait_ms);
        END IF;
    END IF;
END $$;

CREATE FUNCTION host.sample__archive(p_lease bigint, p_settled int4multirange, p_settled_at timestamp with time zone, p_later integer[], p_removed int4multirange, p_result_pos integer[], p_results bytea[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
BEGIN
    INSERT INTO host.sample__history (message_id, lease_id, enqueued_at, leased_at, settled_at, handler_id, session_id, slot,
            attempt, removed, handler, headers, history, result, payload)
        SELECT m.id, l.id, m.enqueued_at, l.leased_at, p_settled_at, l.handler_id, l.session_id,
            host.history_slot(p_settled_at, q.keep_ms), m.attempt, coalesce(p_removed @> m.pos, false),
            coalesce(h.name, ''), m.headers, m.history, r.result, m.payload
        FROM host.sample__lease l
        JOIN host.queue q ON q.id = 1 AND q.keep_ms IS NOT NULL
        LEFT JOIN host.handler h ON h.id = l.handler_id
        CROSS JOIN LATERAL host.sample__read(l.session_id, l.seq) m
        LEFT JOIN unnest(p_result_pos, p_results) r (pos, result) ON r.pos = m.pos
        -- Another handler's retry only lay beside them.
        WHERE l.id = p_lease AND coalesce(m.handler_id, l.handler_id) = l.handler_id
            AND p_settled - coalesce((SELECT range_agg(int4range(pos, pos + 1)) FROM unnest(p_later) pos), '{}') @> m.pos
        ORDER BY m.pos;
END $$;

CREATE FUNCTION host.sample__backlog(p_handler integer, p_cap integer, OUT waiting bigint, OUT later bigint, OUT in_flight bigint, OUT last_minute bigint) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
DECLARE
    part record;
    seen record;
    at timestamptz := clock_timestamp();
BEGIN
    waiting := 0;
    later := 0;
    FOR part IN SELECT * FROM host.sample__ahead(p_handler) LOOP
        SELECT count(*) AS n, count(*) FILTER (WHERE m.run_at > at) AS later INTO seen FROM (SELECT m.run_at FROM queue.sample m
            WHERE (m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
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
                (SELECT t.rest FROM host.sample__settlement t
                    WHERE t.lease_id = l.id AND t.lease_id / 100000000000 % 3 = l.id / 100000000000 % 3
                    ORDER BY t.seq DESC LIMIT 1),
                host.positions(l.positions), l.row_count) AS rest
            FROM host.sample__lease l
            WHERE l.handler_id = p_handler AND l.row_count > 0
        ) o;
    -- What was put on the schedule is not done.
    SELECT coalesce(sum(host.positions(s.settled) - coalesce(s.parked, 0)), 0) INTO last_minute
        FROM host.sample__settlement s
        WHERE s.settled_at > at - interval '1 minute'
            AND (SELECT l.handler_id FROM host.sample__lease l
                WHERE l.id = s.lease_id AND l.id / 100000000000 % 3 = s.lease_id / 100000000000 % 3) = p_handler;
    SELECT last_minute + coalesce(sum(p.messages), 0) INTO last_minute FROM host.pace p
        WHERE p.queue_id = 1 AND p.handler_id = p_handler AND p.settled_at > at - interval '1 minute';
END $$;

CREATE FUNCTION host.sample__beyond_cursor(p_leaf integer, p_handler integer) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET enable_sort TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $_$
DECLARE
    found_one boolean;
BEGIN
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM host.sample__cursors($1) c WHERE
            EXISTS (SELECT FROM host.sample__message_%1$s m
                WHERE m.txid >= txid_snapshot_xmax(c.hi))
            OR EXISTS (SELECT FROM host.sample__message_%1$s m
                WHERE m.txid = ANY (ARRAY(SELECT txid_snapshot_xip(c.hi))))
            OR c.more AND EXISTS (SELECT FROM host.parts_after(c.txids, c.to_txid, c.to_id) p
                CROSS JOIN LATERAL (SELECT FROM host.sample__message_%1$s m
                    WHERE (m.txid, m.id) > (p.a_txid, p.a_id) AND m.txid < p.b LIMIT 1) x))',
        p_leaf) INTO found_one USING p_handler;
    RETURN found_one;
END $_$;

CREATE FUNCTION host.sample__bury_poison(p_session integer, p_seq bigint, p_positions int4multirange, p_deaths integer) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
DECLARE
    handler int := (SELECT l.handler_id FROM host.sample__lease l WHERE l.session_id = p_session AND l.seq = p_seq);
    why text := format('%s hosts died with it in flight', p_deaths);
    mine bigint[];
    there bigint;
    kept bigint;
BEGIN
    SELECT count(*), array_agg(m.id) FILTER (WHERE coalesce(m.handler_id, handler) = handler) INTO there, mine
        FROM host.sample__read(p_session, p_seq) m WHERE p_positions @> m.pos;
    PERFORM host.require_kept(there, host.positions(p_positions), 'host.sample__dead_letter');
    INSERT INTO host.sample__dead_letter (message_id, enqueued_at, handler_id, attempt, reason, error, headers, history, payload, priority, key)
        SELECT m.id, m.enqueued_at, handler, m.attempt, 'poison', why, m.headers,
            coalesce(m.history, '[]') || jsonb_build_object('attempt', m.attempt, 'at', clock_timestamp(), 'error', why),
            m.payload, m.priority, m.key
        FROM host.sample__read(p_session, p_seq) m
        WHERE p_positions @> m.pos AND coalesce(m.handler_id, handler) = handler;
    GET DIAGNOSTICS kept = ROW_COUNT;
    PERFORM host.require_kept(kept, coalesce(cardinality(mine), 0), 'host.sample__dead_letter');
    IF false THEN
        PERFORM host.sample__release_keys(handler, coalesce(mine, '{}'));
    END IF;
END $$;

CREATE FUNCTION host.sample__cancel(p_message bigint) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
DECLARE
    n bigint;
BEGIN
    INSERT INTO host.cancellation (queue_id, handler_id, message_id)
        SELECT 1, w.handler_id, p_message FROM host.sample__whereabouts(p_message) w
        WHERE w.state IN ('in flight', 'waiting', 'scheduled')
        ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS n = ROW_COUNT;
    IF n > 0 THEN
        IF (SELECT count(*) FROM host.cancellation WHERE queue_id = 1) > 10000 THEN
            RAISE EXCEPTION '10000 cancelled messages of queue "sample" have not been met by their handlers yet'
                USING HINT = 'wait until they have, or purge the queue', ERRCODE = 'HQ006';
        END IF;
        INSERT INTO host.catalog_change DEFAULT VALUES;
    END IF;
    RETURN n;
END $$;

CREATE FUNCTION host.sample__count(p_kind text, p_leaf integer, OUT why text, OUT again boolean) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET enable_seqscan TO 'on'
    SET enable_tidscan TO 'on'
    SET jit TO 'off'
    AS $_$
DECLARE
    c record;
    until timestamptz := clock_timestamp() + interval '500 ms';
    partition text := format('host.sample__%s_%s', p_kind, p_leaf);
    now_blocks bigint := pg_relation_size(partition::regclass) / current_setting('block_size')::bigint;
    n bigint;
BEGIN
    again := false;
    SELECT x.hi, x.blocks, x.messages, x.missed INTO c FROM host.partition_count x
        WHERE x.queue_id = 1 AND x.kind = p_kind AND x.leaf = p_leaf;
    IF c.blocks = now_blocks AND NOT host.sample__has_later(p_kind, p_leaf, c.hi) THEN
        RETURN;
    END IF;
    IF NOT pg_try_advisory_xact_lock(1752134405, 1) THEN
        why := 'another host counts its messages';
        RETURN;
    END IF;
    IF c.blocks IS NULL OR c.blocks > now_blocks OR host.sample__has_later(p_kind, p_leaf, c.hi) THEN
        SELECT txid_current_snapshot() AS hi, 0::bigint AS blocks, 0::bigint AS messages, NULL::bigint AS missed INTO c;
    END IF;
    WHILE c.blocks < now_blocks AND clock_timestamp() < until LOOP
        EXECUTE format('SELECT count(*) FROM %s WHERE ctid >= $1 AND ctid < $2', partition)
            INTO n USING format('(%s,0)', c.blocks)::tid, format('(%s,0)', least(c.blocks + 4096, now_blocks))::tid;
        c.messages := c.messages + n;
        c.blocks := least(c.blocks + 4096, now_blocks);
    END LOOP;
    INSERT INTO host.partition_count (queue_id, kind, leaf, hi, blocks, messages, missed)
        VALUES (1, p_kind, p_leaf, c.hi, c.blocks, c.messages, c.missed)
        ON CONFLICT (queue_id, kind, leaf) DO UPDATE
            SET hi = EXCLUDED.hi, blocks = EXCLUDED.blocks, messages = EXCLUDED.messages, missed = EXCLUDED.missed;
    IF c.blocks < now_blocks THEN
        why := format('its messages are being counted, %s of %s blocks so far', c.blocks, now_blocks);
        again := true;
    END IF;
END $_$;

CREATE FUNCTION host.sample__cursors(p_handler integer) RETURNS TABLE(lane smallint, id bigint, from_txid bigint, from_id bigint, to_txid bigint, to_id bigint, more boolean, hi txid_snapshot, txids int8multirange, last_id bigint, held bigint[])
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
    SELECT c.lane, c.id, c.from_txid, c.from_id, c.to_txid, c.to_id, c.more, c.hi, c.txids, c.last_id, c.held
    FROM generate_series(0, 1 - 1) n
    CROSS JOIN LATERAL (
        SELECT l.* FROM host.sample__lease l
        WHERE l.handler_id = p_handler AND l.is_cursor ORDER BY l.id DESC LIMIT 1
    ) c
$$;

CREATE FUNCTION host.sample__dead_ids(p_ids bigint[], p_where jsonpath) RETURNS SETOF bigint
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
    SELECT d.id FROM host.sample__dead_list(NULL, p_ids, p_where) d
$$;

CREATE FUNCTION host.sample__dead_list(p_limit bigint, p_ids bigint[], p_where jsonpath) RETURNS TABLE(id bigint, message_id bigint, handler text, reason text, error text, attempt smallint, died_at timestamp with time zone, enqueued_at timestamp with time zone)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET plan_cache_mode TO 'force_custom_plan'
    SET jit TO 'off'
    SET enable_sort TO 'off'
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT d.id, d.message_id, h.name, d.reason, d.error, d.attempt, d.died_at, d.enqueued_at
    FROM host.sample__dead_letter d LEFT JOIN host.handler h ON h.id = d.handler_id
    WHERE (p_ids IS NULL OR d.id = ANY (p_ids)) AND (p_where IS NULL OR jsonb_path_match(
        jsonb_build_object('id', d.id, 'message', d.message_id, 'handler', h.name, 'reason', d.reason, 'error', d.error,
            'attempt', d.attempt, 'died_at', extract(epoch FROM d.died_at), 'enqueued_at', extract(epoch FROM d.enqueued_at)),
        p_where, jsonb_build_object('now', extract(epoch FROM now()))))
    ORDER BY d.id DESC LIMIT p_limit;
END $$;

CREATE FUNCTION host.sample__dead_move(p_ids bigint[], p_where jsonpath, p_to text) RETURNS SETOF bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $_$
DECLARE
    kind text;
    ids bigint[];
    kept bigint;
BEGIN
    SELECT payload_type INTO kind FROM host.queue WHERE name = p_to;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue "%"', p_to USING ERRCODE = 'HQ004';
    END IF;
    EXECUTE format(
        'WITH gone AS (
             DELETE FROM host.sample__dead_letter d WHERE d.id IN (SELECT host.sample__dead_ids($1, $2)) RETURNING d.*
         ), again AS (
             INSERT INTO queue.%I (headers, history, payload) SELECT g.headers, g.history, %s FROM gone g ORDER BY g.id
             RETURNING id
         )
         SELECT array_agg(g.id), (SELECT count(*) FROM again) FROM gone g',
        p_to, host.payload_cast(
            CASE 'jsonb' WHEN 'bytea' THEN 'g.payload' ELSE 'convert_to(g.payload::text, ''UTF8'')' END, kind))
    INTO ids, kept USING p_ids, p_where;
    PERFORM host.require_kept(kept, coalesce(cardinality(ids), 0), 'queue.' || p_to);
    RETURN QUERY SELECT unnest(ids);
END $_$;

CREATE FUNCTION host.sample__dead_purge(p_ids bigint[], p_where jsonpath) RETURNS SETOF bigint
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
    DELETE FROM host.sample__dead_letter d WHERE d.id IN (SELECT host.sample__dead_ids(p_ids, p_where)) RETURNING d.id
$$;

CREATE FUNCTION host.sample__dead_retry(p_ids bigint[], p_where jsonpath) RETURNS SETOF bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
DECLARE
    ids bigint[];
    kept bigint;
BEGIN
    WITH gone AS (
        DELETE FROM host.sample__dead_letter d USING host.handler h
        WHERE h.id = d.handler_id AND d.id IN (SELECT host.sample__dead_ids(p_ids, p_where))
        RETURNING d.*
    ), again AS (
        INSERT INTO queue.sample (enqueued_at, origin, handler_id, attempt, headers, history, payload, priority, key)
        SELECT g.enqueued_at, g.message_id, g.handler_id, 1, g.headers, g.history, g.payload, g.priority, g.key
        FROM gone g ORDER BY g.id
        RETURNING id
    ), forgiven AS (
        DELETE FROM host.cancellation c USING gone g WHERE c.handler_id = g.handler_id AND c.message_id = g.message_id
    )
    SELECT array_agg(g.id), (SELECT count(*) FROM again) INTO ids, kept FROM gone g;
    PERFORM host.require_kept(kept, coalesce(cardinality(ids), 0), 'queue.sample');
    RETURN QUERY SELECT unnest(ids);
END $$;

CREATE FUNCTION host.sample__dead_show(p_id bigint) RETURNS TABLE(id bigint, message_id bigint, handler text, reason text, error text, attempt smallint, died_at timestamp with time zone, enqueued_at timestamp with time zone, headers jsonb, history jsonb, payload text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET bytea_output TO 'hex'
    AS $$
    SELECT d.id, d.message_id, h.name, d.reason, d.error, d.attempt, d.died_at, d.enqueued_at, d.headers,
        d.history, d.payload::text
    FROM host.sample__dead_letter d LEFT JOIN host.handler h ON h.id = d.handler_id
    WHERE d.id = p_id
$$;

CREATE FUNCTION host.sample__deliver_missed() RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET lock_timeout TO '10s'
    SET jit TO 'off'
    AS $_$
DECLARE
    c host.partition_count;
    h record;
    n bigint;
    again bigint;
    wanted bigint;
    total bigint := 0;
BEGIN
    PERFORM host.require_read_committed('delivering messages again');
    PERFORM pg_advisory_xact_lock(1752134404, 1);
    PERFORM pg_advisory_xact_lock(1752134402, id) FROM (SELECT id FROM host.handler WHERE queue_id = 1 ORDER BY id) x;
    FOR c IN SELECT * FROM host.partition_count x
        WHERE x.queue_id = 1 AND x.kind = 'message' AND x.missed > 0 ORDER BY x.leaf LOOP
        FOR h IN SELECT id FROM host.handler WHERE queue_id = 1 ORDER BY id LOOP
            n := host.sample__missed_by(c.leaf, h.id);
            CONTINUE WHEN coalesce(n, 0) <= 0;
            CREATE TEMP TABLE missed_not AS
                SELECT r.txid, r.id
                FROM host.sample__lease l
                CROSS JOIN LATERAL (
                    SELECT m.txid, m.id, count(*) OVER () AS n FROM host.parts_after(l.txids, l.from_txid, l.from_id) p
                    CROSS JOIN LATERAL (SELECT m.txid, m.id FROM queue.sample m
                        WHERE (m.txid, m.id) > (p.a_txid, p.a_id) AND m.txid < p.b
                            AND (m.txid, m.id) <= (l.to_txid, l.to_id)) m
                ) r
                WHERE l.handler_id = h.id AND l.is_cursor AND l.row_count = r.n AND l.leaves & (1 << c.leaf) <> 0;
            EXECUTE format(
                'WITH missed AS MATERIALIZED (
                    SELECT m.* FROM host.sample__message_%s m LEFT JOIN pg_temp.missed_not x ON x.txid = m.txid AND x.id = m.id
                    WHERE x.id IS NULL AND coalesce(m.handler_id = $1, true) AND txid_visible_in_snapshot(m.txid, $2)
                 ), again AS (
                    INSERT INTO queue.sample (enqueued_at, run_at, origin, handler_id, attempt, headers, history, payload,
                        expires_at, priority, key)
                    SELECT m.enqueued_at, m.run_at, coalesce(m.origin, m.id), $1, m.attempt, m.headers, m.history, m.payload,
                        m.expires_at, m.priority, m.key
                    FROM missed m ORDER BY m.txid, m.id
                    RETURNING id
                 )
                 SELECT (SELECT count(*) FROM again), (SELECT count(*) FROM missed)', c.leaf)
                INTO again, wanted USING h.id, c.hi;
            PERFORM host.require_kept(again, wanted, 'queue.sample');
            total := total + again;
            DROP TABLE pg_temp.missed_not;
            -- In the account of the first lane: the proof asks for the sum of all.
            INSERT INTO host.sample__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
                    row_count, leaves, is_cursor, more, token, hi, txids, lane, last_id, tat, held, leased)
                SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, l.from_txid, l.from_id, l.to_txid, l.to_id,
                    h.id, 0, 0, 0, true, l.more, gen_random_uuid(), l.hi, l.txids, l.lane, l.last_id, a.tat, a.held,
                    (SELECT array_agg(l.leased[i] + CASE WHEN i = c.leaf + 1 THEN n ELSE 0 END ORDER BY i)
                        FROM generate_series(1, 3) i)
                FROM host.sample__cursors(h.id) k JOIN host.sample__lease l ON l.id = k.id
                CROSS JOIN LATERAL host.sample__allowance(h.id, k.lane) a
                WHERE k.lane = 0;
        END LOOP;
        UPDATE host.partition_count x SET missed = NULL
            WHERE x.queue_id = 1 AND x.kind = 'message' AND x.leaf = c.leaf;
    END LOOP;
    RETURN total + host.sample__promote_missed();
END $_$;

CREATE FUNCTION host.sample__examine() RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    AS $$
    SELECT jsonb_build_object(
        'name', 'sample',
        'paused', q.paused,
        -- Where the schedule was when the clock was set back; not negative: it was not, or it is
        -- there again.
        'clock_ms', (SELECT min((extract(epoch FROM clock_timestamp() - x.due) * 1000)::bigint)
            FROM (SELECT * FROM host.sample__promotion ORDER BY id DESC LIMIT 1) c
            CROSS JOIN LATERAL unnest(c.passed_due || c.due) x (due) WHERE isfinite(x.due)),
        'missed', (SELECT sum(c.missed) FROM host.partition_count c WHERE c.queue_id = q.id),
        'row_security', (SELECT coalesce(jsonb_agg(c.oid::regclass::text ORDER BY c.relname), '[]') FROM pg_class c
            WHERE c.relrowsecurity AND (c.oid = 'queue.sample'::regclass
                OR c.relnamespace = 'host'::regnamespace AND starts_with(c.relname, 'sample__'))),
        'unhandled', (SELECT unhandled FROM host.sample__stored(1000000)),
        'handlers', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', h.name, 'paused', h.paused, 'waiting', g.waiting,
                'refused', (SELECT to_jsonb(r) FROM host.sample__refused(h.id) r WHERE r.messages > 0),
                'oldest_age_ms', CASE WHEN isfinite(g.oldest)
                    THEN (extract(epoch FROM clock_timestamp() - g.oldest) * 1000)::bigint END) ORDER BY h.name), '[]')
            FROM host.handler h CROSS JOIN LATERAL host.sample__lag(h.id, 1000000) g WHERE h.queue_id = q.id),
        'open_lease', (SELECT jsonb_build_object('lease', l.id, 'session', l.session_id,
                'age_ms', (extract(epoch FROM clock_timestamp() - l.leased_at) * 1000)::bigint)
            FROM host.sample__lease l
            WHERE l.row_count > 0 AND (l.id / 100000000000 % 3 <> p.leaf OR l.leaves & ~(1 << p.leaf) <> 0)
                AND (SELECT t.rest FROM host.sample__settlement t
                    WHERE t.lease_id = l.id AND t.lease_id / 100000000000 % 3 = l.id / 100000000000 % 3
                    ORDER BY t.seq DESC LIMIT 1) IS DISTINCT FROM 0
            ORDER BY l.leased_at LIMIT 1))
    FROM host.queue q
    CROSS JOIN (SELECT (last_value / 100000000000 % 3)::int AS leaf FROM queue.sample_id_seq) p
    WHERE q.id = 1
$$;

CREATE FUNCTION host.sample__forget_cancelled(p_message bigint) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
    DELETE FROM host.cancellation c USING host.sample__whereabouts(p_message) w
    WHERE c.handler_id = w.handler_id AND c.message_id = p_message
        AND w.state NOT IN ('in flight', 'waiting', 'scheduled')
$$;

CREATE FUNCTION host.sample__forget_keys(p_n integer) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    AS $$
DECLARE
    n int;
BEGIN
    WITH old AS MATERIALIZED (
        SELECT u.key, u.taken_at, u.settled_by FROM host.sample__unique u
        WHERE u.settled_by <> '{}' AND u.taken_at <= clock_timestamp()
            - (SELECT q.unique_ms FROM host.queue q WHERE q.id = 1) * interval '1 ms'
        ORDER BY u.taken_at LIMIT p_n FOR UPDATE SKIP LOCKED
    )
    DELETE FROM host.sample__unique u USING old
        WHERE u.key = old.key AND host.is_settled(1, old.taken_at, old.settled_by);
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;

CREATE FUNCTION host.sample__has_later(p_kind text, p_leaf integer, p_hi txid_snapshot) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET enable_sort TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $_$
DECLARE
    found_one boolean;
BEGIN
    IF p_kind = 'schedule' THEN
        EXECUTE format(
            'SELECT EXISTS (SELECT FROM host.sample__schedule_%1$s s WHERE s.txid >= txid_snapshot_xmax($1))
                OR EXISTS (SELECT FROM host.sample__schedule_%1$s s WHERE s.txid = ANY (ARRAY(SELECT txid_snapshot_xip($1))))',
            p_leaf) INTO found_one USING p_hi;
        RETURN found_one;
    END IF;
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM generate_series(0, 1 - 1) n WHERE
            EXISTS (SELECT FROM host.sample__message_%1$s m WHERE m.txid >= txid_snapshot_xmax($1))
            OR EXISTS (SELECT FROM host.sample__message_%1$s m
                WHERE m.txid = ANY (ARRAY(SELECT txid_snapshot_xip($1)))))',
        p_leaf) INTO found_one USING p_hi;
    RETURN found_one;
END $_$;

CREATE FUNCTION host.sample__holds(p_leaf integer) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_nestloop TO 'off'
    AS $$
DECLARE
    h record;
    o record;
    p bigint;
    oldest int;
BEGIN
    IF NOT EXISTS (SELECT FROM host.handler WHERE queue_id = 1) THEN
        RETURN 'no handler is deployed yet';
    END IF;
    FOR h IN SELECT * FROM host.handler WHERE queue_id = 1 ORDER BY id LOOP
        IF EXISTS (SELECT FROM host.sample__cursors(h.id) c WHERE c.id / 100000000000 % 3 = p_leaf) THEN
            RETURN format('the cursor of handler "%s" has not been carried forward', h.name);
        END IF;
        -- A lease's row and its settlement show which session took it over.
        IF false AND EXISTS (SELECT FROM host.sample__cursors(h.id) c
                WHERE EXISTS (
                        SELECT FROM unnest(c.held) x WHERE x / 100000000000 % 3 = p_leaf)
                    AND (SELECT a.held <> '{}' FROM host.sample__allowance(h.id, c.lane) a)) THEN
            RETURN format('handler "%s" has yet to note what is in flight of it', h.name);
        END IF;
        IF host.sample__beyond_cursor(p_leaf, h.id) THEN
            RETURN format('handler "%s"%s has messages in it to come', h.name, CASE WHEN h.paused THEN ', which is paused,' END);
        END IF;
    END LOOP;
    SELECT id INTO p FROM host.sample__promotion ORDER BY id DESC LIMIT 1;
    IF p / 100000000000 % 3 = p_leaf THEN
        RETURN 'the cursor of the schedule has not been carried forward';
    END IF;
    SELECT l.id, l.session_id, l.leased_at, l.lane, l.due INTO o FROM host.sample__lease l
        WHERE l.row_count > 0 AND (l.leaves & (1 << p_leaf) <> 0 OR l.id / 100000000000 % 3 = p_leaf)
            -- What handlers that were removed had open is nobody's.
            AND EXISTS (SELECT FROM host.handler x WHERE x.id = l.handler_id)
            AND NOT EXISTS (SELECT FROM host.sample__settlement s WHERE s.lease_id = l.id AND s.rest = 0)
        LIMIT 1;
    IF FOUND THEN
        IF o.session_id = 0 THEN
            RETURN format('a retry holds lane %s until %s', o.lane, date_trunc('second', o.due));
        END IF;
        RETURN format('lease %s of session %s has been open since %s', o.id, o.session_id, date_trunc('second', o.leased_at));
    END IF;
    -- Its leases say what has run of the generation before, as long as that is there: see
    -- deliver_missed.
    SELECT (greatest(a.last_value, b.last_value, c.last_value) / 100000000000 + 1) % 3 INTO oldest
        FROM queue.sample_id_seq a, host.sample__lease_id_seq b, host.sample__promotion_id_seq c;
    IF p_leaf <> oldest AND host.sample__leaf_bytes(oldest) > 0 AND EXISTS (SELECT FROM host.sample__lease l
            WHERE l.id / 100000000000 % 3 = p_leaf AND l.row_count > 0 AND l.leaves & (1 << oldest) <> 0) THEN
        RETURN format('its leases are of messages in leaf %s, which goes first', oldest);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION host.sample__in_partitions(p_lease bigint) RETURNS integer
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    SET enable_indexonlyscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $_$
DECLARE
    l record;
    n int;
    there int := 0;
BEGIN
    IF NOT host.is_whole('queue.sample'::regclass, 3) THEN
        RETURN NULL;
    END IF;
    SELECT * INTO STRICT l FROM host.sample__lease WHERE id = p_lease;
    FOR leaf IN 0..2 LOOP
        CONTINUE WHEN l.leaves & (1 << leaf) = 0;
        -- Sums, which no index knows.
        EXECUTE format(
            'SELECT count(*) FROM host.sample__message_%s m WHERE m.txid <@ $1
                AND (m.txid + 0, m.id + 0) > ($2, $3) AND (m.txid + 0, m.id + 0) <= ($4, $5) ',
            leaf) INTO n USING l.txids, l.from_txid, l.from_id, l.to_txid, l.to_id, l.lane;
        there := there + n;
    END LOOP;
    RETURN there;
END $_$;

CREATE FUNCTION host.sample__insert_for_orm() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    PERFORM set_config('host.duplicate_of', '', true);
    INSERT INTO queue.sample (payload, headers, run_at, expires_at, priority, key, unique_key)
        VALUES (NEW.payload, NEW.headers, NEW.run_at, NEW.expires_at, NEW.priority, NEW.key, NEW.unique_key)
        RETURNING id INTO NEW.id;
    IF NOT FOUND THEN
        -- Said by take_key.
        NEW.id := nullif(current_setting('host.duplicate_of', true), '')::bigint;
        IF NEW.id IS NULL THEN
            RETURN NULL;
        END IF;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION host.sample__kept(p_message bigint) RETURNS TABLE(handler_id integer, handler text, attempt smallint, lease_id bigint, session_id integer, enqueued_at timestamp with time zone, leased_at timestamp with time zone, settled_at timestamp with time zone, removed boolean, headers jsonb, history jsonb, payload text, result bytea)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET bytea_output TO 'hex'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    IF to_regclass('host.sample__history') IS NOT NULL THEN
        RETURN QUERY
            SELECT k.handler_id, k.handler, k.attempt, k.lease_id, k.session_id, k.enqueued_at, k.leased_at, k.settled_at,
                k.removed, k.headers, k.history, k.payload::text, k.result
            FROM host.sample__history k WHERE k.message_id = p_message;
    END IF;
END $$;

CREATE FUNCTION host.sample__lag(p_handler integer, p_cap integer, OUT waiting bigint, OUT oldest timestamp with time zone) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
DECLARE
    part record;
    lane_done smallint := -1;
    first_at timestamptz;
BEGIN
    SELECT b.waiting INTO waiting FROM host.sample__backlog(p_handler, p_cap) b;
    FOR part IN SELECT * FROM host.sample__ahead(p_handler) LOOP
        CONTINUE WHEN part.lane = lane_done;
        SELECT m.enqueued_at INTO first_at FROM (SELECT m.enqueued_at, m.run_at FROM queue.sample m
            WHERE (m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
            ORDER BY m.txid, m.id LIMIT p_cap) m
            WHERE coalesce(m.run_at <= clock_timestamp(), true) LIMIT 1;
        IF FOUND THEN
            oldest := least(oldest, first_at);
            lane_done := part.lane;
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION host.sample__leaf_bytes(p_leaf integer) RETURNS bigint
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
    SELECT sum(pg_relation_size(c.oid) + coalesce(pg_relation_size(c.reltoastrelid), 0))::bigint
    FROM unnest(ARRAY['message', 'lease', 'settlement', 'promotion']) kind
    JOIN pg_class c ON c.oid = format('host.sample__%s_%s', kind, p_leaf)::regclass
$$;

CREATE FUNCTION host.sample__lease(p_handler integer, p_session integer, p_seq bigint, p_token uuid, p_n integer, p_bytes bigint, p_lane integer DEFAULT 0, OUT lease_id bigint, OUT row_count integer, OUT more boolean, OUT wait_ms bigint, OUT full_up boolean) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET lock_timeout TO '1s'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_sort TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
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
    bytes bigint;
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
    IF pg_current_xact_id_if_assigned() IS NOT NULL
        OR current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'lease needs a READ COMMITTED transaction of its own';
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM pg_advisory_xact_lock(1752134402, p_handler);
    -- 0: nobody's, for what is settled in the same transaction (see purge).
    IF p_session <> 0 AND NOT EXISTS (SELECT FROM host.session s WHERE s.id = p_session AND s.ended_at IS NULL) THEN
        RAISE EXCEPTION 'session % has ended', p_session USING ERRCODE = 'HQ001';
    END IF;
    SELECT l.* INTO c FROM host.sample__lease l
        WHERE l.handler_id = p_handler AND l.is_cursor ORDER BY l.id DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'handler % has no cursor on queue "sample"', p_handler USING ERRCODE = 'HQ004';
    END IF;

    IF false THEN
        SELECT * INTO allowed FROM host.sample__allowance(p_handler, p_lane);
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
                        CASE WHEN pg_column_compression(m.payload) IS NULL
                            THEN pg_column_size(m.payload) ELSE 1048576 END
                        + CASE WHEN m.headers IS NULL THEN 0
                            WHEN pg_column_compression(m.headers) IS NULL THEN pg_column_size(m.headers) ELSE 65536 END AS size
                    FROM queue.sample m
                    WHERE (m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
                    ORDER BY m.txid, m.id LIMIT p_n - row_count) m;
            IF bytes + cut.bytes > p_bytes THEN
                -- Too much: again, only as far as the bytes allow, but at least one message.
                SELECT count(*)::int AS n, max(m.txid) AS txid, (array_agg(m.id))[count(*)] AS id,
                        min(m.id) AS id_min, max(m.id) AS id_max, p_bytes - bytes AS bytes INTO cut
                    FROM (SELECT m.txid, m.id,
                            sum(CASE WHEN pg_column_compression(m.payload) IS NULL
                                THEN pg_column_size(m.payload) ELSE 1048576 END
                            + CASE WHEN m.headers IS NULL THEN 0
                                WHEN pg_column_compression(m.headers) IS NULL THEN pg_column_size(m.headers) ELSE 65536 END)
                                OVER (ORDER BY m.txid, m.id ROWS UNBOUNDED PRECEDING) AS total,
                            row_number() OVER (ORDER BY m.txid, m.id ROWS UNBOUNDED PRECEDING) AS nth
                        FROM queue.sample m
                        WHERE (m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
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
        IF c.more OR txid_snapshot_xmax(hi) - txid_snapshot_xmax(c.hi) > 1000
            OR clock_timestamp() - began > interval '10 ms' THEN
            INSERT INTO host.sample__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
                    row_count, leaves, is_cursor, more, token, hi, txids, lane, tat, held, leased)
                VALUES (p_seq, 0, 0, 0, 0, p_handler, p_session, 0, 0, true, false, p_token, hi, '{}', p_lane, tat, held,
                    c.leased);
        END IF;
        row_count := NULL;
        RETURN;
    END IF;
    IF tat IS NOT NULL AND p_session <> 0 THEN
        tat := greatest(tat, clock_timestamp()) + host.sample__starts(p_handler, txids, from_txid, from_id, row_count, p_lane)
            * allowed.step * interval '1 microsecond';
    END IF;
    account := c.leased;
    IF id_max / 100000000000 > c.id / 100000000000 THEN
        account := host.begun_account(account, c.id / 100000000000, id_max / 100000000000);
    END IF;
    IF id_min / 100000000000 = id_max / 100000000000 THEN
        leaf := id_min / 100000000000 % 3 + 1;
        account[leaf] := account[leaf] + row_count;
    ELSE
        account := host.sample__leased(account, txids, from_txid, from_id, row_count, p_lane);
    END IF;
    INSERT INTO host.sample__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
            row_count, leaves, is_cursor, more, token, hi, txids, lane, tat, held, leased)
        VALUES (p_seq, from_txid, from_id, to_txid, to_id, p_handler, p_session,
            row_count, host.leaves_between(id_min, id_max), true, more, p_token, hi, txids, p_lane, tat, held, account)
        RETURNING id INTO lease_id;
END $$;

CREATE FUNCTION host.sample__leased(p_before bigint[], p_window int8multirange, p_txid bigint, p_id bigint, p_count integer, p_lane integer) RETURNS bigint[]
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_sort TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
DECLARE
    part record;
    cut record;
    done int := 0;
BEGIN
    FOR part IN SELECT * FROM host.parts_after(p_window, p_txid, p_id) LOOP
        EXIT WHEN done >= p_count;
        SELECT count(*) AS n, count(*) FILTER (WHERE m.leaf = 0) AS a, count(*) FILTER (WHERE m.leaf = 1) AS b,
                count(*) FILTER (WHERE m.leaf = 2) AS c INTO cut
            FROM (SELECT m.id / 100000000000 % 3 AS leaf FROM queue.sample m
                WHERE (m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
                ORDER BY m.txid, m.id LIMIT p_count - done) m;
        p_before := ARRAY[p_before[1] + cut.a, p_before[2] + cut.b, p_before[3] + cut.c];
        done := done + cut.n;
    END LOOP;
    RETURN p_before;
END $$;

CREATE FUNCTION host.sample__message(p_message bigint) RETURNS TABLE(enqueued_at timestamp with time zone, headers jsonb, payload text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET bytea_output TO 'hex'
    SET jit TO 'off'
    AS $$
    SELECT m.enqueued_at, m.headers, m.payload::text FROM queue.sample m WHERE m.id = p_message OR m.origin = p_message
    UNION ALL
    SELECT s.enqueued_at, s.headers, s.payload FROM host.sample__scheduled(p_message) s
    UNION ALL
    SELECT d.enqueued_at, d.headers, d.payload::text FROM host.sample__dead_letter d WHERE d.message_id = p_message
    UNION ALL
    SELECT k.enqueued_at, k.headers, k.payload FROM host.sample__kept(p_message) k
    LIMIT 1
$$;

CREATE FUNCTION host.sample__missed(p_leaf integer) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
DECLARE
    h record;
    n bigint;
    most bigint;
    who text;
BEGIN
    FOR h IN SELECT id, name FROM host.handler WHERE queue_id = 1 ORDER BY id LOOP
        n := host.sample__missed_by(p_leaf, h.id);
        IF n > coalesce(most, 0) THEN
            most := n;
            who := h.name;
        END IF;
    END LOOP;
    UPDATE host.partition_count SET missed = most
        WHERE queue_id = 1 AND kind = 'message' AND leaf = p_leaf AND missed IS DISTINCT FROM most;
    RETURN CASE WHEN most > 0 THEN
        format('handler "%s" has never leased %s of its messages: something hides them, see `host doctor`', who, most) END;
END $$;

CREATE FUNCTION host.sample__missed_by(p_leaf integer, p_handler integer) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    AS $$
    SELECT x.messages - CASE WHEN bool_and(c.leased IS NOT NULL) THEN sum(c.leased)::bigint END
    FROM host.partition_count x
    CROSS JOIN LATERAL (
        SELECT (SELECT l.leased[p_leaf + 1] FROM host.sample__lease l
            WHERE l.handler_id = p_handler AND l.is_cursor ORDER BY l.id DESC LIMIT 1) AS leased
        FROM generate_series(0, 1 - 1) n (lane)
    ) c
    WHERE x.queue_id = 1 AND x.kind = 'message' AND x.leaf = p_leaf GROUP BY x.messages
$$;

CREATE FUNCTION host.sample__missing(p_lease bigint) RETURNS integer
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_sort TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
DECLARE
    l record;
    part record;
    n int;
    seen int := 0;
BEGIN
    SELECT * INTO STRICT l FROM host.sample__lease WHERE id = p_lease;
    FOR part IN SELECT * FROM host.parts_after(l.txids, l.from_txid, l.from_id) LOOP
        EXIT WHEN seen >= l.row_count;
        SELECT count(*) INTO n FROM (
            SELECT FROM queue.sample m
            WHERE (m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
                AND (m.txid, m.id) <= (l.to_txid, l.to_id)
            ORDER BY m.txid, m.id LIMIT l.row_count - seen) m;
        seen := seen + n;
    END LOOP;
    IF seen = l.row_count THEN
        RETURN 0;
    END IF;
    RETURN CASE WHEN host.sample__in_partitions(p_lease) = seen THEN l.row_count - seen END;
END $$;

CREATE FUNCTION host.sample__note_promoted(p_account bigint[]) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
    INSERT INTO host.sample__promotion (due, schedule_id, hi, late_txids, late_txid, late_id, passed_due, passed_id, passed_hi,
            promoted)
        SELECT due, schedule_id, hi, late_txids, late_txid, late_id, passed_due, passed_id, passed_hi, p_account
        FROM host.sample__promotion ORDER BY id DESC LIMIT 1
$$;

CREATE FUNCTION host.sample__peek(p_handler integer, p_n integer) RETURNS TABLE(id bigint, enqueued_at timestamp with time zone, run_at timestamp with time zone, attempt smallint, headers jsonb, payload text)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET bytea_output TO 'hex'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    part record;
    found_rows bigint := 0;
    n bigint;
BEGIN
    FOR part IN SELECT * FROM host.sample__ahead(p_handler) LOOP
        RETURN QUERY
            SELECT coalesce(m.origin, m.id), m.enqueued_at, m.run_at, m.attempt, m.headers, m.payload::text
            FROM queue.sample m
            WHERE (m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
                AND coalesce(m.handler_id = p_handler, true)
            ORDER BY m.txid, m.id LIMIT p_n - found_rows;
        GET DIAGNOSTICS n = ROW_COUNT;
        found_rows := found_rows + n;
        EXIT WHEN found_rows >= p_n;
    END LOOP;
END $$;

CREATE FUNCTION host.sample__peek_scheduled(p_handler integer, p_n integer) RETURNS TABLE(id bigint, enqueued_at timestamp with time zone, due timestamp with time zone, handler text, attempt smallint, error text, key text, headers jsonb, payload text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET bytea_output TO 'hex'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
    WITH c AS MATERIALIZED (SELECT p.* FROM host.sample__promotion p ORDER BY p.id DESC LIMIT 1)
    SELECT x.origin, x.enqueued_at, x.due, h.name, x.attempt, x.history -> -1 ->> 'error', x.key, x.headers, x.payload::text
    FROM (
        (SELECT s.* FROM host.sample__schedule s CROSS JOIN c
            WHERE (s.due, s.id) > (c.due, c.schedule_id) AND coalesce(s.handler_id = p_handler, true)
                AND (NOT ((s.due, s.id) <= (c.due, c.schedule_id) AND txid_visible_in_snapshot(s.txid, c.hi)
                        OR c.passed_due IS NOT NULL
                            AND host.was_passed(s.due, s.id, s.txid, c.passed_due, c.passed_id, c.passed_hi))
                    OR s.txid <@ c.late_txids AND (s.txid, s.id) > (c.late_txid, c.late_id))
            ORDER BY s.due, s.id LIMIT p_n)
        UNION ALL
        -- Behind the cursor: only what came late, which the other index finds.
        (SELECT s.* FROM host.sample__schedule s CROSS JOIN c
            WHERE s.txid >= least(txid_snapshot_xmin(c.hi), lower(c.late_txids)) AND (s.due, s.id) <= (c.due, c.schedule_id)
                AND coalesce(s.handler_id = p_handler, true) AND (NOT ((s.due, s.id) <= (c.due, c.schedule_id) AND txid_visible_in_snapshot(s.txid, c.hi)
                        OR c.passed_due IS NOT NULL
                            AND host.was_passed(s.due, s.id, s.txid, c.passed_due, c.passed_id, c.passed_hi))
                    OR s.txid <@ c.late_txids AND (s.txid, s.id) > (c.late_txid, c.late_id))
            ORDER BY s.due, s.id LIMIT p_n)
    ) x LEFT JOIN host.handler h ON h.id = x.handler_id
    ORDER BY x.due, x.id LIMIT p_n
$$;

CREATE FUNCTION host.sample__promote(p_n integer, OUT promoted integer, OUT again boolean, OUT next_ms bigint, OUT refused integer, OUT why text) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_sort TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
DECLARE
    c record;
    hi txid_snapshot;
    late int8multirange;
    late_txid bigint := 0;
    late_id bigint := 0;
    due_now timestamptz := clock_timestamp();
    to_due timestamptz;
    to_id bigint;
    part record;
    cut record;
    each record;
    dues timestamptz[];
    ids bigint[];
    txids bigint[];
    slots_left smallint[];
    slots smallint[] := '{}';
BEGIN
    IF pg_current_xact_id_if_assigned() IS NOT NULL
        OR current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'promote needs a READ COMMITTED transaction of its own';
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    promoted := 0;
    refused := 0;
    again := false;
    IF NOT pg_try_advisory_xact_lock(1752134403, 1) THEN
        next_ms := 50;
        RETURN;
    END IF;
    -- A deferred constraint of somebody's would be in the way of the commit, and no more of a
    -- single message.
    SET CONSTRAINTS ALL IMMEDIATE;
    SELECT * INTO c FROM host.sample__promotion ORDER BY id DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the schedule of queue "sample" has no cursor to be seen: until then, no message is put back on the queue'
            USING ERRCODE = 'HQ012', HINT = 'SELECT * FROM host.detached(''sample'') says which partition to attach';
    END IF;
    IF due_now < c.due AND isempty(c.late_txids) THEN
        c.passed_due := c.passed_due || c.due;
        c.passed_id := c.passed_id || c.schedule_id;
        c.passed_hi := c.passed_hi || c.hi;
        c.due := due_now;
        c.schedule_id := 0;
    END IF;
    to_due := c.due;
    to_id := c.schedule_id;

    -- What came late, behind the cursor.
    IF isempty(c.late_txids) THEN
        hi := txid_current_snapshot();
        late := CASE WHEN hi::text = c.hi::text THEN '{}' ELSE host.txid_window(c.hi, hi) END;
    ELSE
        hi := c.hi;
        late := c.late_txids;
        late_txid := c.late_txid;
        late_id := c.late_id;
    END IF;
    -- Each INSERT only if there is something to insert: the queue's trigger of waking fires for
    -- none as well, and an idle host would wake itself for ever.
    FOR part IN SELECT * FROM host.parts_after(late, late_txid, late_id) LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM host.sample__schedule s
            WHERE (s.txid, s.id) > (part.a_txid, part.a_id) AND s.txid < part.b
                AND (s.due, s.id) <= (c.due, c.schedule_id));
        BEGIN
            WITH due_rows AS MATERIALIZED (
                SELECT s.* FROM host.sample__schedule s
                WHERE (s.txid, s.id) > (part.a_txid, part.a_id) AND s.txid < part.b
                    AND (s.due, s.id) <= (c.due, c.schedule_id)
                ORDER BY s.txid, s.id LIMIT p_n - promoted
            ), moved AS (
                INSERT INTO queue.sample (enqueued_at, origin, handler_id, attempt, headers, history, payload, expires_at, priority, key)
                SELECT d.enqueued_at, d.origin, d.handler_id, d.attempt, d.headers, d.history, d.payload, d.expires_at, d.priority, d.key FROM due_rows d
                RETURNING 1
            )
            SELECT count(*)::int AS n, max(d.txid) AS txid, (array_agg(d.id))[count(*)] AS id, array_agg(d.slot) AS slots,
                    (SELECT count(*) FROM moved) AS moved
                INTO cut FROM due_rows d;
            IF cut.moved <> cut.n THEN
                RAISE EXCEPTION 'a trigger of the table left some out';
            END IF;
        EXCEPTION WHEN query_canceled OR assert_failure OR OTHERS THEN
            IF SQLSTATE = '57014' AND clock_timestamp() - due_now > interval '1 s' THEN
                RAISE;
            END IF;
            SELECT array_agg(x.due), array_agg(x.id), array_agg(x.txid), array_agg(x.slot) INTO dues, ids, txids, slots_left FROM (
                SELECT s.due, s.txid, s.id, s.slot FROM host.sample__schedule s
                WHERE (s.txid, s.id) > (part.a_txid, part.a_id) AND s.txid < part.b
                    AND (s.due, s.id) <= (c.due, c.schedule_id)
                ORDER BY s.txid, s.id LIMIT p_n - promoted) x;
            SELECT * INTO each FROM host.sample__promote_each(dues, ids);
            why := coalesce(each.why, why);
            refused := refused + each.refused;
            again := each.done < coalesce(cardinality(ids), 0);
            SELECT each.done AS n, txids[each.done] AS txid, ids[each.done] AS id, slots_left[1:each.done] AS slots INTO cut;
        END;
        slots := slots || cut.slots;
        promoted := promoted + cut.n;
        IF again OR promoted >= p_n THEN
            late_txid := cut.txid;
            late_id := cut.id;
            again := true;
            EXIT;
        END IF;
    END LOOP;

    -- What has become due.
    IF NOT again THEN
        late := '{}';
    END IF;
    IF NOT again AND EXISTS (SELECT FROM host.sample__schedule s
            WHERE (s.due, s.id) > (c.due, c.schedule_id) AND s.due <= due_now) THEN
        BEGIN
            WITH due_rows AS MATERIALIZED (
                SELECT s.* FROM host.sample__schedule s
                WHERE (s.due, s.id) > (c.due, c.schedule_id) AND s.due <= due_now
                    AND txid_visible_in_snapshot(s.txid, hi)
                    AND (c.passed_due IS NULL
                        OR NOT host.was_passed(s.due, s.id, s.txid, c.passed_due, c.passed_id, c.passed_hi))
                ORDER BY s.due, s.id LIMIT p_n - promoted
            ), moved AS (
                INSERT INTO queue.sample (enqueued_at, origin, handler_id, attempt, headers, history, payload, expires_at, priority, key)
                SELECT d.enqueued_at, d.origin, d.handler_id, d.attempt, d.headers, d.history, d.payload, d.expires_at, d.priority, d.key FROM due_rows d
                RETURNING 1
            )
            SELECT count(*)::int AS n, max(d.due) AS due, (array_agg(d.id))[count(*)] AS id, array_agg(d.slot) AS slots,
                    (SELECT count(*) FROM moved) AS moved
                INTO cut FROM due_rows d;
            IF cut.moved <> cut.n THEN
                RAISE EXCEPTION 'a trigger of the table left some out';
            END IF;
        EXCEPTION WHEN query_canceled OR assert_failure OR OTHERS THEN
            IF SQLSTATE = '57014' AND clock_timestamp() - due_now > interval '1 s' THEN
                RAISE;
            END IF;
            SELECT array_agg(x.due), array_agg(x.id), array_agg(x.slot) INTO dues, ids, slots_left FROM (
                SELECT s.due, s.id, s.slot FROM host.sample__schedule s
                WHERE (s.due, s.id) > (c.due, c.schedule_id) AND s.due <= due_now
                    AND txid_visible_in_snapshot(s.txid, hi)
                    AND (c.passed_due IS NULL
                        OR NOT host.was_passed(s.due, s.id, s.txid, c.passed_due, c.passed_id, c.passed_hi))
                ORDER BY s.due, s.id LIMIT p_n - promoted) x;
            SELECT * INTO each FROM host.sample__promote_each(dues, ids);
            why := coalesce(each.why, why);
            refused := refused + each.refused;
            again := each.done < coalesce(cardinality(ids), 0);
            SELECT each.done AS n, dues[each.done] AS due, ids[each.done] AS id, slots_left[1:each.done] AS slots INTO cut;
        END;
        slots := slots || cut.slots;
        IF cut.n > 0 THEN
            to_due := cut.due;
            to_id := cut.id;
            again := again OR promoted + cut.n >= p_n;
            promoted := promoted + cut.n;
        END IF;
    END IF;

    IF c.passed_due IS NOT NULL THEN
        -- Over what was promoted before, so that it is not met again and again.
        IF NOT again AND to_due < due_now THEN
            to_due := due_now;
            to_id := 0;
        END IF;
        SELECT array_agg(p.due), array_agg(p.id), array_agg(p.hi) INTO c.passed_due, c.passed_id, c.passed_hi
            FROM unnest(c.passed_due, c.passed_id, c.passed_hi) p (due, id, hi)
            WHERE (p.due, p.id) > (to_due, to_id);
    END IF;

    -- An empty poll writes nothing; but a window that has grown wide is walked once and left.
    IF promoted > 0 OR NOT isempty(c.late_txids) OR txid_snapshot_xmax(hi) - txid_snapshot_xmax(c.hi) > 1000
        OR to_due > c.due + interval '1 minute' THEN
        -- The cursor would pass over what a detached partition holds.
        IF NOT host.is_whole('host.sample__schedule'::regclass, 21) THEN
            RAISE EXCEPTION 'a partition of host.sample__schedule is detached: until it is attached, no message is put back on the queue'
                USING ERRCODE = 'HQ012', HINT = 'SELECT * FROM host.detached(''sample'') says how';
        END IF;
        INSERT INTO host.sample__promotion (due, schedule_id, hi, late_txids, late_txid, late_id, passed_due, passed_id, passed_hi,
                promoted)
            VALUES (to_due, to_id, hi, late, CASE WHEN again AND NOT isempty(late) THEN late_txid ELSE 0 END,
                CASE WHEN again AND NOT isempty(late) THEN late_id ELSE 0 END, c.passed_due, c.passed_id, c.passed_hi,
                host.with_slots(c.promoted, slots));
    END IF;
    SELECT greatest(0, ceil(extract(epoch FROM s.due - clock_timestamp()) * 1000))::bigint INTO next_ms
        FROM host.sample__schedule s WHERE (s.due, s.id) > (to_due, to_id) ORDER BY s.due, s.id LIMIT 1;
    IF c.passed_due IS NOT NULL THEN
        -- The next may have been promoted already.
        next_ms := greatest(next_ms, 100);
    END IF;
END $$;

CREATE FUNCTION host.sample__promote_each(p_due timestamp with time zone[], p_id bigint[], OUT done integer, OUT refused integer, OUT why text) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
DECLARE
    until timestamptz := clock_timestamp() + interval '5 s';
    one record;
    any_went boolean := false;
    blamed int[] := '{}';
    blamed_why text[] := '{}';
    passing text;
BEGIN
    done := 0;
    FOR n IN 1 .. coalesce(cardinality(p_id), 0) LOOP
        SELECT * INTO one FROM host.sample__promote_one(p_due[n], p_id[n]);
        done := n;
        IF one.why IS NULL THEN
            any_went := true;
        ELSE
            blamed := blamed || n;
            blamed_why := blamed_why || one.why;
            passing := coalesce(passing, one.passing);
        END IF;
        -- Whether a failure is a message's own shows only when another one is tried.
        EXIT WHEN clock_timestamp() > until AND (any_went OR n > 1);
    END LOOP;
    IF passing IS NOT NULL AND NOT any_went THEN
        RAISE EXCEPTION USING ERRCODE = passing, MESSAGE = blamed_why[1],
            HINT = CASE passing WHEN 'HQ012' THEN 'SELECT * FROM host.detached(''sample'') says how to attach it again' ELSE '' END;
    END IF;
    FOR i IN 1 .. cardinality(blamed) LOOP
        why := host.sample__put_off(p_due[blamed[i]], p_id[blamed[i]], blamed_why[i]);
    END LOOP;
    refused := cardinality(blamed);
END $$;

CREATE FUNCTION host.sample__promote_missed() RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    AS $_$
DECLARE
    c record;
    n bigint;
    wanted bigint;
    total bigint := 0;
    account bigint[];
BEGIN
    PERFORM pg_advisory_xact_lock(1752134403, 1);
    SELECT p.promoted INTO account FROM host.sample__promotion p ORDER BY p.id DESC LIMIT 1;
    FOR c IN SELECT x.leaf, x.hi, x.messages FROM host.partition_count x
        WHERE x.queue_id = 1 AND x.kind = 'schedule' AND x.missed > 0 ORDER BY x.leaf
    LOOP
        EXECUTE format(
            'WITH missed AS MATERIALIZED (
                SELECT s.* FROM host.sample__schedule_%s s
                WHERE txid_visible_in_snapshot(s.txid, $1) AND NOT EXISTS (SELECT FROM queue.sample m
                    WHERE m.origin = s.origin AND m.attempt = s.attempt AND m.enqueued_at = s.enqueued_at
                        AND m.handler_id IS NOT DISTINCT FROM s.handler_id)
             ), again AS (
                INSERT INTO queue.sample (enqueued_at, origin, handler_id, attempt, headers, history, payload, expires_at,
                    priority, key)
                SELECT s.enqueued_at, s.origin, s.handler_id, s.attempt, s.headers, s.history, s.payload, s.expires_at,
                    s.priority, s.key
                FROM missed s ORDER BY s.due, s.id
                RETURNING id
             )
             SELECT (SELECT count(*) FROM again), (SELECT count(*) FROM missed)', c.leaf)
            INTO n, wanted USING c.hi;
        PERFORM host.require_kept(n, wanted, 'queue.sample');
        total := total + n;
        account[c.leaf + 1] := c.messages;
        UPDATE host.partition_count x SET missed = NULL
            WHERE x.queue_id = 1 AND x.kind = 'schedule' AND x.leaf = c.leaf;
        PERFORM host.sample__note_promoted(account);
    END LOOP;
    RETURN total;
END $_$;

CREATE FUNCTION host.sample__promote_one(p_due timestamp with time zone, p_id bigint, OUT why text, OUT passing text) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET enable_seqscan TO 'off'
    SET lock_timeout TO '300ms'
    AS $$
DECLARE
    s record;
    inserted int;
    began timestamptz := clock_timestamp();
    context text;
    broken text;
BEGIN
    SELECT * INTO STRICT s FROM host.sample__schedule x WHERE x.due = p_due AND x.id = p_id;
    FOR try IN 1..3 LOOP
        BEGIN
            INSERT INTO queue.sample (enqueued_at, origin, handler_id, attempt, headers, history, payload, expires_at, priority, key)
                VALUES (s.enqueued_at, s.origin, s.handler_id, s.attempt, s.headers, s.history, s.payload, s.expires_at, s.priority, s.key);
            GET DIAGNOSTICS inserted = ROW_COUNT;
            why := CASE WHEN inserted <> 1 THEN 'a trigger of the table left it out' END;
            passing := NULL;
            RETURN;
        -- A trigger of somebody's may raise whatever it likes: that is this message's. What has
        -- taken long is the server's.
        EXCEPTION WHEN query_canceled OR assert_failure OR OTHERS THEN
            IF SQLSTATE = '57014' AND clock_timestamp() - began > interval '1 s' THEN
                RAISE;
            END IF;
            why := left(SQLERRM, 2000);
            GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT, broken = CONSTRAINT_NAME;
            passing := CASE
                WHEN split_part(context, E'\n', 1) LIKE '%RAISE' THEN NULL
                WHEN host.may_pass(SQLSTATE) THEN SQLSTATE
                -- A failed check without a name is a row without a partition.
                WHEN SQLSTATE = '23514' AND broken = '' AND NOT host.is_whole('queue.sample'::regclass, 3) THEN 'HQ012'
            END;
        END;
        EXIT WHEN passing IS NULL;
    END LOOP;
END $$;

CREATE FUNCTION host.sample__purge(p_handler integer, p_lane integer, p_n integer, OUT removed integer, OUT parked integer, OUT more boolean) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
DECLARE
    l record;
    seq bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    token uuid := gen_random_uuid();
    every int4multirange;
    not_due int[];
BEGIN
    PERFORM host.require_read_committed('purging a queue');
    -- Session 0 is nobody's.
    SELECT * INTO l FROM host.sample__lease(p_handler, 0, seq, token, p_n, 1::bigint << 60, p_lane);
    removed := 0;
    parked := 0;
    more := coalesce(l.more, false);
    IF l.lease_id IS NULL THEN
        RETURN;
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
    every := int4multirange(int4range(0, l.row_count));
    not_due := ARRAY(SELECT m.pos FROM host.sample__read(0, seq) m
        WHERE m.run_at > clock_timestamp() AND coalesce(m.handler_id = p_handler, true));
    parked := cardinality(not_due);
    removed := l.row_count - parked;
    PERFORM host.sample__settle(l.lease_id, 0, token, 0, every, p_park_pos => nullif(not_due, '{}'),
        p_removed => every - coalesce((SELECT range_agg(int4range(e, e + 1)) FROM unnest(not_due) e), '{}'));
END $$;

CREATE FUNCTION host.sample__put_off(p_due timestamp with time zone, p_id bigint, p_why text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    s record;
    why text := 'cannot be put back on the queue: ' || p_why;
    entry jsonb;
    kept int;
    q host.queue;
BEGIN
    SELECT * INTO STRICT s FROM host.sample__schedule x WHERE x.due = p_due AND x.id = p_id;
    SELECT * INTO STRICT q FROM host.queue x WHERE x.id = 1;
    entry := coalesce(s.history, '[]') || jsonb_build_object('attempt', s.attempt, 'at', clock_timestamp(), 'error', why);
    IF s.attempt >= q.max_attempts AND s.handler_id IS NOT NULL THEN
        INSERT INTO host.sample__dead_letter (message_id, enqueued_at, handler_id, attempt, reason, error, headers, history, payload, priority, key)
            VALUES (s.origin, s.enqueued_at, s.handler_id, s.attempt, 'attempts used up', why, s.headers, entry, s.payload, s.priority, s.key);
        GET DIAGNOSTICS kept = ROW_COUNT;
        PERFORM host.require_kept(kept, 1, 'host.sample__dead_letter');
        IF false THEN
            PERFORM host.sample__release_keys(s.handler_id, ARRAY[s.origin]);
        END IF;
    ELSE
        -- Nobody's attempts end: without a handler it is tried for as long as it takes.
        IF s.handler_id IS NULL AND jsonb_array_length(entry) > 100 THEN
            entry := entry - 0;
        END IF;
        s.due := clock_timestamp() + host.retry_delay(q, s.attempt);
        INSERT INTO host.sample__schedule (due, slot, origin, enqueued_at, handler_id, attempt, headers, history, payload, expires_at, priority, key)
            VALUES (s.due, host.slot(s.due, now()), s.origin, s.enqueued_at, s.handler_id, least(s.attempt, q.max_attempts - 1) + 1,
                s.headers, entry, s.payload, s.expires_at, s.priority, s.key);
        GET DIAGNOSTICS kept = ROW_COUNT;
        PERFORM host.require_kept(kept, 1, 'host.sample__schedule');
    END IF;
    RETURN why;
END $$;

CREATE FUNCTION host.sample__read(p_session integer, p_seq bigint) RETURNS TABLE(pos integer, id bigint, enqueued_at timestamp with time zone, run_at timestamp with time zone, handler_id integer, attempt smallint, headers jsonb, history jsonb, payload jsonb, expires_at timestamp with time zone, priority smallint, key text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
    SELECT coalesce(r.pos, r.ordinality::int - 1), r.id, r.enqueued_at, r.run_at, r.handler_id, r.attempt, r.headers, r.history,
        r.payload, r.expires_at, r.priority, r.key
    FROM host.sample__rows(p_session, p_seq) WITH ORDINALITY r
$$;

CREATE FUNCTION host.sample__readers(p_leaf integer) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
    SELECT coalesce(string_agg(DISTINCT format('process %s (%s) holds %s on it since %s', l.pid,
            coalesce(nullif(a.application_name, ''), a.usename, 'unknown'), l.mode, date_trunc('second', a.xact_start)), '; '),
        'somebody held a lock on it')
    FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
    WHERE l.granted AND l.pid <> pg_backend_pid() AND l.locktype = 'relation'
        AND l.relation = ANY (ARRAY[
            format('host.sample__message_%s', p_leaf)::regclass, format('host.sample__lease_%s', p_leaf)::regclass,
            format('host.sample__settlement_%s', p_leaf)::regclass, format('host.sample__promotion_%s', p_leaf)::regclass]::oid[])
$$;

CREATE FUNCTION host.sample__rebase(OUT messages bigint, OUT scheduled bigint) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET lock_timeout TO '10s'
    AS $$
DECLARE
    everyone int[] := ARRAY(SELECT id FROM host.handler WHERE queue_id = 1 ORDER BY id);
    c record;
    g bigint;
    kept bigint;
BEGIN
    PERFORM host.require_read_committed('rebasing a queue');
    PERFORM pg_advisory_xact_lock(1752134404, 1);
    PERFORM pg_advisory_xact_lock(1752134403, 1);
    PERFORM pg_advisory_xact_lock(1752134402, id) FROM unnest(everyone) id;
    LOCK TABLE queue.sample, host.sample__lease, host.sample__settlement, host.sample__promotion, host.sample__schedule
        IN ACCESS EXCLUSIVE MODE;

    CREATE TEMP TABLE rebase_leaf AS
        SELECT i.indrelid AS leaf, age(i.xmin) AS index_age, age(t.xmin) AS table_age
        FROM pg_inherits h
        JOIN pg_index i ON i.indexrelid = h.inhrelid
        -- Unlike pg_class, this has no reason ever to be updated.
        JOIN pg_type t ON t.typrelid = i.indrelid
        WHERE h.inhparent = 'queue.sample__message_window'::regclass;
    -- Should a producer have got in while the index was not there yet, its row has its own
    -- transaction's id.
    CREATE TEMP VIEW rebase_row AS
        SELECT m.*, age(m.xmin) > f.table_age
            OR (age(m.xmin) >= f.index_age AND m.xmin <> (m.txid & 4294967295)::text::xid) AS restored
        FROM queue.sample m JOIN pg_temp.rebase_leaf f ON f.leaf = m.tableoid;
    CREATE TEMP TABLE rebase_cursor AS
        SELECT h AS handler_id, n AS lane, l.hi, l.more, l.txids, l.to_txid, l.to_id
        -- One whose cursor did not come along has settled nothing, as far as is known.
        FROM unnest(everyone) h CROSS JOIN generate_series(0, 1 - 1) n
        LEFT JOIN LATERAL host.sample__cursors(h) l ON l.lane = n;
    -- What open leases have not settled. Should the rows of one not be as many as it says, its
    -- positions prove nothing, and all of it is in doubt.
    CREATE TEMP TABLE rebase_open AS
        SELECT l.handler_id, r.txid, r.id
        FROM host.sample__lease l
        CROSS JOIN LATERAL (
            SELECT coalesce(l.positions, int4multirange(int4range(0, l.row_count)))
                - coalesce(range_agg(t.settled), '{}') AS positions
            FROM host.sample__settlement t WHERE t.lease_id = l.id
        ) rest
        CROSS JOIN LATERAL (
            SELECT m.txid, m.id, row_number() OVER (ORDER BY m.txid, m.id)::int - 1 AS pos, count(*) OVER () AS row_count
            FROM pg_temp.rebase_row m
            WHERE m.restored AND (m.txid, m.id) > (l.from_txid, l.from_id) AND (m.txid, m.id) <= (l.to_txid, l.to_id)
                AND m.txid <@ l.txids
        ) r
        WHERE l.row_count > 0 AND (r.row_count <> l.row_count OR rest.positions @> r.pos)
            AND (SELECT t.rest FROM host.sample__settlement t
                WHERE t.lease_id = l.id AND t.lease_id / 100000000000 % 3 = l.id / 100000000000 % 3
                ORDER BY t.seq DESC LIMIT 1) IS DISTINCT FROM 0;
    CREATE INDEX ON pg_temp.rebase_open (handler_id, txid, id);

    CREATE TEMP TABLE rebase_message (LIKE queue.sample INCLUDING STORAGE, restored boolean);
    INSERT INTO pg_temp.rebase_message
            (id, txid, enqueued_at, run_at, origin, handler_id, attempt, headers, history, payload, expires_at, priority,
            key, restored)
        SELECT m.id, m.txid, m.enqueued_at, m.run_at, coalesce(m.origin, m.id), copy.handler_id, m.attempt, m.headers,
            m.history, m.payload, m.expires_at, m.priority, m.key, m.restored
        FROM pg_temp.rebase_row m
        CROSS JOIN LATERAL (SELECT ARRAY(
            SELECT k.handler_id FROM pg_temp.rebase_cursor k
            WHERE coalesce(m.handler_id = k.handler_id, true) AND NOT (
                m.restored AND k.hi IS NOT NULL AND txid_visible_in_snapshot(m.txid, k.hi)
                AND NOT (k.more AND m.txid <@ k.txids AND (m.txid, m.id) > (k.to_txid, k.to_id))
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

    SELECT * INTO STRICT c FROM host.sample__promotion ORDER BY id DESC LIMIT 1;
    CREATE TEMP TABLE rebase_schedule (LIKE host.sample__schedule INCLUDING STORAGE);
    INSERT INTO pg_temp.rebase_schedule
        SELECT s.* FROM host.sample__schedule s
        WHERE (NOT ((s.due, s.id) <= (c.due, c.schedule_id) AND txid_visible_in_snapshot(s.txid, c.hi)
                OR c.passed_due IS NOT NULL
                    AND host.was_passed(s.due, s.id, s.txid, c.passed_due, c.passed_id, c.passed_hi))
            OR s.txid <@ c.late_txids AND (s.txid, s.id) > (c.late_txid, c.late_id));
    GET DIAGNOSTICS scheduled = ROW_COUNT;

    -- A generation that no id belongs to: a logical copy may have come without its sequences.
    SELECT 1 + max(id) / 100000000000 INTO g FROM (
        SELECT last_value AS id FROM queue.sample_id_seq
        UNION ALL SELECT last_value FROM host.sample__lease_id_seq
        UNION ALL SELECT last_value FROM host.sample__promotion_id_seq
        UNION ALL SELECT max(greatest(id, origin)) FROM queue.sample
        UNION ALL SELECT max(id) FROM host.sample__lease
        UNION ALL SELECT max(id) FROM host.sample__promotion
        UNION ALL SELECT max(origin) FROM host.sample__schedule
        UNION ALL SELECT max(message_id) FROM host.sample__dead_letter
        UNION ALL SELECT max(message_id) FROM host.sample__unique) ids;
    IF to_regclass('host.sample__history') IS NOT NULL THEN
        g := greatest(g, (SELECT 1 + max(message_id) / 100000000000 FROM host.sample__history));
    END IF;
    TRUNCATE host.sample__message_0, host.sample__message_1, host.sample__message_2, host.sample__lease, host.sample__settlement,
        host.sample__promotion, host.sample__schedule;
    DELETE FROM host.partition_count WHERE queue_id = 1;
    PERFORM setval('queue.sample_id_seq', g * 100000000000 + 1, false),
        setval('host.sample__lease_id_seq', g * 100000000000 + 1, false),
        setval('host.sample__promotion_id_seq', g * 100000000000 + 1, false);

    INSERT INTO queue.sample (enqueued_at, run_at, origin, handler_id, attempt, headers, history, payload, expires_at, priority,
            key)
        SELECT enqueued_at, run_at, origin, handler_id, attempt, headers, history, payload, expires_at, priority, key
        FROM pg_temp.rebase_message ORDER BY restored DESC, txid, id;
    GET DIAGNOSTICS kept = ROW_COUNT;
    PERFORM host.require_kept(kept, (SELECT count(*) FROM pg_temp.rebase_message), 'queue.sample');
    INSERT INTO host.sample__schedule (due, slot, origin, enqueued_at, handler_id, attempt, headers, history, payload, expires_at,
            priority, key)
        SELECT due, host.slot(due, now()), origin, enqueued_at, handler_id, attempt, headers, history, payload, expires_at,
            priority, key
        FROM pg_temp.rebase_schedule ORDER BY due, id;
    GET DIAGNOSTICS kept = ROW_COUNT;
    PERFORM host.require_kept(kept, (SELECT count(*) FROM pg_temp.rebase_schedule), 'host.sample__schedule');
    INSERT INTO host.sample__promotion (due, schedule_id, hi, late_txids, late_txid, late_id, promoted)
        VALUES ('-infinity', 0, '1:1:', '{}', 0, 0, array_fill(0::bigint, ARRAY[21]));
    INSERT INTO host.sample__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
            row_count, leaves, is_cursor, more, token, hi, txids, lane, leased)
        SELECT host.cursor_seq(h, n), 0, 0, 0, 0, h, 0, 0, 0, true, false, gen_random_uuid(), '1:1:', '{}', n, '{0,0,0}'
        FROM unnest(everyone) h CROSS JOIN generate_series(0, 1 - 1) n;
    -- The key of a message that is not kept is free, whatever its register has missed.
    UPDATE host.sample__unique u SET settled_by = everyone
        WHERE NOT host.is_settled(1, u.taken_at, u.settled_by) AND u.message_id NOT IN (
            SELECT origin FROM pg_temp.rebase_message UNION ALL SELECT origin FROM pg_temp.rebase_schedule);
    DROP VIEW pg_temp.rebase_row;
    DROP TABLE pg_temp.rebase_leaf, pg_temp.rebase_cursor, pg_temp.rebase_open, pg_temp.rebase_message,
        pg_temp.rebase_schedule;
END $$;

CREATE FUNCTION host.sample__recut(p_lease bigint, p_missing integer) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
DECLARE
    l record;
    last_seq int;
    rest int4multirange;
    n int;
BEGIN
    SELECT * INTO STRICT l FROM host.sample__lease WHERE id = p_lease;
    SELECT max(t.seq), coalesce(l.positions, int4multirange(int4range(0, l.row_count))) - coalesce(range_agg(t.settled), '{}')
        INTO last_seq, rest FROM host.sample__settlement t WHERE t.lease_id = p_lease;
    n := l.row_count - p_missing;
    rest := (SELECT range_agg(int4range(greatest(lower(r) - p_missing, 0), least(upper(r), n)))
        FROM unnest(rest) r WHERE greatest(lower(r) - p_missing, 0) < least(upper(r), n));
    INSERT INTO host.sample__settlement (lease_id, seq, rest, settled, revoked)
        VALUES (p_lease, coalesce(last_seq, -1) + 1, 0, '{}', true);
    IF rest IS NOT NULL THEN
        -- Negative: chosen by the server, as in take_over. Nobody's (0) go by the lease that they
        -- continue, as in hand_on.
        INSERT INTO host.sample__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
                row_count, leaves, deaths, is_cursor, more, token, hi, txids, positions, lane, last_id, due)
            SELECT CASE WHEN l.session_id = 0 THEN p_lease ELSE -p_lease END, l.from_txid, l.from_id, l.to_txid, l.to_id,
                l.handler_id, l.session_id, n, l.leaves,
                l.deaths + (l.seq >= 0 AND s.lost IS TRUE)::int, false, false, gen_random_uuid(), l.hi, l.txids, rest,
                l.lane, l.last_id, l.due
            FROM (SELECT) one LEFT JOIN host.session s ON s.id = l.session_id;
    END IF;
END $$;

CREATE FUNCTION host.sample__refuse_missing(p_lease bigint) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
DECLARE
    missing int := host.sample__missing(p_lease);
BEGIN
    IF missing > 0 THEN
        RAISE EXCEPTION '% messages of lease % of queue "sample" were deleted by hand; the others are leased again', missing, p_lease
            USING ERRCODE = 'HQ002';
    END IF;
    RAISE EXCEPTION 'messages of lease % of queue "sample" cannot be read: something hides them', p_lease
        USING ERRCODE = 'HQ012',
            HINT = 'attach the partition again, or REINDEX TABLE queue.sample; until then they wait, and nothing of them is lost';
END $$;

CREATE FUNCTION host.sample__refused(p_handler integer, p_n integer DEFAULT 1000, OUT messages bigint, OUT why text) RETURNS record
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    SET enable_sort TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
    SELECT count(*), min(x.error) FROM (
        SELECT s.handler_id, s.history -> -1 ->> 'error' AS error FROM host.sample__schedule s
        WHERE (s.due, s.id) > (SELECT c.due, c.schedule_id FROM host.sample__promotion c ORDER BY c.id DESC LIMIT 1)
        ORDER BY s.due, s.id LIMIT p_n) x
    WHERE x.handler_id = p_handler AND (starts_with(x.error, 'cannot be put back on the queue: ')
        OR starts_with(x.error, 'the message cannot be read: '))
$$;

CREATE FUNCTION host.sample__release_keys(p_handler integer, p_messages bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    WITH mine AS MATERIALIZED (
        SELECT u.key FROM host.sample__unique u
        WHERE u.message_id = ANY (p_messages) AND p_handler <> ALL (u.settled_by)
            AND (u.settled_by = '{}' OR NOT host.is_settled(1, u.taken_at, u.settled_by))
        ORDER BY u.message_id FOR UPDATE
    )
    UPDATE host.sample__unique u SET settled_by = u.settled_by || p_handler FROM mine WHERE u.key = mine.key;
END $$;

CREATE FUNCTION host.sample__rotation(OUT used integer[], OUT full_one boolean) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
DECLARE
    present int;
BEGIN
    SELECT greatest(a.last_value, b.last_value, c.last_value) / 100000000000 % 3 INTO present
        FROM queue.sample_id_seq a, host.sample__lease_id_seq b, host.sample__promotion_id_seq c;
    SELECT coalesce(array_agg(leaf ORDER BY leaf) FILTER (WHERE leaf <> present AND bytes > 0), '{}'),
            bool_or(leaf = present AND bytes >= (SELECT rotate_bytes FROM host.queue WHERE id = 1))
        INTO used, full_one
        FROM (SELECT leaf, host.sample__leaf_bytes(leaf) AS bytes FROM generate_series(0, 2) leaf) l;
END $$;

CREATE FUNCTION host.sample__rows(p_session integer, p_seq bigint) RETURNS TABLE(pos integer, id bigint, enqueued_at timestamp with time zone, run_at timestamp with time zone, handler_id integer, attempt smallint, headers jsonb, history jsonb, payload jsonb, expires_at timestamp with time zone, priority smallint, key text)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_sort TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
#variable_conflict use_column
DECLARE
    l record;
    part record;
    done int := 0;
    n bigint;
BEGIN
    SELECT * INTO l FROM host.sample__lease l WHERE l.session_id = p_session AND l.seq = p_seq;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOR part IN SELECT * FROM host.parts_after(l.txids, l.from_txid, l.from_id) LOOP
        EXIT WHEN done >= l.row_count;
        IF l.positions IS NULL THEN
            RETURN QUERY
                SELECT NULL::int, coalesce(m.origin, m.id), m.enqueued_at, m.run_at,
                    m.handler_id, m.attempt, m.headers, m.history, m.payload, m.expires_at, m.priority, m.key
                FROM queue.sample m
                WHERE (m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
                    AND (m.txid, m.id) <= (l.to_txid, l.to_id)
                ORDER BY m.txid, m.id LIMIT l.row_count - done;
            GET DIAGNOSTICS n = ROW_COUNT;
        ELSE
            -- What is left of a lease that was taken over.
            RETURN QUERY
                SELECT m.* FROM (
                    SELECT done - 1 + (row_number() OVER (ORDER BY m.txid, m.id ROWS UNBOUNDED PRECEDING))::int AS pos, coalesce(m.origin, m.id), m.enqueued_at, m.run_at,
                        m.handler_id, m.attempt, m.headers, m.history, m.payload, m.expires_at, m.priority, m.key
                    FROM queue.sample m
                    WHERE (m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
                        AND (m.txid, m.id) <= (l.to_txid, l.to_id)
                    ORDER BY m.txid, m.id LIMIT l.row_count - done) m
                WHERE l.positions @> m.pos;
            SELECT count(*) INTO n FROM (
                SELECT FROM queue.sample m
                WHERE (m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
                    AND (m.txid, m.id) <= (l.to_txid, l.to_id)
                ORDER BY m.txid, m.id LIMIT l.row_count - done) m;
        END IF;
        done := done + n;
    END LOOP;
    IF done < l.row_count THEN
        PERFORM host.sample__refuse_missing(l.id);
    END IF;
END $$;

CREATE FUNCTION host.sample__runs(p_message bigint) RETURNS TABLE(handler_id integer, attempt smallint, history jsonb, passed boolean, lease_id bigint, session_id integer, leased_at timestamp with time zone, ended_at timestamp with time zone, what text, result bytea, due timestamp with time zone)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    AS $$
    WITH mine AS MATERIALIZED (
        SELECT m.txid, m.id, m.run_at, m.attempt, m.history, m.handler_id FROM queue.sample m WHERE m.id = p_message OR m.origin = p_message
    )
    SELECT h.id, m.attempt, m.history,
        txid_visible_in_snapshot(m.txid, c.hi)
            AND NOT (c.more AND m.txid <@ c.txids AND (m.txid, m.id) > (c.to_txid, c.to_id)),
        r.id, r.session_id, r.leased_at, r.settled_at, r.what, r.result, r.due
    FROM mine m
    JOIN host.handler h ON h.queue_id = 1 AND coalesce(m.handler_id = h.id, true)
    JOIN LATERAL host.sample__cursors(h.id) c ON true
    LEFT JOIN LATERAL (
        SELECT l.id, l.session_id, l.leased_at, l.due, t.settled_at, CASE
                WHEN t.lease_id IS NULL THEN 'open'
                WHEN NOT t.settled @> p.pos THEN 'taken over'
                WHEN t.removed @> p.pos THEN 'removed'
                WHEN t.parked > 0 AND m.run_at > l.leased_at THEN 'parked'
                ELSE 'settled'
            END AS what,
            t.results[array_position(t.result_pos, p.pos)] AS result
        FROM host.sample__lease l
        CROSS JOIN LATERAL (
            SELECT count(*)::int AS pos FROM queue.sample x WHERE x.txid <@ l.txids
                AND (x.txid, x.id) > (l.from_txid, l.from_id) AND (x.txid, x.id) < (m.txid, m.id)
        ) p
        LEFT JOIN LATERAL (
            SELECT s.* FROM host.sample__settlement s
            WHERE s.lease_id = l.id AND (s.settled @> p.pos OR s.revoked) ORDER BY s.seq LIMIT 1
        ) t ON true
        WHERE l.handler_id = h.id AND l.row_count > 0 AND m.txid <@ l.txids
            AND (m.txid, m.id) > (l.from_txid, l.from_id) AND (m.txid, m.id) <= (l.to_txid, l.to_id)
            AND coalesce(l.positions @> p.pos, true)
    ) r ON true
$$;

CREATE FUNCTION host.sample__scheduled(p_message bigint) RETURNS TABLE(handler_id integer, due timestamp with time zone, attempt smallint, enqueued_at timestamp with time zone, headers jsonb, history jsonb, payload text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET bytea_output TO 'hex'
    SET jit TO 'off'
    AS $$
    SELECT s.handler_id, s.due, s.attempt, s.enqueued_at, s.headers, s.history, s.payload::text
    FROM host.sample__schedule s
    CROSS JOIN (SELECT * FROM host.sample__promotion ORDER BY id DESC LIMIT 1) c
    WHERE s.origin = p_message
        AND (NOT ((s.due, s.id) <= (c.due, c.schedule_id) AND txid_visible_in_snapshot(s.txid, c.hi)
                OR c.passed_due IS NOT NULL
                    AND host.was_passed(s.due, s.id, s.txid, c.passed_due, c.passed_id, c.passed_hi))
            OR s.txid <@ c.late_txids AND (s.txid, s.id) > (c.late_txid, c.late_id))
$$;

CREATE FUNCTION host.sample__settle(p_lease bigint, p_session integer, p_token uuid, p_seq integer, p_settled int4multirange, p_retry_pos integer[] DEFAULT NULL::integer[], p_retry_delay_ms bigint[] DEFAULT NULL::bigint[], p_retry_entry jsonb[] DEFAULT NULL::jsonb[], p_park_pos integer[] DEFAULT NULL::integer[], p_dead_pos integer[] DEFAULT NULL::integer[], p_dead_reason text[] DEFAULT NULL::text[], p_dead_entry jsonb[] DEFAULT NULL::jsonb[], p_follow_up_queue text[] DEFAULT NULL::text[], p_follow_up_payload bytea[] DEFAULT NULL::bytea[], p_follow_up_headers jsonb[] DEFAULT NULL::jsonb[], p_follow_up_delay_ms bigint[] DEFAULT NULL::bigint[], p_removed int4multirange DEFAULT NULL::int4multirange, p_result_pos integer[] DEFAULT NULL::integer[], p_results bytea[] DEFAULT NULL::bytea[], p_follow_up_key text[] DEFAULT NULL::text[], p_follow_up_priority smallint[] DEFAULT NULL::smallint[], p_follow_up_unique_key text[] DEFAULT NULL::text[]) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET lock_timeout TO '5s'
    SET plan_cache_mode TO 'force_generic_plan'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
DECLARE
    l record;
    s record;
    rest_before int;
    ended timestamptz;
    kept bigint;
BEGIN
    SELECT * INTO l FROM host.sample__lease WHERE id = p_lease;
    -- The number alone proves nothing: after a crash an asynchronously committed lease's id can be
    -- given out again. The token cannot.
    IF NOT FOUND OR l.session_id <> p_session OR l.token <> p_token THEN
        RAISE EXCEPTION 'lease % is not held by session %', p_lease, p_session USING ERRCODE = 'HQ002';
    END IF;
    SELECT * INTO s FROM host.sample__settlement t WHERE t.lease_id = p_lease ORDER BY t.seq DESC LIMIT 1;
    IF s.revoked THEN
        RAISE EXCEPTION 'lease % was taken over', p_lease USING ERRCODE = 'HQ002';
    END IF;
    IF s.seq >= p_seq THEN
        IF EXISTS (SELECT FROM host.sample__settlement WHERE lease_id = p_lease AND seq = p_seq AND settled = p_settled) THEN
            RETURN false;
        END IF;
        RAISE EXCEPTION 'settlement % of lease % exists and is another', p_seq, p_lease USING ERRCODE = 'HQ002';
    END IF;
    rest_before := coalesce(s.rest, host.positions(l.positions), l.row_count);
    IF p_seq <> coalesce(s.seq, -1) + 1
        OR NOT int4multirange(int4range(0, l.row_count)) @> p_settled
        OR NOT coalesce(l.positions @> p_settled, true)
        OR (p_seq > 0 AND EXISTS (SELECT FROM host.sample__settlement WHERE lease_id = p_lease AND settled && p_settled)) THEN
        RAISE EXCEPTION 'settlement % of positions % does not follow on what lease % has settled', p_seq, p_settled, p_lease
            USING ERRCODE = 'HQ002';
    END IF;
    INSERT INTO host.sample__settlement (lease_id, seq, rest, settled, removed, result_pos, results, parked)
        VALUES (p_lease, p_seq, rest_before - host.positions(p_settled), p_settled, p_removed, p_result_pos, p_results,
            cardinality(p_park_pos))
        RETURNING settled_at INTO ended;

    IF p_retry_pos IS NOT NULL OR p_park_pos IS NOT NULL THEN
        INSERT INTO host.sample__schedule (due, slot, origin, enqueued_at, handler_id, attempt, headers, history, payload, expires_at, priority, key)
            SELECT again.due, host.slot(again.due, now()), m.id, m.enqueued_at, l.handler_id,
                m.attempt + again.attempts, m.headers,
                CASE WHEN again.entry IS NULL THEN m.history ELSE coalesce(m.history, '[]') || again.entry END,
                m.payload, m.expires_at, m.priority, m.key
            FROM host.sample__read(l.session_id, l.seq) m
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
            'host.sample__schedule');
    END IF;
    IF p_dead_pos IS NOT NULL THEN
        INSERT INTO host.sample__dead_letter (message_id, enqueued_at, handler_id, attempt, reason, error, headers, history, payload, priority, key)
            SELECT m.id, m.enqueued_at, l.handler_id, m.attempt, d.reason, d.entry ->> 'error', m.headers,
                coalesce(m.history, '[]') || d.entry, m.payload, m.priority, m.key
            FROM host.sample__read(l.session_id, l.seq) m
            JOIN unnest(p_dead_pos, p_dead_reason, p_dead_entry) d (pos, reason, entry) ON d.pos = m.pos
            ORDER BY m.pos;
        GET DIAGNOSTICS kept = ROW_COUNT;
        PERFORM host.require_kept(kept, cardinality(p_dead_pos), 'host.sample__dead_letter');
    END IF;
    IF p_removed IS NOT NULL THEN
        DELETE FROM host.cancellation c USING host.sample__read(l.session_id, l.seq) m
            WHERE c.handler_id = l.handler_id AND c.message_id = m.id AND p_removed @> m.pos;
    END IF;
    IF EXISTS (SELECT FROM host.queue q WHERE q.id = 1 AND q.keep_ms IS NOT NULL) THEN
        PERFORM host.sample__archive(p_lease, p_settled, ended, p_retry_pos || p_park_pos || p_dead_pos, p_removed,
            p_result_pos, p_results);
    END IF;
    IF false THEN
        -- What comes again is not done with, and another handler's retry is not ours.
        PERFORM host.sample__release_keys(l.handler_id, ARRAY(SELECT m.id FROM host.sample__read(l.session_id, l.seq) m
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

CREATE FUNCTION host.sample__settled(p_handler integer, p_n integer) RETURNS TABLE(id bigint, handler text, attempt smallint, enqueued_at timestamp with time zone, settled_at timestamp with time zone, removed boolean, headers jsonb, payload text, result bytea)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET bytea_output TO 'hex'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_sort TO 'off'
    AS $$
BEGIN
    IF to_regclass('host.sample__history') IS NOT NULL THEN
        RETURN QUERY
            SELECT k.message_id, k.handler, k.attempt, k.enqueued_at, k.settled_at, k.removed, k.headers, k.payload::text,
                k.result
            FROM host.sample__history k WHERE coalesce(k.handler_id = p_handler, true)
            ORDER BY k.settled_at DESC LIMIT p_n;
    END IF;
END $$;

CREATE FUNCTION host.sample__settled_lately(p_leaf integer) RETURNS TABLE(handler_id integer, settled_at timestamp with time zone, messages bigint)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_nestloop TO 'off'
    AS $_$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT l.handler_id, date_trunc(''second'', s.settled_at), sum(host.positions(s.settled) - coalesce(s.parked, 0))::bigint
        FROM host.sample__settlement_%1$s s JOIN host.sample__lease_%1$s l ON l.id = s.lease_id
        WHERE s.settled_at > $1 GROUP BY 1, 2', p_leaf) USING clock_timestamp() - interval '1 minute';
END $_$;

CREATE FUNCTION host.sample__slot_waits(p_slot integer, p_due timestamp with time zone, p_id bigint, p_hi txid_snapshot) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET enable_sort TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $_$
DECLARE
    waits boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM %1$s WHERE (due, id) > ($1, $2))'
        ' OR EXISTS (SELECT FROM %1$s WHERE txid >= $3) OR EXISTS (SELECT FROM %1$s WHERE txid = ANY ($4))',
        format('host.sample__schedule_%s', p_slot))
        INTO waits USING p_due, p_id, txid_snapshot_xmax(p_hi), ARRAY(SELECT txid_snapshot_xip(p_hi));
    RETURN waits;
END $_$;

CREATE FUNCTION host.sample__starts(p_handler integer, p_window int8multirange, p_txid bigint, p_id bigint, p_count integer, p_lane integer) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_sort TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
DECLARE
    part record;
    cut record;
    done int := 0;
    starts bigint := 0;
BEGIN
    FOR part IN SELECT * FROM host.parts_after(p_window, p_txid, p_id) LOOP
        EXIT WHEN done >= p_count;
        SELECT count(*) AS n, count(*) FILTER (WHERE coalesce(m.handler_id = p_handler, true)
                AND coalesce(m.run_at <= clock_timestamp(), true) AND coalesce(m.expires_at > clock_timestamp(), true)) AS starts
            INTO cut
            FROM (SELECT m.handler_id, m.run_at, m.expires_at FROM queue.sample m
                WHERE (m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
                ORDER BY m.txid, m.id LIMIT p_count - done) m;
        done := done + cut.n;
        starts := starts + cut.starts;
    END LOOP;
    RETURN starts;
END $$;

CREATE FUNCTION host.sample__stored(p_cap integer, OUT unhandled bigint, OUT scheduled bigint, OUT dead bigint, OUT bytes bigint) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET enable_sort TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
DECLARE
    c record;
    later bigint := 0;
    at timestamptz := clock_timestamp();
BEGIN
    unhandled := 0;
    IF NOT EXISTS (SELECT FROM host.handler WHERE queue_id = 1) THEN
        SELECT count(*) FILTER (WHERE coalesce(m.run_at <= at, true)), count(*) FILTER (WHERE m.run_at > at)
            INTO unhandled, later FROM (SELECT m.run_at FROM queue.sample m LIMIT p_cap) m;
    END IF;
    SELECT * INTO c FROM host.sample__promotion ORDER BY id DESC LIMIT 1;
    SELECT count(*) INTO scheduled FROM (
        SELECT FROM host.sample__schedule s
        WHERE (NOT ((s.due, s.id) <= (c.due, c.schedule_id) AND txid_visible_in_snapshot(s.txid, c.hi)
                OR c.passed_due IS NOT NULL
                    AND host.was_passed(s.due, s.id, s.txid, c.passed_due, c.passed_id, c.passed_hi))
            OR s.txid <@ c.late_txids AND (s.txid, s.id) > (c.late_txid, c.late_id))
        LIMIT p_cap) s;
    scheduled := scheduled + later;
    SELECT count(*) INTO dead FROM (SELECT FROM host.sample__dead_letter LIMIT p_cap) d;
    -- All that begin with sample__, by the index on their names: a thousand queues have a hundred
    -- thousand tables and indexes.
    SELECT sum(host.table_bytes(r.oid))::bigint INTO bytes FROM pg_class r
        WHERE r.relkind = 'r' AND r.relnamespace = 'host'::regnamespace AND r.relname >= 'sample__' AND r.relname < 'sample_`';
END $$;

CREATE FUNCTION host.sample__story(p_message bigint) RETURNS TABLE(at timestamp with time zone, handler text, attempt smallint, what text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    AS $$
    WITH runs AS MATERIALIZED (SELECT * FROM host.sample__runs(p_message)),
    -- Of what the logs have no more.
    kept AS MATERIALIZED (SELECT * FROM host.sample__kept(p_message) k
        WHERE NOT EXISTS (SELECT FROM runs r WHERE r.lease_id = k.lease_id AND r.handler_id = k.handler_id)),
    histories (handler_id, history) AS (
        SELECT r.handler_id, r.history FROM runs r
        UNION ALL SELECT s.handler_id, s.history FROM host.sample__scheduled(p_message) s
        UNION ALL SELECT d.handler_id, d.history FROM host.sample__dead_letter d WHERE d.message_id = p_message
        UNION ALL SELECT k.handler_id, k.history FROM kept k
    )
    SELECT e.at, h.name, e.attempt, e.what
    FROM (
        SELECT m.enqueued_at AS at, NULL::int AS handler_id, NULL::smallint AS attempt, 'enqueued' AS what
            FROM host.sample__message(p_message) m
        UNION ALL
        SELECT r.leased_at, r.handler_id, r.attempt, CASE WHEN r.due IS NOT NULL THEN format('lease %s by nobody, due %s', r.lease_id, r.due)
                WHEN r.session_id = 0 THEN format('lease %s, to purge it', r.lease_id)
                ELSE format('lease %s by %s/%s', r.lease_id, s.host_name, s.pid) END
            FROM (
                SELECT lease_id, session_id, leased_at, handler_id, attempt, due FROM runs WHERE lease_id IS NOT NULL
                UNION ALL SELECT lease_id, session_id, leased_at, handler_id, attempt, NULL FROM kept
            ) r LEFT JOIN host.session s ON s.id = r.session_id
        UNION ALL
        SELECT r.ended_at, r.handler_id, r.attempt, CASE r.what WHEN 'removed' THEN 'removed by an operator'
                WHEN 'parked' THEN 'not due yet: put on the schedule' ELSE r.what END
            FROM runs r WHERE r.ended_at IS NOT NULL
        UNION ALL
        SELECT k.settled_at, k.handler_id, k.attempt, CASE WHEN k.removed THEN 'removed by an operator' ELSE 'settled' END
            FROM kept k
        UNION ALL
        SELECT DISTINCT (x.entry ->> 'at')::timestamptz, t.handler_id, (x.entry ->> 'attempt')::smallint,
                format('failed%s%s: %s', ' on ' || (x.entry ->> 'host'), ', version ' || (x.entry ->> 'version'), x.entry ->> 'error')
            FROM histories t CROSS JOIN LATERAL jsonb_array_elements(t.history) x (entry)
        UNION ALL
        SELECT d.died_at, d.handler_id, d.attempt, format('dead letter %s: %s', d.id, d.reason)
            FROM host.sample__dead_letter d WHERE d.message_id = p_message
        UNION ALL
        SELECT c.cancelled_at, c.handler_id, NULL, format('cancelled by %s', c.cancelled_by)
            FROM host.cancellation c WHERE c.queue_id = 1 AND c.message_id = p_message
        UNION ALL
        SELECT s.due, s.handler_id, s.attempt, 'due' FROM host.sample__scheduled(p_message) s
    ) e
    LEFT JOIN host.handler h ON h.id = e.handler_id
    ORDER BY e.at, e.what <> 'enqueued', h.name
$$;

CREATE FUNCTION host.sample__strays(p_handler integer, p_session integer, p_limit integer) RETURNS SETOF bigint
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    AS $$
    SELECT l.id
    FROM host.session s
    JOIN host.sample__lease l ON l.session_id = s.id
    WHERE (s.ended_at IS NOT NULL
            -- A negative number is take_over's: what it left of one, which the session does not
            -- know of. One from the future: the clock was set back.
            OR (s.id = p_session AND (l.seq < 0
                OR l.leased_at NOT BETWEEN clock_timestamp() - interval '3 s' AND clock_timestamp() + interval '3 s')))
        AND l.handler_id = p_handler AND l.row_count > 0
        -- A probe for each: of a join without statistics Postgres makes one that compares every
        -- lease with every settlement.
        AND (SELECT t.rest FROM host.sample__settlement t
            WHERE t.lease_id = l.id AND t.lease_id / 100000000000 % 3 = l.id / 100000000000 % 3
            ORDER BY t.seq DESC LIMIT 1) IS DISTINCT FROM 0
    -- Its own last: it may have any number that it knows of.
    ORDER BY s.id = p_session, l.id LIMIT p_limit
$$;

CREATE FUNCTION host.sample__take_key() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    taken record;
    q record;
    free_at timestamptz;
BEGIN
    IF octet_length(NEW.unique_key) NOT BETWEEN 1 AND 512 THEN
        RAISE EXCEPTION 'unique_key has % bytes: use 1 to 512', octet_length(NEW.unique_key)
            USING ERRCODE = 'check_violation', SCHEMA = 'queue', TABLE = 'sample', COLUMN = 'unique_key';
    END IF;
    LOOP
        INSERT INTO host.sample__unique (key, message_id) VALUES (NEW.unique_key, NEW.id) ON CONFLICT (key) DO NOTHING;
        EXIT WHEN FOUND;
        SELECT * INTO taken FROM host.sample__unique u WHERE u.key = NEW.unique_key;
        -- Forgotten in between.
        CONTINUE WHEN NOT FOUND;
        SELECT x.unique_ms, x.on_duplicate INTO STRICT q FROM host.queue x WHERE x.id = 1;
        free_at := taken.taken_at + q.unique_ms * interval '1 ms';
        IF free_at > clock_timestamp() OR NOT host.is_settled(1, taken.taken_at, taken.settled_by) THEN
            IF q.on_duplicate = 'drop' THEN
                -- For who must have an id all the same: see orm.sql.
                PERFORM set_config('host.duplicate_of', taken.message_id::text, true);
                RETURN NULL;
            END IF;
            RAISE EXCEPTION 'unique_key "%" is taken by message % of queue "sample"', NEW.unique_key, taken.message_id
                USING ERRCODE = 'unique_violation', SCHEMA = 'queue', TABLE = 'sample', COLUMN = 'unique_key',
                    CONSTRAINT = 'unique_key', DETAIL = format('It was taken at %s, for %s at least, and until the message is settled.',
                        date_trunc('second', taken.taken_at), q.unique_ms * interval '1 ms'),
                    HINT = 'use another key, or have duplicates dropped: host queue set sample --on-duplicate drop';
        END IF;
        UPDATE host.sample__unique u SET message_id = NEW.id, taken_at = clock_timestamp(), settled_by = '{}'
            WHERE u.key = NEW.unique_key AND u.message_id = taken.message_id;
        EXIT WHEN FOUND;
    END LOOP;
    NEW.unique_key := NULL;
    RETURN NEW;
END $$;

CREATE FUNCTION host.sample__take_over(p_lease bigint, p_session integer, p_seq bigint, p_token uuid, p_n integer, p_deaths_max integer, OUT lease_id bigint, OUT row_count integer, OUT more boolean, OUT gone integer) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET lock_timeout TO '1s'
    SET plan_cache_mode TO 'force_generic_plan'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
DECLARE
    l record;
    s record;
    ended record;
    rest int4multirange;
    mine int4multirange;
    deaths int;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1752134404, 1);
    SELECT * INTO l FROM host.sample__lease WHERE id = p_lease;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lease % is gone', p_lease USING ERRCODE = 'HQ002';
    END IF;
    SELECT * INTO s FROM host.sample__settlement t WHERE t.lease_id = p_lease ORDER BY t.seq DESC LIMIT 1;
    SELECT * INTO ended FROM host.session x WHERE x.id = l.session_id;
    IF s.rest = 0 OR (ended.ended_at IS NULL AND l.session_id <> p_session) OR l.row_count = 0
        OR NOT EXISTS (SELECT FROM host.session x WHERE x.id = p_session AND x.ended_at IS NULL) THEN
        RAISE EXCEPTION 'lease % is not to be taken over', p_lease USING ERRCODE = 'HQ002';
    END IF;
    gone := host.sample__missing(p_lease);
    IF gone IS NULL THEN
        PERFORM host.sample__refuse_missing(p_lease);
    ELSIF gone > 0 THEN
        PERFORM host.sample__recut(p_lease, gone);
        RETURN;
    END IF;
    gone := NULL;
    INSERT INTO host.sample__settlement (lease_id, seq, rest, settled, revoked, heir_session, heir_seq)
        VALUES (p_lease, coalesce(s.seq, -1) + 1, 0, '{}', true, p_session, p_seq);
    rest := coalesce(l.positions, int4multirange(int4range(0, l.row_count)))
        - coalesce((SELECT range_agg(t.settled) FROM host.sample__settlement t WHERE t.lease_id = p_lease), '{}');
    deaths := l.deaths + CASE WHEN ended.lost AND NOT (l.seq < 0) THEN 1 ELSE 0 END;

    IF deaths >= p_deaths_max THEN
        PERFORM host.sample__bury_poison(l.session_id, l.seq, rest, deaths);
        RETURN;
    END IF;
    SELECT range_agg(int4range(x.pos, x.pos + 1)), count(*)::int INTO mine, row_count
        FROM (SELECT pos FROM unnest(rest) r, generate_series(lower(r), upper(r) - 1) pos
            ORDER BY pos LIMIT CASE WHEN deaths >= 2 THEN 1 ELSE p_n END) x;
    INSERT INTO host.sample__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
            row_count, leaves, deaths, is_cursor, more, token, hi, txids, positions, lane)
        VALUES (p_seq, l.from_txid, l.from_id, l.to_txid, l.to_id, l.handler_id, p_session,
            l.row_count, l.leaves, deaths, false, false, p_token, l.hi, l.txids, mine, l.lane)
        RETURNING id INTO lease_id;
    more := rest <> mine;
    IF more THEN
        -- Negative: chosen by the server, and its death is counted already.
        INSERT INTO host.sample__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
                row_count, leaves, deaths, is_cursor, more, token, hi, txids, positions, lane)
            VALUES (-p_lease, l.from_txid, l.from_id, l.to_txid, l.to_id, l.handler_id, l.session_id,
                l.row_count, l.leaves, deaths, false, false, gen_random_uuid(), l.hi, l.txids, rest - mine, l.lane);
    END IF;
END $$;

CREATE FUNCTION host.sample__truncate(p_leaf integer) RETURNS text
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    AS $$
    SELECT t.why FROM host.sample__try_truncate(p_leaf) t
$$;

CREATE FUNCTION host.sample__truncate_history() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET lock_timeout TO '20ms'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $_$
DECLARE
    truncated int := 0;
    oldest timestamptz;
    leaf text;
    is_needed boolean;
BEGIN
    PERFORM host.require_read_committed('truncating the history');
    IF to_regclass('host.sample__history') IS NULL THEN
        RETURN 0;
    END IF;
    SELECT clock_timestamp() - coalesce(keep_ms, 0) * interval '1 ms' INTO STRICT oldest FROM host.queue WHERE id = 1;
    FOR slot IN 0..11 LOOP
        leaf := format('host.sample__history_%s', slot);
        CONTINUE WHEN pg_relation_size(leaf::regclass) = 0;
        -- First without a lock, which who settles might wait for.
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE settled_at >= $1)', leaf) INTO is_needed USING oldest;
        CONTINUE WHEN is_needed;
        BEGIN
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', leaf);
            EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE settled_at >= $1)', leaf) INTO is_needed USING oldest;
            IF NOT is_needed THEN
                EXECUTE format('TRUNCATE %s', leaf);
                truncated := truncated + 1;
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            NULL;  -- Somebody reads it: next time.
        END;
    END LOOP;
    RETURN truncated;
END $_$;

CREATE FUNCTION host.sample__truncate_schedule() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET lock_timeout TO '20ms'
    SET enable_sort TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $$
DECLARE
    truncated int := 0;
    width bigint := 60;
    slot int;
    leaf text;
    c record;
    counted record;
    account bigint[];
BEGIN
    PERFORM host.require_read_committed('truncating the schedule');
    IF NOT pg_try_advisory_xact_lock(1752134403, 1) THEN
        RETURN 0;
    END IF;
    SELECT * INTO c FROM host.sample__promotion ORDER BY id DESC LIMIT 1;
    IF NOT isempty(c.late_txids) OR NOT host.is_whole('host.sample__schedule'::regclass, 21) THEN
        RETURN 0;
    END IF;
    account := coalesce(c.promoted, array_fill(NULL::bigint, ARRAY[21]));
    FOR level IN 0..6 LOOP
        -- The bucket before the present one has the leaf that comes after the next one's.
        slot := level * 3 + (extract(epoch FROM now())::bigint / width + 2) % 3;
        leaf := format('host.sample__schedule_%s', slot);
        width := width * 16;
        IF pg_relation_size(leaf::regclass) = 0 THEN
            account[slot + 1] := 0;
            CONTINUE;
        END IF;
        CONTINUE WHEN host.sample__slot_waits(slot, c.due, c.schedule_id, c.hi)
            OR (SELECT n.why IS NOT NULL FROM host.sample__count('schedule', slot) n);
        SELECT n.hi, n.messages INTO STRICT counted FROM host.partition_count n
            WHERE n.queue_id = 1 AND n.kind = 'schedule' AND n.leaf = slot;
        -- What has come since it was looked at is no loss.
        CONTINUE WHEN host.sample__slot_waits(slot, c.due, c.schedule_id, c.hi);
        IF counted.messages > account[slot + 1] THEN
            UPDATE host.partition_count n SET missed = counted.messages - account[slot + 1]
                WHERE n.queue_id = 1 AND n.kind = 'schedule' AND n.leaf = slot
                    AND n.missed IS DISTINCT FROM counted.messages - account[slot + 1];
            CONTINUE;
        END IF;
        BEGIN
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', leaf);
            IF NOT host.sample__slot_waits(slot, c.due, c.schedule_id, c.hi)
                AND NOT host.sample__has_later('schedule', slot, counted.hi)
                AND host.dump_at_work(ARRAY[leaf]::regclass[]) IS NULL THEN
                EXECUTE format('TRUNCATE %s', leaf);
                DELETE FROM host.partition_count n WHERE n.queue_id = 1 AND n.kind = 'schedule' AND n.leaf = slot;
                account[slot + 1] := 0;
                truncated := truncated + 1;
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            NULL;  -- Somebody reads it: next time.
        END;
    END LOOP;
    IF account IS DISTINCT FROM c.promoted THEN
        PERFORM host.sample__note_promoted(account);
    END IF;
    RETURN truncated;
END $$;

CREATE FUNCTION host.sample__try_truncate(p_leaf integer, OUT why text, OUT again boolean) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET lock_timeout TO '20ms'
    AS $_$
DECLARE
    dump int;
    h record;
    pace jsonb;
    counted txid_snapshot;
BEGIN
    again := false;
    PERFORM host.require_read_committed('truncating a partition');
    IF p_leaf = (SELECT last_value / 100000000000 % 3 FROM queue.sample_id_seq)
        OR p_leaf = (SELECT last_value / 100000000000 % 3 FROM host.sample__lease_id_seq)
        OR p_leaf = (SELECT last_value / 100000000000 % 3 FROM host.sample__promotion_id_seq) THEN
        why := 'it is the present one';
        RETURN;
    END IF;
    why := host.sample__holds(p_leaf);
    IF why IS NULL THEN
        SELECT c.why, c.again INTO why, again FROM host.sample__count('message', p_leaf) c;
    END IF;
    IF why IS NOT NULL THEN
        RETURN;
    END IF;
    IF NOT pg_try_advisory_xact_lock(1752134404, 1) THEN
        why := 'another host is rotating';
        RETURN;
    END IF;
    FOR h IN SELECT id, name FROM host.handler WHERE queue_id = 1 ORDER BY id LOOP
        IF NOT pg_try_advisory_xact_lock(1752134402, h.id) THEN
            why := format('handler "%s" is leasing', h.name);
            RETURN;
        END IF;
    END LOOP;
    why := coalesce(host.sample__holds(p_leaf), host.sample__missed(p_leaf));
    IF why IS NOT NULL THEN
        RETURN;
    END IF;
    -- Nothing is settled in it any more.
    pace := (SELECT jsonb_agg(s) FROM host.sample__settled_lately(p_leaf) s);
    BEGIN
        EXECUTE format('LOCK TABLE host.sample__promotion_%1$s, host.sample__lease_%1$s, host.sample__settlement_%1$s,'
            ' host.sample__message_%1$s IN ACCESS EXCLUSIVE MODE', p_leaf);
    EXCEPTION WHEN lock_not_available THEN
        why := host.sample__readers(p_leaf);
        RETURN;
    END;
    dump := host.dump_at_work(ARRAY[format('host.sample__promotion_%s', p_leaf), format('host.sample__lease_%s', p_leaf),
        format('host.sample__settlement_%s', p_leaf), format('host.sample__message_%s', p_leaf)]::regclass[]);
    IF dump IS NOT NULL THEN
        why := format('process %s (pg_dump) may be about to read it', dump);
        RETURN;
    END IF;
    FOR h IN SELECT id, name FROM host.handler WHERE queue_id = 1 LOOP
        IF host.sample__beyond_cursor(p_leaf, h.id) THEN
            why := format('handler "%s" has late messages in it', h.name);
            RETURN;
        END IF;
    END LOOP;
    SELECT c.hi INTO counted FROM host.partition_count c
        WHERE c.queue_id = 1 AND c.kind = 'message' AND c.leaf = p_leaf;
    IF counted IS NULL OR host.sample__has_later('message', p_leaf, counted) THEN
        why := 'a message came to it while they were counted';
        RETURN;
    END IF;
    EXECUTE format('TRUNCATE host.sample__message_%1$s, host.sample__lease_%1$s, host.sample__settlement_%1$s,'
        ' host.sample__promotion_%1$s', p_leaf);
    DELETE FROM host.pace WHERE queue_id = 1 AND settled_at < clock_timestamp() - interval '1 minute';
    INSERT INTO host.pace (queue_id, handler_id, settled_at, messages)
        SELECT 1, p.handler_id, p.settled_at, p.messages
        FROM jsonb_to_recordset(pace) p (handler_id int, settled_at timestamptz, messages bigint);
    DELETE FROM host.partition_count c
        WHERE c.queue_id = 1 AND c.kind = 'message' AND c.leaf = p_leaf;
END $_$;

CREATE FUNCTION host.sample__wake() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    IF pg_sequence_last_value('host.sample__asleep'::regclass) = 1 THEN
        PERFORM pg_notify('host_wake', 'sample');
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION host.sample__whereabouts(p_message bigint) RETURNS TABLE(handler_id integer, handler text, state text, at timestamp with time zone, whose text, attempt smallint, cancelled boolean, result bytea)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    AS $$
    SELECT DISTINCT ON (x.name) w.handler_id, x.name, w.state, w.at, w.whose, w.attempt,
        EXISTS (SELECT FROM host.cancellation c WHERE c.handler_id = w.handler_id AND c.message_id = p_message), w.result
    FROM (
        SELECT CASE WHEN NOT r.passed THEN 2 WHEN r.what = 'open' THEN 1 WHEN r.what = 'removed' THEN 5 ELSE 6 END AS rank,
            CASE WHEN NOT r.passed OR r.what = 'open' AND r.session_id = 0 THEN 'waiting' WHEN r.what = 'open' THEN 'in flight' WHEN r.what = 'removed' THEN r.what ELSE 'settled' END AS state,
            r.handler_id, NULL AS handler, coalesce(r.ended_at, r.leased_at) AS at, format('%s/%s', s.host_name, s.pid) AS whose,
            r.attempt, r.result
        FROM host.sample__runs(p_message) r LEFT JOIN host.session s ON s.id = r.session_id
        UNION ALL
        SELECT 3, 'scheduled', x.id, NULL, s.due, NULL, s.attempt, NULL FROM host.sample__scheduled(p_message) s
            JOIN host.handler x ON x.queue_id = 1 AND coalesce(s.handler_id = x.id, true)
        UNION ALL
        SELECT 4, 'dead', d.handler_id, NULL, d.died_at, d.id::text, d.attempt, NULL FROM host.sample__dead_letter d
            WHERE d.message_id = p_message
        UNION ALL
        SELECT CASE WHEN k.removed THEN 5 ELSE 6 END, CASE WHEN k.removed THEN 'removed' ELSE 'settled' END, k.handler_id,
            k.handler, k.settled_at, format('%s/%s', s.host_name, s.pid), k.attempt, k.result
        FROM host.sample__kept(p_message) k LEFT JOIN host.session s ON s.id = k.session_id
    ) w
    LEFT JOIN host.handler h ON h.id = w.handler_id
    -- The history knows the names of handlers that were removed.
    CROSS JOIN LATERAL (SELECT coalesce(h.name, w.handler) AS name) x
    WHERE x.name IS NOT NULL
    ORDER BY x.name, w.rank, w.at DESC
$$;

CREATE FUNCTION host.secrets() RETURNS TABLE(name text, set_at timestamp with time zone, set_by text, granted_to text[])
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT s.name, s.set_at, s.set_by,
        ARRAY(SELECT format('%s/%s', q.name, h.name)
            FROM host.handler h
            JOIN host.queue q ON q.id = h.queue_id
            JOIN host.handler_version v ON v.handler_id = h.id AND v.version = h.version
            WHERE s.name = ANY (v.secrets) ORDER BY 1)
    FROM host.secret s ORDER BY s.name
$$;

CREATE FUNCTION host.server_clock() RETURNS timestamp with time zone
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT clock_timestamp()
$$;

CREATE FUNCTION host.sessions() RETURNS TABLE(id integer, host_name text, pid integer, host_version text, started_at timestamp with time zone, connected boolean, beat_age_ms bigint, late text)
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT s.id, s.host_name, s.pid, s.host_version, s.started_at,
        EXISTS (SELECT FROM pg_locks k WHERE k.locktype = 'advisory' AND k.classid = 1752134401
            AND k.objid::bigint = s.id AND k.objsubid = 2 AND k.granted
            AND k.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())),
        (extract(epoch FROM clock_timestamp() - newest.beat_at) * 1000)::bigint, newest.late
    FROM host.session s
    LEFT JOIN LATERAL (SELECT b.beat_at, b.late FROM host.heartbeat b
        WHERE b.session_id = s.id ORDER BY b.beat DESC LIMIT 1) newest ON true
    WHERE s.ended_at IS NULL ORDER BY s.id
$$;

CREATE FUNCTION host.set_keep(p_queue text, p_keep_ms bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    q host.queue;
BEGIN
    UPDATE host.queue SET keep_ms = p_keep_ms WHERE name = p_queue RETURNING * INTO q;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue "%"', p_queue USING ERRCODE = 'HQ004';
    END IF;
    -- Once there, it stays: who settles does not wait to see whether it is still wanted.
    IF p_keep_ms IS NOT NULL AND to_regclass(format('host.%I', p_queue || '__history')) IS NULL THEN
        EXECUTE host.render('history.sql', q);
        PERFORM host.grant_privileges(p_queue);
        PERFORM host.put_comments(p_queue);
    END IF;
END $$;

CREATE FUNCTION host.set_limits(p_queue text, p_fleet_concurrency integer, p_rate_count integer, p_rate_ms bigint, p_rate_burst integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '1s'
    AS $$
DECLARE
    before host.queue;
BEGIN
    SELECT * INTO before FROM host.queue WHERE name = p_queue FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue "%"', p_queue USING ERRCODE = 'HQ004';
    END IF;
    IF before.ordered_lanes IS NOT NULL THEN
        RAISE EXCEPTION 'queue "%" keeps an order, and such a queue takes no limits yet: make one without --ordered for it (with --per-key, it has limits for each key)', p_queue;
    END IF;
    UPDATE host.queue SET fleet_concurrency = p_fleet_concurrency, rate_count = p_rate_count, rate_ms = p_rate_ms,
            rate_burst = p_rate_burst
        WHERE name = p_queue;
    IF host.is_limited(before) <> (SELECT host.is_limited(q) FROM host.queue q WHERE q.name = p_queue) THEN
        PERFORM host.apply_queue_functions(p_queue);
    END IF;
END $$;

CREATE FUNCTION host.set_queue(p_queue text, p_max_attempts integer DEFAULT NULL::integer, p_backoff_base_ms bigint DEFAULT NULL::bigint, p_backoff_cap_ms bigint DEFAULT NULL::bigint, p_delays_ms bigint[] DEFAULT NULL::bigint[], p_payload_bytes_max bigint DEFAULT NULL::bigint, p_rotate_bytes bigint DEFAULT NULL::bigint, p_rotate_age_ms bigint DEFAULT NULL::bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET lock_timeout TO '1s'
    AS $$
DECLARE
    before host.queue;
    q host.queue;
    remaining text;
BEGIN
    PERFORM host.require_read_committed('changing a queue');
    SELECT * INTO before FROM host.queue WHERE name = p_queue FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue "%"', p_queue USING ERRCODE = 'HQ004';
    END IF;
    IF p_delays_ms IS NOT NULL AND num_nonnulls(p_backoff_base_ms, p_backoff_cap_ms) > 0 THEN
        RAISE EXCEPTION 'queue "%" waits by delays or by a backoff, not by both', p_queue
            USING ERRCODE = '22023', HINT = 'give p_delays_ms, or p_backoff_base_ms and p_backoff_cap_ms';
    END IF;
    UPDATE host.queue x SET
        max_attempts = coalesce(p_max_attempts, x.max_attempts),
        backoff_base_ms = coalesce(p_backoff_base_ms, x.backoff_base_ms),
        backoff_cap_ms = coalesce(p_backoff_cap_ms, x.backoff_cap_ms),
        delays_ms = CASE WHEN num_nonnulls(p_backoff_base_ms, p_backoff_cap_ms) = 0 THEN coalesce(p_delays_ms, x.delays_ms) END,
        payload_bytes_max = coalesce(p_payload_bytes_max, x.payload_bytes_max),
        rotate_bytes = coalesce(p_rotate_bytes, x.rotate_bytes),
        rotate_age_ms = coalesce(p_rotate_age_ms, x.rotate_age_ms)
        WHERE x.id = before.id RETURNING * INTO q;
    IF q.payload_bytes_max = before.payload_bytes_max THEN
        RETURN;
    END IF;
    EXECUTE format('LOCK TABLE queue.%I IN ACCESS EXCLUSIVE MODE', p_queue);
    IF q.payload_bytes_max < before.payload_bytes_max THEN
        SELECT concat_ws(', ', nullif(s.waiting, 0) || ' waiting', nullif(s.in_flight, 0) || ' in flight',
                nullif(s.scheduled, 0) || ' scheduled', nullif(s.dead, 0) || ' dead')
            INTO remaining FROM host.queue_status(p_queue) s;
        IF remaining <> '' THEN
            RAISE EXCEPTION 'the largest payload of queue "%" cannot shrink from % to % bytes while it has messages: %',
                    p_queue, before.payload_bytes_max, q.payload_bytes_max, remaining
                USING ERRCODE = 'HQ005', HINT = 'a larger one of them could not be retried: lower the limit when the queue is empty';
        END IF;
    END IF;
    -- NOT VALID: nothing is scanned under the lock. What is there fulfils it.
    EXECUTE format('ALTER TABLE queue.%I DROP CONSTRAINT payload_is_at_most_%s_bytes, ADD CONSTRAINT payload_is_at_most_%s_bytes CHECK (%s) NOT VALID',
        p_queue, before.payload_bytes_max, q.payload_bytes_max, host.payload_check(q));
    PERFORM host.apply_queue_functions(p_queue);
END $$;

CREATE FUNCTION host.set_secret(p_name text, p_value text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
DECLARE
    was_there boolean;
BEGIN
    IF p_name IS NULL OR p_name !~ '^[A-Za-z][A-Za-z0-9_.-]{0,63}$' THEN
        RAISE EXCEPTION '% is not the name of a secret', quote_nullable(p_name) USING ERRCODE = '22023';
    END IF;
    IF p_value IS NULL OR octet_length(p_value) NOT BETWEEN 1 AND 65536 THEN
        RAISE EXCEPTION 'the value of secret "%" has % bytes: 1 to 65536 are kept', p_name,
            coalesce(octet_length(p_value), 0) USING ERRCODE = '22023';
    END IF;
    SELECT EXISTS (SELECT FROM host.secret WHERE name = p_name) INTO was_there;
    INSERT INTO host.secret (name, value) VALUES (p_name, p_value)
        ON CONFLICT (name) DO UPDATE SET value = p_value, set_at = now(), set_by = current_user;
    RETURN NOT was_there;
END $_$;

CREATE FUNCTION host.set_unique(p_queue text, p_unique_ms bigint, p_on_duplicate text DEFAULT 'drop'::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '1s'
    AS $$
DECLARE
    before bigint;
    turned boolean;
BEGIN
    SELECT unique_ms INTO before FROM host.queue WHERE name = p_queue FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue "%"', p_queue USING ERRCODE = 'HQ004';
    END IF;
    turned := (before IS NULL) <> (p_unique_ms IS NULL);
    IF turned THEN
        EXECUTE format('LOCK TABLE queue.%I IN ACCESS EXCLUSIVE MODE', p_queue);
    END IF;
    UPDATE host.queue SET unique_ms = p_unique_ms, on_duplicate = p_on_duplicate WHERE name = p_queue;
    IF turned THEN
        PERFORM host.apply_queue_functions(p_queue);
        EXECUTE format('TRUNCATE host.%I', p_queue || '__unique');
    END IF;
END $$;

CREATE FUNCTION host.set_wake_up(p_queue text, p_wake_up boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '1s'
    AS $$
BEGIN
    PERFORM FROM host.queue WHERE name = p_queue FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue "%"', p_queue USING ERRCODE = 'HQ004';
    END IF;
    EXECUTE format('ALTER TABLE queue.%I %s TRIGGER wake', p_queue, CASE WHEN p_wake_up THEN 'ENABLE' ELSE 'DISABLE' END);
    UPDATE host.queue SET wake_up = p_wake_up WHERE name = p_queue;
END $$;

CREATE FUNCTION host.shape(p_queue text DEFAULT NULL::text) RETURNS TABLE(queue text, part text, line text)
    LANGUAGE sql STABLE
    SET "IntervalStyle" TO 'postgres'
    SET "DateStyle" TO 'ISO, MDY'
    SET quote_all_identifiers TO 'off'
    SET standard_conforming_strings TO 'on'
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $_$
    WITH q AS MATERIALIZED (
        SELECT x.name, x.payload_type, x.payload_bytes_max, x.wake_up, host.lanes(x) AS lanes
        FROM host.queue x WHERE p_queue IS NULL OR x.name = p_queue
    ), rel AS MATERIALIZED (
        -- A queue's name has no two underscores in a row.
        SELECT q.name, q.payload_type, q.payload_bytes_max, q.wake_up, q.lanes, c.oid, c.relkind, c.relispartition,
            c.relpartbound, split_part(c.relname, '__', 2) AS suffix,
            format('%s.{q}%s', n.nspname, substr(c.relname, length(q.name) + 1)) AS called
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN ('host', 'queue')
        JOIN q ON q.name = split_part(c.relname, '__', 1)
        WHERE c.relkind IN ('r', 'p', 'v', 'S')
    ), index AS MATERIALIZED (
        -- Postgres opens a table to write down an index. So this is done once for all that are the
        -- same in the catalog; where an expression says which column, in the same table.
        SELECT r.name, r.suffix, r.called, i.indexrelid, i.indisunique, i.indisvalid, concat_ws('|', r.called, ic.relam, ic.reloptions,
            to_jsonb(i) - '{indexrelid,indrelid,indpred,indexprs,indcheckxmin,indisvalid,indisready,indisclustered}'::text[],
            (SELECT string_agg(a.attname, ',' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = i.indexrelid),
            CASE WHEN num_nonnulls(i.indpred, i.indexprs) > 0 THEN
                regexp_replace(concat_ws('|', i.indpred, i.indexprs), ':location -?[0-9]+', '', 'g')
                    || (SELECT string_agg(a.attname, ',' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = i.indrelid)
            END) AS raw
        FROM rel r JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class ic ON ic.oid = i.indexrelid
        -- What hangs on an index of the whole cannot be dropped alone.
        WHERE NOT ic.relispartition
    ), line (queue, suffix, line) AS (
        SELECT r.name, r.suffix, concat_ws(' ',
            CASE r.relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE 'table' END,
            -- It names no column, so its table need not be opened.
            r.called, pg_get_expr(r.relpartbound, 0))
        FROM rel r
        UNION ALL
        SELECT r.name, r.suffix, concat_ws(' ', 'column', r.called || '.' || a.attname,
            -- By its settings, which differ.
            CASE WHEN a.attname = 'payload' AND format_type(a.atttypid, a.atttypmod) = r.payload_type THEN '{payload}'
                ELSE format_type(a.atttypid, a.atttypmod) END,
            CASE WHEN a.attnotnull THEN 'NOT NULL' END,
            CASE WHEN a.attidentity <> '' THEN 'identity ' || a.attidentity::text END,
            CASE WHEN a.attgenerated <> '' THEN 'generated' END,
            replace(pg_get_expr(d.adbin, d.adrelid), format('(%s)::bigint', r.lanes - 1), '({lanes} - 1)'))
        FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE NOT r.relispartition AND r.relkind <> 'S'
        UNION ALL
        -- The names of indexes differ between a new queue and one that was migrated.
        SELECT i.name, i.suffix, format('index: CREATE %sINDEX ON %s%s%s', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END, i.called,
            d.text, CASE WHEN i.indisvalid THEN '' ELSE ', which is not valid' END)
        FROM index i JOIN (SELECT x.raw, pg_get_indexdef(min(x.indexrelid)) AS def FROM index x GROUP BY x.raw) x USING (raw)
        CROSS JOIN substr(x.def, strpos(x.def, ' USING ')) d (text)
        UNION ALL
        SELECT r.name, r.suffix, CASE
            WHEN k.conname = format('payload_is_at_most_%s_bytes', r.payload_bytes_max) THEN
                format('check %s payload_is_at_most_{payload_bytes_max}_bytes', r.called)
            ELSE format('check %s %s %s', r.called, k.conname, regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', ''))
            END
        FROM rel r JOIN pg_constraint k ON k.conrelid = r.oid AND k.contype = 'c' AND k.conislocal
        UNION ALL
        SELECT r.name, CASE t.tgname WHEN 'take_key' THEN 'unique key' ELSE r.suffix END,
            concat_ws(' ', 'trigger', t.tgname, 'on', r.called, 'type', t.tgtype::text, 'calls',
                format('%s.%s', p.pronamespace::regnamespace,
                    CASE WHEN starts_with(p.proname, r.name || '__') THEN '{q}' || substr(p.proname, length(r.name) + 1)
                        ELSE p.proname END),
                CASE WHEN (t.tgenabled = 'O') <> (t.tgname <> 'wake' OR r.wake_up) THEN ', enabled ' || t.tgenabled::text END)
        FROM rel r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal AND t.tgparentid = 0
        JOIN pg_proc p ON p.oid = t.tgfoid
    )
    SELECT l.queue, CASE
            WHEN l.suffix = 'unique key' THEN 'unique'
            WHEN l.suffix ~ '^history(_[0-9]+)?(_id_seq)?$' THEN 'history'
            ELSE 'queue'
        END, l.line
    FROM line l
$_$;

CREATE FUNCTION host.slot(due timestamp with time zone, at timestamp with time zone) RETURNS smallint
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    due_s bigint := extract(epoch FROM greatest(due, at));
    at_s bigint := extract(epoch FROM at);
    width bigint := 60;
BEGIN
    FOR level IN 0..6 LOOP
        IF due_s / width <= at_s / width + 1 THEN
            RETURN level * 3 + due_s / width % 3;
        END IF;
        width := width * 16;
    END LOOP;
    RAISE EXCEPTION 'due time % is more than 30 years away', due;
END $$;

CREATE FUNCTION host.status(p_cap integer DEFAULT 1000000) RETURNS TABLE(queue text, paused boolean, waiting bigint, in_flight bigint, scheduled bigint, dead bigint, last_minute bigint, bytes bigint, handlers text[], held text[], lag jsonb)
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT * FROM host.status_of_each(ARRAY(SELECT q.name FROM host.queue q ORDER BY q.name), p_cap)
$$;

CREATE FUNCTION host.status_of(p_queue text, p_cap integer DEFAULT 1000000) RETURNS TABLE(queue text, paused boolean, waiting bigint, in_flight bigint, scheduled bigint, dead bigint, last_minute bigint, bytes bigint, handlers text[], held text[], lag jsonb)
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT q.name, q.paused, s.waiting, s.in_flight, s.scheduled, s.dead, s.last_minute, s.bytes,
        ARRAY(SELECT format('%s v%s', h.name, h.version) FROM host.handler h WHERE h.queue_id = q.id ORDER BY h.name),
        ARRAY(SELECT format('%s is detached, and hides its messages: %s', d.partition, d.remedy) FROM host.detached(q.name) d)
            || ARRAY(SELECT format('leaf %s: %s', l.leaf, l.why) FROM host.queue_holds(q.name) l), s.lag
    FROM host.queue q CROSS JOIN LATERAL host.queue_status(q.name, p_cap) s
    WHERE q.name = p_queue
$$;

CREATE FUNCTION host.status_of_each(p_queues text[], p_cap integer DEFAULT 1000000, p_idle boolean DEFAULT false) RETURNS TABLE(queue text, paused boolean, waiting bigint, in_flight bigint, scheduled bigint, dead bigint, last_minute bigint, bytes bigint, handlers text[], held text[], lag jsonb)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '2s'
    AS $$
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

CREATE FUNCTION host.table_bytes(p_table oid) RETURNS bigint
    LANGUAGE sql
    BEGIN ATOMIC
 SELECT
         CASE
             WHEN (pg_relation_size((p_table)::regclass) > 0) THEN pg_total_relation_size((p_table)::regclass)
             ELSE (0)::bigint
         END AS "case";
END;

CREATE FUNCTION host.templates_since(p_directory text, p_version integer) RETURNS text[]
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT array_agg(t.name) FROM host.template t
    WHERE starts_with(t.name, p_directory || '/') AND substr(t.name, length(p_directory) + 2, 4)::int > p_version
$$;

CREATE FUNCTION host.terminate(p_pid integer) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    PERFORM pg_terminate_backend(p_pid);
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'process % is another role''s: it stays', p_pid;
END $$;

CREATE FUNCTION host.truncate_heartbeat() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '20ms'
    AS $$
DECLARE
    leaf regclass := format('host.heartbeat_%s', (extract(epoch FROM now())::bigint / 3600 + 1) % 3);
BEGIN
    IF pg_relation_size(leaf) > 0 THEN
        EXECUTE format('TRUNCATE %s', leaf);
    END IF;
END $$;

CREATE FUNCTION host.txid_window(lo txid_snapshot, hi txid_snapshot) RETURNS int8multirange
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    late int8multirange;
    open int8multirange;
BEGIN
    IF txid_snapshot_xmax(hi) < txid_snapshot_xmax(lo) THEN
        RAISE EXCEPTION 'transaction ids went back from % to %: this database was restored from a dump or a logical copy',
            txid_snapshot_xmax(lo), txid_snapshot_xmax(hi)
            USING HINT = 'run `host migrate --restored`, when the restore is complete', ERRCODE = 'HQ003';
    END IF;
    SELECT range_agg(int8range(x, x + 1)) INTO late
        FROM txid_snapshot_xip(lo) x WHERE txid_visible_in_snapshot(x, hi);
    SELECT range_agg(int8range(x, x + 1)) INTO open FROM txid_snapshot_xip(hi) x;
    RETURN coalesce(late, '{}')
        + (int8multirange(int8range(txid_snapshot_xmax(lo), txid_snapshot_xmax(hi))) - coalesce(open, '{}'));
END $$;

CREATE FUNCTION host.unfinished() RETURNS TABLE(queue text, handler text)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET row_security TO 'off'
    SET jit TO 'off'
    AS $_$
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
END $_$;

CREATE FUNCTION host.upgrade_queue(p_name text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET check_function_bodies TO 'off'
    AS $$
DECLARE
    q host.queue;
    have int;
    want int := (SELECT max(m.version) FROM host.migration m);
    steps text[];
BEGIN
    -- Not FOR UPDATE: a deployment does not wait. A change of the settings does.
    SELECT * INTO q FROM host.queue WHERE name = p_name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT m.version INTO STRICT have FROM host.migration_queue m WHERE m.queue_id = q.id;
    PERFORM host.run_templates(q, host.templates_since('drops', have));
    PERFORM host.run_templates(q, host.function_templates(q));
    -- Hosts at work call the new functions as soon as this commits.
    PERFORM host.grant_privileges(p_name);
    steps := host.templates_since('migrations', have);
    IF steps IS NOT NULL THEN
        EXECUTE format('LOCK TABLE host.%I, host.%I, host.%I, host.%I, queue.%I IN ACCESS EXCLUSIVE MODE',
            p_name || '__lease', p_name || '__promotion', p_name || '__settlement', p_name || '__schedule', p_name);
        PERFORM host.run_templates(q, steps);
    END IF;
    PERFORM host.run_templates(q, '{triggers.sql}');
    PERFORM host.note_functions(q.id);
    UPDATE host.migration_queue SET version = want WHERE queue_id = q.id;
    -- Whatever a running host has made of a function that was away, it looks again.
    INSERT INTO host.catalog_change DEFAULT VALUES;
END $$;

CREATE FUNCTION host.upload(p_sha256 text, p_wasm bytea) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    INSERT INTO host.component (sha256, wasm) VALUES (p_sha256, p_wasm) ON CONFLICT (sha256) DO NOTHING
$$;

CREATE FUNCTION host.was_passed(p_due timestamp with time zone, p_id bigint, p_txid bigint, p_dues timestamp with time zone[], p_ids bigint[], p_his txid_snapshot[]) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RETURN p_dues IS NOT NULL AND EXISTS (SELECT FROM unnest(p_dues, p_ids, p_his) c (due, id, hi)
        WHERE (p_due, p_id) <= (c.due, c.id) AND txid_visible_in_snapshot(p_txid, c.hi));
END $$;

CREATE FUNCTION host.with_slots(p_account bigint[], p_slots smallint[]) RETURNS bigint[]
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RETURN (SELECT array_agg(p_account[i] + coalesce(n.times, 0) ORDER BY i)
        FROM generate_series(1, cardinality(p_account)) i
        LEFT JOIN (SELECT slot + 1 AS i, count(*) AS times FROM unnest(p_slots) slot GROUP BY slot) n USING (i));
END $$;

CREATE TABLE host.cancellation (
    queue_id integer NOT NULL,
    handler_id integer NOT NULL,
    message_id bigint NOT NULL,
    cancelled_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    cancelled_by text DEFAULT SESSION_USER NOT NULL
);

COMMENT ON TABLE host.cancellation IS 'Messages that a handler is not to run, until it meets them.';

COMMENT ON COLUMN host.cancellation.queue_id IS 'The queue.';

COMMENT ON COLUMN host.cancellation.handler_id IS 'The handler.';

COMMENT ON COLUMN host.cancellation.message_id IS 'The message.';

COMMENT ON COLUMN host.cancellation.cancelled_at IS 'When.';

COMMENT ON COLUMN host.cancellation.cancelled_by IS 'By which role.';

CREATE TABLE host.catalog (
    version bigint NOT NULL,
    only_row boolean DEFAULT true NOT NULL,
    CONSTRAINT catalog_only_row_check CHECK (only_row)
);

COMMENT ON TABLE host.catalog IS 'One row: the changes of the catalog that were counted. With those in catalog_change it tells hosts to read queues and handlers again.';

COMMENT ON COLUMN host.catalog.version IS 'How many.';

COMMENT ON COLUMN host.catalog.only_row IS 'Always true.';

CREATE TABLE host.catalog_change (
    id bigint NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE host.catalog_change IS 'Changes of the catalog that are not counted yet, one row each.';

COMMENT ON COLUMN host.catalog_change.id IS 'Its number.';

COMMENT ON COLUMN host.catalog_change.changed_at IS 'When.';

ALTER TABLE host.catalog_change ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME host.catalog_change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE host.cluster (
    system_identifier bigint NOT NULL,
    only_row boolean DEFAULT true NOT NULL,
    CONSTRAINT cluster_only_row_check CHECK (only_row)
);

COMMENT ON TABLE host.cluster IS 'One row: the cluster whose transaction ids the cursors count by.';

COMMENT ON COLUMN host.cluster.system_identifier IS 'As pg_control_system() says.';

COMMENT ON COLUMN host.cluster.only_row IS 'Always true.';

CREATE TABLE host.component (
    sha256 text NOT NULL,
    wasm bytea NOT NULL,
    uploaded_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT component_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text))
);
ALTER TABLE ONLY host.component ALTER COLUMN wasm SET STORAGE EXTERNAL;

COMMENT ON TABLE host.component IS 'Uploaded components, each once.';

COMMENT ON COLUMN host.component.sha256 IS 'The digest.';

COMMENT ON COLUMN host.component.wasm IS 'The component.';

COMMENT ON COLUMN host.component.uploaded_at IS 'When.';

CREATE TABLE host.cron (
    id integer NOT NULL,
    name text NOT NULL,
    queue_id integer NOT NULL,
    schedule text NOT NULL,
    time_zone text NOT NULL,
    missed text NOT NULL,
    payload bytea NOT NULL,
    headers jsonb NOT NULL,
    paused boolean DEFAULT false NOT NULL,
    next_at timestamp with time zone NOT NULL,
    error text,
    retry_at timestamp with time zone,
    fired_at timestamp with time zone,
    messages bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    created_by text DEFAULT CURRENT_USER NOT NULL,
    CONSTRAINT cron_headers_check CHECK ((jsonb_typeof(headers) = 'object'::text)),
    CONSTRAINT cron_missed_check CHECK ((missed = ANY (ARRAY['skip'::text, 'one'::text, 'all'::text]))),
    CONSTRAINT cron_name_is_lower_case_and_short CHECK ((name ~ '^[a-z][a-z0-9_-]{0,39}$'::text)),
    CONSTRAINT cron_next_at_check CHECK (isfinite(next_at))
);

COMMENT ON TABLE host.cron IS 'Messages at set times: see host cron.';

COMMENT ON COLUMN host.cron.id IS 'Its number.';

COMMENT ON COLUMN host.cron.name IS 'Its name.';

COMMENT ON COLUMN host.cron.queue_id IS 'The queue.';

COMMENT ON COLUMN host.cron.schedule IS 'When it fires, in cron''s terms.';

COMMENT ON COLUMN host.cron.time_zone IS 'In which zone.';

COMMENT ON COLUMN host.cron.missed IS 'What becomes of firings that nobody was there for.';

COMMENT ON COLUMN host.cron.payload IS 'What it enqueues.';

COMMENT ON COLUMN host.cron.headers IS 'With these headers.';

COMMENT ON COLUMN host.cron.paused IS 'Whether it is paused.';

COMMENT ON COLUMN host.cron.next_at IS 'When it fires next.';

COMMENT ON COLUMN host.cron.error IS 'Why it last failed.';

COMMENT ON COLUMN host.cron.retry_at IS 'When a firing that failed is tried again.';

COMMENT ON COLUMN host.cron.fired_at IS 'When it last fired.';

COMMENT ON COLUMN host.cron.messages IS 'How often it has fired.';

COMMENT ON COLUMN host.cron.created_at IS 'When it was made.';

COMMENT ON COLUMN host.cron.created_by IS 'By which role.';

ALTER TABLE host.cron ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME host.cron_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE host.failing (
    session_id integer NOT NULL,
    handler_id integer NOT NULL,
    version integer NOT NULL,
    calls bigint NOT NULL,
    failed bigint NOT NULL,
    dead bigint NOT NULL,
    error text NOT NULL,
    reported_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE host.failing IS 'How many messages of a handler failed lately, as each host reports it.';

COMMENT ON COLUMN host.failing.session_id IS 'The host''s session.';

COMMENT ON COLUMN host.failing.handler_id IS 'The handler.';

COMMENT ON COLUMN host.failing.version IS 'The version that last failed.';

COMMENT ON COLUMN host.failing.calls IS 'Messages that ran in the five minutes before.';

COMMENT ON COLUMN host.failing.failed IS 'Of these: failed.';

COMMENT ON COLUMN host.failing.dead IS 'Of these: dead letters.';

COMMENT ON COLUMN host.failing.error IS 'The commonest error.';

COMMENT ON COLUMN host.failing.reported_at IS 'When.';

CREATE TABLE host.handler (
    id integer NOT NULL,
    queue_id integer NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    paused boolean DEFAULT false NOT NULL,
    CONSTRAINT handler_name_is_lower_case_and_short CHECK ((name ~ '^[a-z][a-z0-9_-]{0,39}$'::text))
);

COMMENT ON TABLE host.handler IS 'Handlers of queues.';

COMMENT ON COLUMN host.handler.id IS 'Its number.';

COMMENT ON COLUMN host.handler.queue_id IS 'The queue.';

COMMENT ON COLUMN host.handler.name IS 'Its name.';

COMMENT ON COLUMN host.handler.version IS 'The version in force.';

COMMENT ON COLUMN host.handler.created_at IS 'When it was first deployed.';

COMMENT ON COLUMN host.handler.paused IS 'Whether it is paused.';

ALTER TABLE host.handler ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME host.handler_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE host.handler_version (
    handler_id integer NOT NULL,
    version integer NOT NULL,
    sha256 text NOT NULL,
    config jsonb NOT NULL,
    isolation text NOT NULL,
    concurrency integer NOT NULL,
    memory_bytes bigint NOT NULL,
    timeout_ms bigint NOT NULL,
    cpu_ms bigint NOT NULL,
    log_bytes bigint NOT NULL,
    follow_ups integer NOT NULL,
    follow_up_bytes bigint NOT NULL,
    deployed_at timestamp with time zone DEFAULT now() NOT NULL,
    deployed_by text DEFAULT CURRENT_USER NOT NULL,
    http text[] DEFAULT '{}'::text[] NOT NULL,
    secrets text[] DEFAULT '{}'::text[] NOT NULL,
    http_requests integer DEFAULT 100 NOT NULL,
    http_bytes bigint DEFAULT (16 << 20) NOT NULL,
    batch_size integer,
    CONSTRAINT handler_version_batch_size_check CHECK (((batch_size >= 1) AND (batch_size <= 1000))),
    CONSTRAINT handler_version_concurrency_check CHECK (((concurrency >= 1) AND (concurrency <= 10000))),
    CONSTRAINT handler_version_config_check CHECK ((jsonb_typeof(config) = 'object'::text)),
    CONSTRAINT handler_version_isolation_check CHECK ((isolation = ANY (ARRAY['message'::text, 'batch'::text])))
);

COMMENT ON TABLE host.handler_version IS 'Versions of handlers, and what each may use.';

COMMENT ON COLUMN host.handler_version.handler_id IS 'The handler.';

COMMENT ON COLUMN host.handler_version.version IS 'Its number.';

COMMENT ON COLUMN host.handler_version.sha256 IS 'The component.';

COMMENT ON COLUMN host.handler_version.config IS 'What the guest may ask for by key.';

COMMENT ON COLUMN host.handler_version.isolation IS 'Whether a sandbox serves a message or a batch.';

COMMENT ON COLUMN host.handler_version.concurrency IS 'Sandboxes at once, on each host.';

COMMENT ON COLUMN host.handler_version.memory_bytes IS 'Memory of a sandbox.';

COMMENT ON COLUMN host.handler_version.timeout_ms IS 'Time of a call.';

COMMENT ON COLUMN host.handler_version.cpu_ms IS 'Time on a processor of a call.';

COMMENT ON COLUMN host.handler_version.log_bytes IS 'Log text of a call.';

COMMENT ON COLUMN host.handler_version.follow_ups IS 'Messages that a call enqueues.';

COMMENT ON COLUMN host.handler_version.follow_up_bytes IS 'Their bytes.';

COMMENT ON COLUMN host.handler_version.deployed_at IS 'When.';

COMMENT ON COLUMN host.handler_version.deployed_by IS 'By which role.';

COMMENT ON COLUMN host.handler_version.http IS 'The HTTP requests that are granted.';

COMMENT ON COLUMN host.handler_version.secrets IS 'The secrets that are granted.';

COMMENT ON COLUMN host.handler_version.http_requests IS 'HTTP requests of a call.';

COMMENT ON COLUMN host.handler_version.http_bytes IS 'Their bytes.';

COMMENT ON COLUMN host.handler_version.batch_size IS 'Messages of a call.';

CREATE TABLE host.heartbeat (
    session_id integer NOT NULL,
    slot smallint NOT NULL,
    beat bigint NOT NULL,
    beat_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    late text
)
PARTITION BY LIST (slot);

COMMENT ON TABLE host.heartbeat IS 'Heartbeats of hosts. Append-only.';

COMMENT ON COLUMN host.heartbeat.session_id IS 'The session.';

COMMENT ON COLUMN host.heartbeat.slot IS 'The partition, by the hour.';

COMMENT ON COLUMN host.heartbeat.beat IS 'Its number.';

COMMENT ON COLUMN host.heartbeat.beat_at IS 'When, for people.';

COMMENT ON COLUMN host.heartbeat.late IS 'Which loop of the host is overdue. NULL: none.';

CREATE TABLE host.heartbeat_0 (
    session_id integer NOT NULL,
    slot smallint NOT NULL,
    beat bigint NOT NULL,
    beat_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    late text
)
WITH (autovacuum_enabled=off);

COMMENT ON TABLE host.heartbeat_0 IS 'A partition of host.heartbeat.';

CREATE TABLE host.heartbeat_1 (
    session_id integer NOT NULL,
    slot smallint NOT NULL,
    beat bigint NOT NULL,
    beat_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    late text
)
WITH (autovacuum_enabled=off);

COMMENT ON TABLE host.heartbeat_1 IS 'A partition of host.heartbeat.';

CREATE TABLE host.heartbeat_2 (
    session_id integer NOT NULL,
    slot smallint NOT NULL,
    beat bigint NOT NULL,
    beat_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    late text
)
WITH (autovacuum_enabled=off);

COMMENT ON TABLE host.heartbeat_2 IS 'A partition of host.heartbeat.';

CREATE TABLE host.loaded (
    session_id integer NOT NULL,
    handler_id integer NOT NULL,
    version integer NOT NULL,
    error text,
    loaded_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE host.loaded IS 'What each host has made of each deployment.';

COMMENT ON COLUMN host.loaded.session_id IS 'The host''s session.';

COMMENT ON COLUMN host.loaded.handler_id IS 'The handler.';

COMMENT ON COLUMN host.loaded.version IS 'The version.';

COMMENT ON COLUMN host.loaded.error IS 'Why it cannot run. NULL: it runs.';

COMMENT ON COLUMN host.loaded.loaded_at IS 'When.';

CREATE TABLE host.migration (
    version integer NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE host.migration IS 'The numbered migrations that were applied to this database.';

COMMENT ON COLUMN host.migration.version IS 'Its number.';

COMMENT ON COLUMN host.migration.name IS 'Its name.';

COMMENT ON COLUMN host.migration.sha256 IS 'The digest of the file.';

COMMENT ON COLUMN host.migration.applied_at IS 'When.';

CREATE TABLE host.migration_functions (
    only_row boolean DEFAULT true NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT migration_functions_only_row_check CHECK (only_row)
);

COMMENT ON TABLE host.migration_functions IS 'One row: the digest of the function files and templates that this database has.';

COMMENT ON COLUMN host.migration_functions.only_row IS 'Always true.';

COMMENT ON COLUMN host.migration_functions.sha256 IS 'The digest; after the word unfinished while queues lack theirs.';

COMMENT ON COLUMN host.migration_functions.applied_at IS 'When.';

CREATE TABLE host.migration_queue (
    queue_id integer NOT NULL,
    version integer NOT NULL,
    functions text NOT NULL
);

COMMENT ON TABLE host.migration_queue IS 'How far each queue is brought to the schema of this database.';

COMMENT ON COLUMN host.migration_queue.queue_id IS 'The queue.';

COMMENT ON COLUMN host.migration_queue.version IS 'The last numbered migration that its tables have.';

COMMENT ON COLUMN host.migration_queue.functions IS 'The digest of what its functions are from.';

CREATE TABLE host.pace (
    queue_id integer NOT NULL,
    handler_id integer NOT NULL,
    settled_at timestamp with time zone NOT NULL,
    messages bigint NOT NULL
);

COMMENT ON TABLE host.pace IS 'What was settled in the last minute, of partitions that were truncated since.';

COMMENT ON COLUMN host.pace.queue_id IS 'The queue.';

COMMENT ON COLUMN host.pace.handler_id IS 'The handler.';

COMMENT ON COLUMN host.pace.settled_at IS 'In which second.';

COMMENT ON COLUMN host.pace.messages IS 'How many messages.';

CREATE TABLE host.partition_count (
    queue_id integer NOT NULL,
    kind text NOT NULL,
    leaf integer NOT NULL,
    hi txid_snapshot NOT NULL,
    blocks bigint NOT NULL,
    messages bigint NOT NULL,
    missed bigint,
    CONSTRAINT partition_count_kind_check CHECK ((kind = ANY (ARRAY['message'::text, 'schedule'::text])))
);

COMMENT ON TABLE host.partition_count IS 'Counts of partitions that are about to be truncated.';

COMMENT ON COLUMN host.partition_count.queue_id IS 'The queue.';

COMMENT ON COLUMN host.partition_count.kind IS 'Of messages, or of the schedule.';

COMMENT ON COLUMN host.partition_count.leaf IS 'The partition.';

COMMENT ON COLUMN host.partition_count.hi IS 'What the count has seen.';

COMMENT ON COLUMN host.partition_count.blocks IS 'How many blocks are counted.';

COMMENT ON COLUMN host.partition_count.messages IS 'How many messages these have.';

COMMENT ON COLUMN host.partition_count.missed IS 'Of these: never leased by some handler, or never promoted.';

CREATE TABLE host.queue_functions (
    queue_id integer NOT NULL,
    digests jsonb NOT NULL
);

COMMENT ON TABLE host.queue_functions IS 'The functions that each queue was given, for host doctor.';

COMMENT ON COLUMN host.queue_functions.queue_id IS 'The queue.';

COMMENT ON COLUMN host.queue_functions.digests IS 'Of each function, what it does.';

ALTER TABLE host.queue ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME host.queue_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE SEQUENCE host.sample__asleep
    START WITH 0
    INCREMENT BY 1
    MINVALUE 0
    MAXVALUE 1
    CACHE 1;

CREATE TABLE host.sample__dead_letter (
    id bigint NOT NULL,
    message_id bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    died_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    handler_id integer NOT NULL,
    attempt smallint NOT NULL,
    reason text NOT NULL,
    error text NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    priority smallint,
    key text
);

COMMENT ON TABLE host.sample__dead_letter IS 'Messages of queue sample that were given up on: see host dead.';

COMMENT ON COLUMN host.sample__dead_letter.id IS 'Its number.';

COMMENT ON COLUMN host.sample__dead_letter.message_id IS 'The message''s id.';

COMMENT ON COLUMN host.sample__dead_letter.enqueued_at IS 'When the message was enqueued.';

COMMENT ON COLUMN host.sample__dead_letter.died_at IS 'When it was given up on.';

COMMENT ON COLUMN host.sample__dead_letter.handler_id IS 'The handler that gave up.';

COMMENT ON COLUMN host.sample__dead_letter.attempt IS 'The last attempt.';

COMMENT ON COLUMN host.sample__dead_letter.reason IS 'Why, in a word.';

COMMENT ON COLUMN host.sample__dead_letter.error IS 'What the last attempt said.';

COMMENT ON COLUMN host.sample__dead_letter.headers IS 'As on the queue.';

COMMENT ON COLUMN host.sample__dead_letter.history IS 'As on the queue.';

COMMENT ON COLUMN host.sample__dead_letter.payload IS 'As on the queue.';

COMMENT ON COLUMN host.sample__dead_letter.priority IS 'As on the queue.';

COMMENT ON COLUMN host.sample__dead_letter.key IS 'As on the queue.';

ALTER TABLE host.sample__dead_letter ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME host.sample__dead_letter_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE host.sample__history (
    message_id bigint NOT NULL,
    lease_id bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    leased_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone NOT NULL,
    handler_id integer NOT NULL,
    session_id integer NOT NULL,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    removed boolean NOT NULL,
    handler text NOT NULL,
    headers jsonb,
    history jsonb,
    result bytea,
    payload jsonb NOT NULL
)
PARTITION BY LIST (slot);

COMMENT ON TABLE host.sample__history IS 'Settled messages that queue sample keeps. Append-only.';

COMMENT ON COLUMN host.sample__history.message_id IS 'The message''s id.';

COMMENT ON COLUMN host.sample__history.lease_id IS 'The lease that it was settled in.';

COMMENT ON COLUMN host.sample__history.enqueued_at IS 'When it was enqueued.';

COMMENT ON COLUMN host.sample__history.leased_at IS 'When it was leased.';

COMMENT ON COLUMN host.sample__history.settled_at IS 'When it was settled.';

COMMENT ON COLUMN host.sample__history.handler_id IS 'The handler.';

COMMENT ON COLUMN host.sample__history.session_id IS 'The host''s session.';

COMMENT ON COLUMN host.sample__history.slot IS 'The partition, by time.';

COMMENT ON COLUMN host.sample__history.attempt IS 'The last attempt.';

COMMENT ON COLUMN host.sample__history.removed IS 'Whether an operator removed it.';

COMMENT ON COLUMN host.sample__history.handler IS 'The handler''s name.';

COMMENT ON COLUMN host.sample__history.headers IS 'As on the queue.';

COMMENT ON COLUMN host.sample__history.history IS 'As on the queue.';

COMMENT ON COLUMN host.sample__history.result IS 'What the handler left. NULL: nothing.';

COMMENT ON COLUMN host.sample__history.payload IS 'As on the queue.';

CREATE TABLE host.sample__history_0 (
    message_id bigint NOT NULL,
    lease_id bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    leased_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone NOT NULL,
    handler_id integer NOT NULL,
    session_id integer NOT NULL,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    removed boolean NOT NULL,
    handler text NOT NULL,
    headers jsonb,
    history jsonb,
    result bytea,
    payload jsonb NOT NULL
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);

COMMENT ON TABLE host.sample__history_0 IS 'A partition of host.sample__history.';

CREATE TABLE host.sample__history_1 (
    message_id bigint NOT NULL,
    lease_id bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    leased_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone NOT NULL,
    handler_id integer NOT NULL,
    session_id integer NOT NULL,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    removed boolean NOT NULL,
    handler text NOT NULL,
    headers jsonb,
    history jsonb,
    result bytea,
    payload jsonb NOT NULL
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);

COMMENT ON TABLE host.sample__history_1 IS 'A partition of host.sample__history.';

CREATE TABLE host.sample__history_10 (
    message_id bigint NOT NULL,
    lease_id bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    leased_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone NOT NULL,
    handler_id integer NOT NULL,
    session_id integer NOT NULL,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    removed boolean NOT NULL,
    handler text NOT NULL,
    headers jsonb,
    history jsonb,
    result bytea,
    payload jsonb NOT NULL
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);

COMMENT ON TABLE host.sample__history_10 IS 'A partition of host.sample__history.';

CREATE TABLE host.sample__history_11 (
    message_id bigint NOT NULL,
    lease_id bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    leased_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone NOT NULL,
    handler_id integer NOT NULL,
    session_id integer NOT NULL,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    removed boolean NOT NULL,
    handler text NOT NULL,
    headers jsonb,
    history jsonb,
    result bytea,
    payload jsonb NOT NULL
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);

COMMENT ON TABLE host.sample__history_11 IS 'A partition of host.sample__history.';

CREATE TABLE host.sample__history_2 (
    message_id bigint NOT NULL,
    lease_id bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    leased_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone NOT NULL,
    handler_id integer NOT NULL,
    session_id integer NOT NULL,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    removed boolean NOT NULL,
    handler text NOT NULL,
    headers jsonb,
    history jsonb,
    result bytea,
    payload jsonb NOT NULL
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);

COMMENT ON TABLE host.sample__history_2 IS 'A partition of host.sample__history.';

CREATE TABLE host.sample__history_3 (
    message_id bigint NOT NULL,
    lease_id bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    leased_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone NOT NULL,
    handler_id integer NOT NULL,
    session_id integer NOT NULL,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    removed boolean NOT NULL,
    handler text NOT NULL,
    headers jsonb,
    history jsonb,
    result bytea,
    payload jsonb NOT NULL
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);

COMMENT ON TABLE host.sample__history_3 IS 'A partition of host.sample__history.';

CREATE TABLE host.sample__history_4 (
    message_id bigint NOT NULL,
    lease_id bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    leased_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone NOT NULL,
    handler_id integer NOT NULL,
    session_id integer NOT NULL,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    removed boolean NOT NULL,
    handler text NOT NULL,
    headers jsonb,
    history jsonb,
    result bytea,
    payload jsonb NOT NULL
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);

COMMENT ON TABLE host.sample__history_4 IS 'A partition of host.sample__history.';

CREATE TABLE host.sample__history_5 (
    message_id bigint NOT NULL,
    lease_id bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    leased_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone NOT NULL,
    handler_id integer NOT NULL,
    session_id integer NOT NULL,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    removed boolean NOT NULL,
    handler text NOT NULL,
    headers jsonb,
    history jsonb,
    result bytea,
    payload jsonb NOT NULL
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);

COMMENT ON TABLE host.sample__history_5 IS 'A partition of host.sample__history.';

CREATE TABLE host.sample__history_6 (
    message_id bigint NOT NULL,
    lease_id bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    leased_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone NOT NULL,
    handler_id integer NOT NULL,
    session_id integer NOT NULL,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    removed boolean NOT NULL,
    handler text NOT NULL,
    headers jsonb,
    history jsonb,
    result bytea,
    payload jsonb NOT NULL
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);

COMMENT ON TABLE host.sample__history_6 IS 'A partition of host.sample__history.';

CREATE TABLE host.sample__history_7 (
    message_id bigint NOT NULL,
    lease_id bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    leased_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone NOT NULL,
    handler_id integer NOT NULL,
    session_id integer NOT NULL,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    removed boolean NOT NULL,
    handler text NOT NULL,
    headers jsonb,
    history jsonb,
    result bytea,
    payload jsonb NOT NULL
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);

COMMENT ON TABLE host.sample__history_7 IS 'A partition of host.sample__history.';

CREATE TABLE host.sample__history_8 (
    message_id bigint NOT NULL,
    lease_id bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    leased_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone NOT NULL,
    handler_id integer NOT NULL,
    session_id integer NOT NULL,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    removed boolean NOT NULL,
    handler text NOT NULL,
    headers jsonb,
    history jsonb,
    result bytea,
    payload jsonb NOT NULL
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);

COMMENT ON TABLE host.sample__history_8 IS 'A partition of host.sample__history.';

CREATE TABLE host.sample__history_9 (
    message_id bigint NOT NULL,
    lease_id bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    leased_at timestamp with time zone NOT NULL,
    settled_at timestamp with time zone NOT NULL,
    handler_id integer NOT NULL,
    session_id integer NOT NULL,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    removed boolean NOT NULL,
    handler text NOT NULL,
    headers jsonb,
    history jsonb,
    result bytea,
    payload jsonb NOT NULL
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);

COMMENT ON TABLE host.sample__history_9 IS 'A partition of host.sample__history.';

CREATE TABLE host.sample__lease (
    id bigint NOT NULL,
    seq bigint NOT NULL,
    leased_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    from_txid bigint NOT NULL,
    from_id bigint NOT NULL,
    to_txid bigint NOT NULL,
    to_id bigint NOT NULL,
    handler_id integer NOT NULL,
    session_id integer NOT NULL,
    row_count integer NOT NULL,
    leaves smallint NOT NULL,
    deaths smallint DEFAULT 0 NOT NULL,
    is_cursor boolean NOT NULL,
    more boolean NOT NULL,
    token uuid NOT NULL,
    hi txid_snapshot NOT NULL,
    txids int8multirange NOT NULL,
    positions int4multirange,
    lane smallint DEFAULT 0 NOT NULL,
    last_id bigint,
    due timestamp with time zone,
    attempt smallint,
    history jsonb,
    tat timestamp with time zone,
    held bigint[],
    leased bigint[]
)
PARTITION BY LIST ((((id / '100000000000'::bigint) % (3)::bigint)));

COMMENT ON TABLE host.sample__lease IS 'Leases of queue sample: which messages a host may process. Append-only.';

COMMENT ON COLUMN host.sample__lease.id IS 'Its number.';

COMMENT ON COLUMN host.sample__lease.seq IS 'What its session calls it.';

COMMENT ON COLUMN host.sample__lease.leased_at IS 'When it was leased.';

COMMENT ON COLUMN host.sample__lease.from_txid IS 'Its messages come after this transaction …';

COMMENT ON COLUMN host.sample__lease.from_id IS '… and this id.';

COMMENT ON COLUMN host.sample__lease.to_txid IS 'The transaction of its last message.';

COMMENT ON COLUMN host.sample__lease.to_id IS 'The id of its last message.';

COMMENT ON COLUMN host.sample__lease.handler_id IS 'The handler.';

COMMENT ON COLUMN host.sample__lease.session_id IS 'The host''s session; 0: nobody''s.';

COMMENT ON COLUMN host.sample__lease.row_count IS 'How many messages; 0: a cursor only.';

COMMENT ON COLUMN host.sample__lease.leaves IS 'Which partitions they are in, bit by bit.';

COMMENT ON COLUMN host.sample__lease.deaths IS 'How many hosts have died with them in flight.';

COMMENT ON COLUMN host.sample__lease.is_cursor IS 'Whether the handler goes on from here.';

COMMENT ON COLUMN host.sample__lease.more IS 'Whether the window has more messages.';

COMMENT ON COLUMN host.sample__lease.token IS 'What a settlement must know.';

COMMENT ON COLUMN host.sample__lease.hi IS 'Up to where transactions were looked at.';

COMMENT ON COLUMN host.sample__lease.txids IS 'The transactions of the window.';

COMMENT ON COLUMN host.sample__lease.positions IS 'What is left to do, if it was taken over. NULL: all.';

COMMENT ON COLUMN host.sample__lease.lane IS 'The strand of the queue.';

COMMENT ON COLUMN host.sample__lease.last_id IS 'The last id of the window, if the queue keeps order.';

COMMENT ON COLUMN host.sample__lease.due IS 'Not before this time, if a retry holds the lane.';

COMMENT ON COLUMN host.sample__lease.attempt IS 'Of the first message, if it is tried again.';

COMMENT ON COLUMN host.sample__lease.history IS 'Of the first message, if it is tried again.';

COMMENT ON COLUMN host.sample__lease.tat IS 'With limits: when the next may start.';

COMMENT ON COLUMN host.sample__lease.held IS 'With limits: leases that were open.';

COMMENT ON COLUMN host.sample__lease.leased IS 'Of a cursor: messages of each partition that were leased.';

CREATE TABLE host.sample__lease_0 (
    id bigint NOT NULL,
    seq bigint NOT NULL,
    leased_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    from_txid bigint NOT NULL,
    from_id bigint NOT NULL,
    to_txid bigint NOT NULL,
    to_id bigint NOT NULL,
    handler_id integer NOT NULL,
    session_id integer NOT NULL,
    row_count integer NOT NULL,
    leaves smallint NOT NULL,
    deaths smallint DEFAULT 0 NOT NULL,
    is_cursor boolean NOT NULL,
    more boolean NOT NULL,
    token uuid NOT NULL,
    hi txid_snapshot NOT NULL,
    txids int8multirange NOT NULL,
    positions int4multirange,
    lane smallint DEFAULT 0 NOT NULL,
    last_id bigint,
    due timestamp with time zone,
    attempt smallint,
    history jsonb,
    tat timestamp with time zone,
    held bigint[],
    leased bigint[]
)
WITH (autovacuum_enabled=off);

COMMENT ON TABLE host.sample__lease_0 IS 'A partition of host.sample__lease.';

CREATE TABLE host.sample__lease_1 (
    id bigint NOT NULL,
    seq bigint NOT NULL,
    leased_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    from_txid bigint NOT NULL,
    from_id bigint NOT NULL,
    to_txid bigint NOT NULL,
    to_id bigint NOT NULL,
    handler_id integer NOT NULL,
    session_id integer NOT NULL,
    row_count integer NOT NULL,
    leaves smallint NOT NULL,
    deaths smallint DEFAULT 0 NOT NULL,
    is_cursor boolean NOT NULL,
    more boolean NOT NULL,
    token uuid NOT NULL,
    hi txid_snapshot NOT NULL,
    txids int8multirange NOT NULL,
    positions int4multirange,
    lane smallint DEFAULT 0 NOT NULL,
    last_id bigint,
    due timestamp with time zone,
    attempt smallint,
    history jsonb,
    tat timestamp with time zone,
    held bigint[],
    leased bigint[]
)
WITH (autovacuum_enabled=off);

COMMENT ON TABLE host.sample__lease_1 IS 'A partition of host.sample__lease.';

CREATE TABLE host.sample__lease_2 (
    id bigint NOT NULL,
    seq bigint NOT NULL,
    leased_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    from_txid bigint NOT NULL,
    from_id bigint NOT NULL,
    to_txid bigint NOT NULL,
    to_id bigint NOT NULL,
    handler_id integer NOT NULL,
    session_id integer NOT NULL,
    row_count integer NOT NULL,
    leaves smallint NOT NULL,
    deaths smallint DEFAULT 0 NOT NULL,
    is_cursor boolean NOT NULL,
    more boolean NOT NULL,
    token uuid NOT NULL,
    hi txid_snapshot NOT NULL,
    txids int8multirange NOT NULL,
    positions int4multirange,
    lane smallint DEFAULT 0 NOT NULL,
    last_id bigint,
    due timestamp with time zone,
    attempt smallint,
    history jsonb,
    tat timestamp with time zone,
    held bigint[],
    leased bigint[]
)
WITH (autovacuum_enabled=off);

COMMENT ON TABLE host.sample__lease_2 IS 'A partition of host.sample__lease.';

ALTER TABLE host.sample__lease ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME host.sample__lease_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE queue.sample (
    id bigint NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    enqueued_at timestamp with time zone DEFAULT now() NOT NULL,
    run_at timestamp with time zone,
    origin bigint,
    handler_id integer,
    attempt smallint DEFAULT 1 NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    unique_key text,
    priority smallint,
    key text,
    CONSTRAINT expires_at_is_finite CHECK (isfinite(expires_at)),
    CONSTRAINT headers_are_at_most_65536_bytes CHECK ((octet_length((headers)::text) <= 65536)),
    CONSTRAINT headers_is_an_object CHECK ((jsonb_typeof(headers) = ANY (ARRAY['object'::text, 'null'::text]))),
    CONSTRAINT payload_is_at_most_1048576_bytes CHECK ((((pg_column_size(payload) <= 85) AND (pg_column_compression(payload) IS NULL)) OR (octet_length((payload)::text) <= 1048576))),
    CONSTRAINT queue_has_no_priorities CHECK ((priority IS NULL)),
    CONSTRAINT queue_takes_no_key CHECK ((key IS NULL)),
    CONSTRAINT run_at_is_finite CHECK (isfinite(run_at)),
    CONSTRAINT run_at_is_within_30_years CHECK (((run_at IS NULL) OR (run_at < (enqueued_at + '30 years'::interval)))),
    CONSTRAINT unique_key_is_for_queues_that_are_set_to_take_it CHECK ((unique_key IS NULL))
)
PARTITION BY LIST ((((id / '100000000000'::bigint) % (3)::bigint)));
ALTER TABLE ONLY queue.sample ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE queue.sample IS 'Queue sample, one row a message. Producers insert payload, headers, run_at, expires_at, priority, key and unique_key, and read back id; the rest is the system''s. Made and changed by host alone: exclude it from schema tools.';

COMMENT ON COLUMN queue.sample.id IS 'The system''s: the message''s id, from the identity.';

COMMENT ON COLUMN queue.sample.txid IS 'The system''s: the transaction that inserted the row.';

COMMENT ON COLUMN queue.sample.enqueued_at IS 'The system''s: when the message was enqueued.';

COMMENT ON COLUMN queue.sample.run_at IS 'A producer''s: not before this time. NULL: at once.';

COMMENT ON COLUMN queue.sample.origin IS 'The system''s: the id that the message had first, if it was inserted again.';

COMMENT ON COLUMN queue.sample.handler_id IS 'The system''s: the only handler that this row is for. NULL: all.';

COMMENT ON COLUMN queue.sample.attempt IS 'The system''s: the attempt that this row is for, from 1.';

COMMENT ON COLUMN queue.sample.headers IS 'A producer''s: a JSON object. NULL, or JSON''s null: none.';

COMMENT ON COLUMN queue.sample.history IS 'The system''s: one entry for each failed attempt.';

COMMENT ON COLUMN queue.sample.payload IS 'A producer''s: the message.';

COMMENT ON COLUMN queue.sample.expires_at IS 'A producer''s: from this time on it is a dead letter and is not run. NULL: never.';

COMMENT ON COLUMN queue.sample.unique_key IS 'A producer''s: left out, or refused, while another message has the key. Always NULL in a stored row.';

COMMENT ON COLUMN queue.sample.priority IS 'A producer''s: 1 is high, 2 normal, 3 low. NULL: 2.';

COMMENT ON COLUMN queue.sample.key IS 'A producer''s: messages of one key run in order, or have limits of their own.';

CREATE TABLE host.sample__message_0 (
    id bigint NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    enqueued_at timestamp with time zone DEFAULT now() NOT NULL,
    run_at timestamp with time zone,
    origin bigint,
    handler_id integer,
    attempt smallint DEFAULT 1 NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    unique_key text,
    priority smallint,
    key text,
    CONSTRAINT expires_at_is_finite CHECK (isfinite(expires_at)),
    CONSTRAINT headers_are_at_most_65536_bytes CHECK ((octet_length((headers)::text) <= 65536)),
    CONSTRAINT headers_is_an_object CHECK ((jsonb_typeof(headers) = ANY (ARRAY['object'::text, 'null'::text]))),
    CONSTRAINT payload_is_at_most_1048576_bytes CHECK ((((pg_column_size(payload) <= 85) AND (pg_column_compression(payload) IS NULL)) OR (octet_length((payload)::text) <= 1048576))),
    CONSTRAINT queue_has_no_priorities CHECK ((priority IS NULL)),
    CONSTRAINT queue_takes_no_key CHECK ((key IS NULL)),
    CONSTRAINT run_at_is_finite CHECK (isfinite(run_at)),
    CONSTRAINT run_at_is_within_30_years CHECK (((run_at IS NULL) OR (run_at < (enqueued_at + '30 years'::interval)))),
    CONSTRAINT unique_key_is_for_queues_that_are_set_to_take_it CHECK ((unique_key IS NULL))
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__message_0 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__message_0 IS 'A partition of queue.sample.';

CREATE TABLE host.sample__message_1 (
    id bigint NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    enqueued_at timestamp with time zone DEFAULT now() NOT NULL,
    run_at timestamp with time zone,
    origin bigint,
    handler_id integer,
    attempt smallint DEFAULT 1 NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    unique_key text,
    priority smallint,
    key text,
    CONSTRAINT expires_at_is_finite CHECK (isfinite(expires_at)),
    CONSTRAINT headers_are_at_most_65536_bytes CHECK ((octet_length((headers)::text) <= 65536)),
    CONSTRAINT headers_is_an_object CHECK ((jsonb_typeof(headers) = ANY (ARRAY['object'::text, 'null'::text]))),
    CONSTRAINT payload_is_at_most_1048576_bytes CHECK ((((pg_column_size(payload) <= 85) AND (pg_column_compression(payload) IS NULL)) OR (octet_length((payload)::text) <= 1048576))),
    CONSTRAINT queue_has_no_priorities CHECK ((priority IS NULL)),
    CONSTRAINT queue_takes_no_key CHECK ((key IS NULL)),
    CONSTRAINT run_at_is_finite CHECK (isfinite(run_at)),
    CONSTRAINT run_at_is_within_30_years CHECK (((run_at IS NULL) OR (run_at < (enqueued_at + '30 years'::interval)))),
    CONSTRAINT unique_key_is_for_queues_that_are_set_to_take_it CHECK ((unique_key IS NULL))
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__message_1 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__message_1 IS 'A partition of queue.sample.';

CREATE TABLE host.sample__message_2 (
    id bigint NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    enqueued_at timestamp with time zone DEFAULT now() NOT NULL,
    run_at timestamp with time zone,
    origin bigint,
    handler_id integer,
    attempt smallint DEFAULT 1 NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    unique_key text,
    priority smallint,
    key text,
    CONSTRAINT expires_at_is_finite CHECK (isfinite(expires_at)),
    CONSTRAINT headers_are_at_most_65536_bytes CHECK ((octet_length((headers)::text) <= 65536)),
    CONSTRAINT headers_is_an_object CHECK ((jsonb_typeof(headers) = ANY (ARRAY['object'::text, 'null'::text]))),
    CONSTRAINT payload_is_at_most_1048576_bytes CHECK ((((pg_column_size(payload) <= 85) AND (pg_column_compression(payload) IS NULL)) OR (octet_length((payload)::text) <= 1048576))),
    CONSTRAINT queue_has_no_priorities CHECK ((priority IS NULL)),
    CONSTRAINT queue_takes_no_key CHECK ((key IS NULL)),
    CONSTRAINT run_at_is_finite CHECK (isfinite(run_at)),
    CONSTRAINT run_at_is_within_30_years CHECK (((run_at IS NULL) OR (run_at < (enqueued_at + '30 years'::interval)))),
    CONSTRAINT unique_key_is_for_queues_that_are_set_to_take_it CHECK ((unique_key IS NULL))
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__message_2 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__message_2 IS 'A partition of queue.sample.';

CREATE TABLE host.sample__promotion (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    schedule_id bigint NOT NULL,
    hi txid_snapshot NOT NULL,
    late_txids int8multirange NOT NULL,
    late_txid bigint NOT NULL,
    late_id bigint NOT NULL,
    passed_due timestamp with time zone[],
    passed_id bigint[],
    passed_hi txid_snapshot[],
    promoted bigint[]
)
PARTITION BY LIST ((((id / '100000000000'::bigint) % (3)::bigint)));

COMMENT ON TABLE host.sample__promotion IS 'How far the schedule of queue sample was promoted. Append-only; the newest row counts.';

COMMENT ON COLUMN host.sample__promotion.id IS 'Its number.';

COMMENT ON COLUMN host.sample__promotion.due IS 'Promoted up to this due time …';

COMMENT ON COLUMN host.sample__promotion.schedule_id IS '… and this row.';

COMMENT ON COLUMN host.sample__promotion.hi IS 'Of what was visible then.';

COMMENT ON COLUMN host.sample__promotion.late_txids IS 'Transactions that came late.';

COMMENT ON COLUMN host.sample__promotion.late_txid IS 'Of these: looked at up to this one …';

COMMENT ON COLUMN host.sample__promotion.late_id IS '… and this row.';

COMMENT ON COLUMN host.sample__promotion.passed_due IS 'From where the clock was set back: due times …';

COMMENT ON COLUMN host.sample__promotion.passed_id IS '… rows …';

COMMENT ON COLUMN host.sample__promotion.passed_hi IS '… and what was visible then.';

COMMENT ON COLUMN host.sample__promotion.promoted IS 'How many were promoted from each bucket of the schedule since it was truncated.';

CREATE TABLE host.sample__promotion_0 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    schedule_id bigint NOT NULL,
    hi txid_snapshot NOT NULL,
    late_txids int8multirange NOT NULL,
    late_txid bigint NOT NULL,
    late_id bigint NOT NULL,
    passed_due timestamp with time zone[],
    passed_id bigint[],
    passed_hi txid_snapshot[],
    promoted bigint[]
)
WITH (autovacuum_enabled=off);

COMMENT ON TABLE host.sample__promotion_0 IS 'A partition of host.sample__promotion.';

CREATE TABLE host.sample__promotion_1 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    schedule_id bigint NOT NULL,
    hi txid_snapshot NOT NULL,
    late_txids int8multirange NOT NULL,
    late_txid bigint NOT NULL,
    late_id bigint NOT NULL,
    passed_due timestamp with time zone[],
    passed_id bigint[],
    passed_hi txid_snapshot[],
    promoted bigint[]
)
WITH (autovacuum_enabled=off);

COMMENT ON TABLE host.sample__promotion_1 IS 'A partition of host.sample__promotion.';

CREATE TABLE host.sample__promotion_2 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    schedule_id bigint NOT NULL,
    hi txid_snapshot NOT NULL,
    late_txids int8multirange NOT NULL,
    late_txid bigint NOT NULL,
    late_id bigint NOT NULL,
    passed_due timestamp with time zone[],
    passed_id bigint[],
    passed_hi txid_snapshot[],
    promoted bigint[]
)
WITH (autovacuum_enabled=off);

COMMENT ON TABLE host.sample__promotion_2 IS 'A partition of host.sample__promotion.';

ALTER TABLE host.sample__promotion ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME host.sample__promotion_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE host.sample__schedule (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
PARTITION BY LIST (slot);
ALTER TABLE ONLY host.sample__schedule ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule IS 'Messages of queue sample that are not due yet. Append-only.';

COMMENT ON COLUMN host.sample__schedule.id IS 'Its number.';

COMMENT ON COLUMN host.sample__schedule.due IS 'When.';

COMMENT ON COLUMN host.sample__schedule.txid IS 'The transaction that inserted the row.';

COMMENT ON COLUMN host.sample__schedule.origin IS 'The message''s id.';

COMMENT ON COLUMN host.sample__schedule.enqueued_at IS 'When the message was enqueued.';

COMMENT ON COLUMN host.sample__schedule.handler_id IS 'The only handler that it is for. NULL: all.';

COMMENT ON COLUMN host.sample__schedule.slot IS 'The partition, by due time.';

COMMENT ON COLUMN host.sample__schedule.attempt IS 'The attempt that it is for.';

COMMENT ON COLUMN host.sample__schedule.headers IS 'As on the queue.';

COMMENT ON COLUMN host.sample__schedule.history IS 'As on the queue.';

COMMENT ON COLUMN host.sample__schedule.payload IS 'As on the queue.';

COMMENT ON COLUMN host.sample__schedule.expires_at IS 'As on the queue.';

COMMENT ON COLUMN host.sample__schedule.priority IS 'As on the queue.';

COMMENT ON COLUMN host.sample__schedule.key IS 'As on the queue.';

CREATE TABLE host.sample__schedule_0 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_0 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_0 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_1 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_1 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_1 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_10 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_10 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_10 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_11 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_11 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_11 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_12 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_12 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_12 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_13 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_13 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_13 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_14 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_14 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_14 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_15 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_15 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_15 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_16 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_16 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_16 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_17 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_17 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_17 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_18 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_18 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_18 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_19 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_19 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_19 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_2 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_2 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_2 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_20 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_20 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_20 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_3 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_3 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_3 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_4 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_4 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_4 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_5 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_5 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_5 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_6 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_6 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_6 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_7 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_7 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_7 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_8 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_8 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_8 IS 'A partition of host.sample__schedule.';

CREATE TABLE host.sample__schedule_9 (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    txid bigint DEFAULT txid_current() NOT NULL,
    origin bigint NOT NULL,
    enqueued_at timestamp with time zone NOT NULL,
    handler_id integer,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload jsonb NOT NULL,
    expires_at timestamp with time zone,
    priority smallint,
    key text
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);
ALTER TABLE ONLY host.sample__schedule_9 ALTER COLUMN payload SET STORAGE EXTERNAL;

COMMENT ON TABLE host.sample__schedule_9 IS 'A partition of host.sample__schedule.';

ALTER TABLE host.sample__schedule ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME host.sample__schedule_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE host.sample__settlement (
    lease_id bigint NOT NULL,
    seq integer NOT NULL,
    rest integer NOT NULL,
    settled_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    revoked boolean DEFAULT false NOT NULL,
    settled int4multirange NOT NULL,
    removed int4multirange,
    result_pos integer[],
    results bytea[],
    heir_session integer,
    heir_seq bigint,
    parked integer
)
PARTITION BY LIST ((((lease_id / '100000000000'::bigint) % (3)::bigint)));

COMMENT ON TABLE host.sample__settlement IS 'Settlements of queue sample: which messages of a lease are done. Append-only.';

COMMENT ON COLUMN host.sample__settlement.lease_id IS 'The lease.';

COMMENT ON COLUMN host.sample__settlement.seq IS 'Its number within the lease.';

COMMENT ON COLUMN host.sample__settlement.rest IS 'Messages that are not settled after it.';

COMMENT ON COLUMN host.sample__settlement.settled_at IS 'When.';

COMMENT ON COLUMN host.sample__settlement.revoked IS 'Whether the lease was taken over.';

COMMENT ON COLUMN host.sample__settlement.settled IS 'The positions that it settles.';

COMMENT ON COLUMN host.sample__settlement.removed IS 'Of these: removed by an operator.';

COMMENT ON COLUMN host.sample__settlement.result_pos IS 'Of these: acked with a result.';

COMMENT ON COLUMN host.sample__settlement.results IS 'The results, in the same order.';

COMMENT ON COLUMN host.sample__settlement.heir_session IS 'Who took the lease over.';

COMMENT ON COLUMN host.sample__settlement.heir_seq IS 'What the taker calls its lease.';

COMMENT ON COLUMN host.sample__settlement.parked IS 'How many only went to the schedule.';

CREATE TABLE host.sample__settlement_0 (
    lease_id bigint NOT NULL,
    seq integer NOT NULL,
    rest integer NOT NULL,
    settled_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    revoked boolean DEFAULT false NOT NULL,
    settled int4multirange NOT NULL,
    removed int4multirange,
    result_pos integer[],
    results bytea[],
    heir_session integer,
    heir_seq bigint,
    parked integer
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);

COMMENT ON TABLE host.sample__settlement_0 IS 'A partition of host.sample__settlement.';

CREATE TABLE host.sample__settlement_1 (
    lease_id bigint NOT NULL,
    seq integer NOT NULL,
    rest integer NOT NULL,
    settled_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    revoked boolean DEFAULT false NOT NULL,
    settled int4multirange NOT NULL,
    removed int4multirange,
    result_pos integer[],
    results bytea[],
    heir_session integer,
    heir_seq bigint,
    parked integer
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);

COMMENT ON TABLE host.sample__settlement_1 IS 'A partition of host.sample__settlement.';

CREATE TABLE host.sample__settlement_2 (
    lease_id bigint NOT NULL,
    seq integer NOT NULL,
    rest integer NOT NULL,
    settled_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    revoked boolean DEFAULT false NOT NULL,
    settled int4multirange NOT NULL,
    removed int4multirange,
    result_pos integer[],
    results bytea[],
    heir_session integer,
    heir_seq bigint,
    parked integer
)
WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off);

COMMENT ON TABLE host.sample__settlement_2 IS 'A partition of host.sample__settlement.';

CREATE TABLE host.sample__unique (
    key text NOT NULL,
    message_id bigint NOT NULL,
    taken_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    settled_by integer[] DEFAULT '{}'::integer[] NOT NULL
);

COMMENT ON TABLE host.sample__unique IS 'Unique keys of queue sample that are taken.';

COMMENT ON COLUMN host.sample__unique.key IS 'The key.';

COMMENT ON COLUMN host.sample__unique.message_id IS 'The message that has it.';

COMMENT ON COLUMN host.sample__unique.taken_at IS 'Since when.';

COMMENT ON COLUMN host.sample__unique.settled_by IS 'The handlers that are done with the message.';

CREATE TABLE host.secret (
    name text NOT NULL,
    value text NOT NULL,
    set_at timestamp with time zone DEFAULT now() NOT NULL,
    set_by text DEFAULT CURRENT_USER NOT NULL
);

COMMENT ON TABLE host.secret IS 'Secrets of handlers: see host secret.';

COMMENT ON COLUMN host.secret.name IS 'Its name.';

COMMENT ON COLUMN host.secret.value IS 'For hosts alone: grant no other role SELECT on it.';

COMMENT ON COLUMN host.secret.set_at IS 'When it was set.';

COMMENT ON COLUMN host.secret.set_by IS 'By which role.';

CREATE TABLE host.session (
    id integer NOT NULL,
    host_name text NOT NULL,
    pid integer NOT NULL,
    host_version text NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    ended_at timestamp with time zone,
    lost boolean DEFAULT false NOT NULL
);

COMMENT ON TABLE host.session IS 'Runs of host serve.';

COMMENT ON COLUMN host.session.id IS 'Its number.';

COMMENT ON COLUMN host.session.host_name IS 'The machine.';

COMMENT ON COLUMN host.session.pid IS 'The process.';

COMMENT ON COLUMN host.session.host_version IS 'The release.';

COMMENT ON COLUMN host.session.started_at IS 'When it began.';

COMMENT ON COLUMN host.session.ended_at IS 'When it ended. NULL: it runs.';

COMMENT ON COLUMN host.session.lost IS 'Whether it was found dead.';

ALTER TABLE host.session ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME host.session_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE host.template (
    name text NOT NULL,
    body text NOT NULL
);

COMMENT ON TABLE host.template IS 'What a queue is made from: SQL in which {q} stands for the queue''s name.';

COMMENT ON COLUMN host.template.name IS 'Its file.';

COMMENT ON COLUMN host.template.body IS 'The SQL.';

CREATE VIEW queue.sample__orm AS
 SELECT NULL::bigint AS id,
    NULL::jsonb AS payload,
    NULL::jsonb AS headers,
    NULL::timestamp with time zone AS run_at,
    NULL::timestamp with time zone AS expires_at,
    NULL::smallint AS priority,
    NULL::text AS key,
    NULL::text AS unique_key
  WHERE false;

COMMENT ON VIEW queue.sample__orm IS 'Where object-relational mappers insert into queue sample. Always empty: what is inserted goes to queue.sample. Made by host: exclude it from schema tools.';

COMMENT ON COLUMN queue.sample__orm.id IS 'Given by the queue; a value that is inserted is ignored.';

COMMENT ON COLUMN queue.sample__orm.payload IS 'The message.';

COMMENT ON COLUMN queue.sample__orm.headers IS 'A JSON object. NULL, or JSON''s null: none.';

COMMENT ON COLUMN queue.sample__orm.run_at IS 'Not before this time. NULL: at once.';

COMMENT ON COLUMN queue.sample__orm.expires_at IS 'From this time on it is a dead letter and is not run. NULL: never.';

COMMENT ON COLUMN queue.sample__orm.priority IS '1 is high, 2 normal, 3 low. NULL: 2.';

COMMENT ON COLUMN queue.sample__orm.key IS 'Messages of one key run in order, or have limits of their own.';

COMMENT ON COLUMN queue.sample__orm.unique_key IS 'A duplicate gets the id of the message that has the key, or is refused.';

ALTER TABLE queue.sample ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME queue.sample_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ONLY host.heartbeat ATTACH PARTITION host.heartbeat_0 FOR VALUES IN ('0');

ALTER TABLE ONLY host.heartbeat ATTACH PARTITION host.heartbeat_1 FOR VALUES IN ('1');

ALTER TABLE ONLY host.heartbeat ATTACH PARTITION host.heartbeat_2 FOR VALUES IN ('2');

ALTER TABLE ONLY host.sample__history ATTACH PARTITION host.sample__history_0 FOR VALUES IN ('0');

ALTER TABLE ONLY host.sample__history ATTACH PARTITION host.sample__history_1 FOR VALUES IN ('1');

ALTER TABLE ONLY host.sample__history ATTACH PARTITION host.sample__history_10 FOR VALUES IN ('10');

ALTER TABLE ONLY host.sample__history ATTACH PARTITION host.sample__history_11 FOR VALUES IN ('11');

ALTER TABLE ONLY host.sample__history ATTACH PARTITION host.sample__history_2 FOR VALUES IN ('2');

ALTER TABLE ONLY host.sample__history ATTACH PARTITION host.sample__history_3 FOR VALUES IN ('3');

ALTER TABLE ONLY host.sample__history ATTACH PARTITION host.sample__history_4 FOR VALUES IN ('4');

ALTER TABLE ONLY host.sample__history ATTACH PARTITION host.sample__history_5 FOR VALUES IN ('5');

ALTER TABLE ONLY host.sample__history ATTACH PARTITION host.sample__history_6 FOR VALUES IN ('6');

ALTER TABLE ONLY host.sample__history ATTACH PARTITION host.sample__history_7 FOR VALUES IN ('7');

ALTER TABLE ONLY host.sample__history ATTACH PARTITION host.sample__history_8 FOR VALUES IN ('8');

ALTER TABLE ONLY host.sample__history ATTACH PARTITION host.sample__history_9 FOR VALUES IN ('9');

ALTER TABLE ONLY host.sample__lease ATTACH PARTITION host.sample__lease_0 FOR VALUES IN ('0');

ALTER TABLE ONLY host.sample__lease ATTACH PARTITION host.sample__lease_1 FOR VALUES IN ('1');

ALTER TABLE ONLY host.sample__lease ATTACH PARTITION host.sample__lease_2 FOR VALUES IN ('2');

ALTER TABLE ONLY queue.sample ATTACH PARTITION host.sample__message_0 FOR VALUES IN ('0');

ALTER TABLE ONLY queue.sample ATTACH PARTITION host.sample__message_1 FOR VALUES IN ('1');

ALTER TABLE ONLY queue.sample ATTACH PARTITION host.sample__message_2 FOR VALUES IN ('2');

ALTER TABLE ONLY host.sample__promotion ATTACH PARTITION host.sample__promotion_0 FOR VALUES IN ('0');

ALTER TABLE ONLY host.sample__promotion ATTACH PARTITION host.sample__promotion_1 FOR VALUES IN ('1');

ALTER TABLE ONLY host.sample__promotion ATTACH PARTITION host.sample__promotion_2 FOR VALUES IN ('2');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_0 FOR VALUES IN ('0');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_1 FOR VALUES IN ('1');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_10 FOR VALUES IN ('10');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_11 FOR VALUES IN ('11');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_12 FOR VALUES IN ('12');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_13 FOR VALUES IN ('13');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_14 FOR VALUES IN ('14');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_15 FOR VALUES IN ('15');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_16 FOR VALUES IN ('16');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_17 FOR VALUES IN ('17');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_18 FOR VALUES IN ('18');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_19 FOR VALUES IN ('19');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_2 FOR VALUES IN ('2');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_20 FOR VALUES IN ('20');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_3 FOR VALUES IN ('3');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_4 FOR VALUES IN ('4');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_5 FOR VALUES IN ('5');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_6 FOR VALUES IN ('6');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_7 FOR VALUES IN ('7');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_8 FOR VALUES IN ('8');

ALTER TABLE ONLY host.sample__schedule ATTACH PARTITION host.sample__schedule_9 FOR VALUES IN ('9');

ALTER TABLE ONLY host.sample__settlement ATTACH PARTITION host.sample__settlement_0 FOR VALUES IN ('0');

ALTER TABLE ONLY host.sample__settlement ATTACH PARTITION host.sample__settlement_1 FOR VALUES IN ('1');

ALTER TABLE ONLY host.sample__settlement ATTACH PARTITION host.sample__settlement_2 FOR VALUES IN ('2');

ALTER TABLE ONLY host.cancellation
    ADD CONSTRAINT cancellation_pkey PRIMARY KEY (handler_id, message_id);

ALTER TABLE ONLY host.catalog_change
    ADD CONSTRAINT catalog_change_pkey PRIMARY KEY (id);

ALTER TABLE ONLY host.catalog
    ADD CONSTRAINT catalog_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY host.cluster
    ADD CONSTRAINT cluster_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY host.component
    ADD CONSTRAINT component_pkey PRIMARY KEY (sha256);

ALTER TABLE ONLY host.cron
    ADD CONSTRAINT cron_name_key UNIQUE (name);

ALTER TABLE ONLY host.cron
    ADD CONSTRAINT cron_pkey PRIMARY KEY (id);

ALTER TABLE ONLY host.failing
    ADD CONSTRAINT failing_pkey PRIMARY KEY (session_id, handler_id);

ALTER TABLE ONLY host.handler
    ADD CONSTRAINT handler_pkey PRIMARY KEY (id);

ALTER TABLE ONLY host.handler
    ADD CONSTRAINT handler_queue_id_name_key UNIQUE (queue_id, name);

ALTER TABLE ONLY host.handler_version
    ADD CONSTRAINT handler_version_pkey PRIMARY KEY (handler_id, version);

ALTER TABLE ONLY host.loaded
    ADD CONSTRAINT loaded_pkey PRIMARY KEY (session_id, handler_id, version);

ALTER TABLE ONLY host.migration_functions
    ADD CONSTRAINT migration_functions_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY host.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (version);

ALTER TABLE ONLY host.migration_queue
    ADD CONSTRAINT migration_queue_pkey PRIMARY KEY (queue_id);

ALTER TABLE ONLY host.partition_count
    ADD CONSTRAINT partition_count_pkey PRIMARY KEY (queue_id, kind, leaf);

ALTER TABLE ONLY host.queue_functions
    ADD CONSTRAINT queue_functions_pkey PRIMARY KEY (queue_id);

ALTER TABLE ONLY host.queue
    ADD CONSTRAINT queue_name_key UNIQUE (name);

ALTER TABLE ONLY host.queue
    ADD CONSTRAINT queue_pkey PRIMARY KEY (id);

ALTER TABLE ONLY host.sample__dead_letter
    ADD CONSTRAINT sample__dead_letter_pkey PRIMARY KEY (id);

ALTER TABLE ONLY host.sample__unique
    ADD CONSTRAINT sample__unique_pkey PRIMARY KEY (key);

ALTER TABLE ONLY host.secret
    ADD CONSTRAINT secret_pkey PRIMARY KEY (name);

ALTER TABLE ONLY host.session
    ADD CONSTRAINT session_pkey PRIMARY KEY (id);

ALTER TABLE ONLY host.template
    ADD CONSTRAINT template_pkey PRIMARY KEY (name);

ALTER TABLE host.sample__schedule
    ADD CONSTRAINT txid_is_for_the_database_to_set CHECK ((((txid = txid_current()) AND (id > 0)) OR host.refuse_copied_row(id, txid))) NOT VALID;

ALTER TABLE queue.sample
    ADD CONSTRAINT txid_is_for_the_database_to_set CHECK ((((txid = txid_current()) AND (id > 0)) OR host.refuse_copied_row(id, txid))) NOT VALID;

CREATE INDEX heartbeat_newest ON ONLY host.heartbeat USING btree (session_id, beat);

CREATE INDEX heartbeat_0_session_id_beat_idx ON host.heartbeat_0 USING btree (session_id, beat);

CREATE INDEX heartbeat_1_session_id_beat_idx ON host.heartbeat_1 USING btree (session_id, beat);

CREATE INDEX heartbeat_2_session_id_beat_idx ON host.heartbeat_2 USING btree (session_id, beat);

CREATE INDEX pace_queue_id_handler_id_idx ON host.pace USING btree (queue_id, handler_id);

CREATE INDEX sample__dead_letter_message_id_idx ON host.sample__dead_letter USING btree (message_id);

CREATE INDEX sample__history_message ON ONLY host.sample__history USING btree (message_id);

CREATE INDEX sample__history_0_message_id_idx ON host.sample__history_0 USING btree (message_id);

CREATE INDEX sample__history_settled ON ONLY host.sample__history USING btree (settled_at);

CREATE INDEX sample__history_0_settled_at_idx ON host.sample__history_0 USING btree (settled_at);

CREATE INDEX sample__history_10_message_id_idx ON host.sample__history_10 USING btree (message_id);

CREATE INDEX sample__history_10_settled_at_idx ON host.sample__history_10 USING btree (settled_at);

CREATE INDEX sample__history_11_message_id_idx ON host.sample__history_11 USING btree (message_id);

CREATE INDEX sample__history_11_settled_at_idx ON host.sample__history_11 USING btree (settled_at);

CREATE INDEX sample__history_1_message_id_idx ON host.sample__history_1 USING btree (message_id);

CREATE INDEX sample__history_1_settled_at_idx ON host.sample__history_1 USING btree (settled_at);

CREATE INDEX sample__history_2_message_id_idx ON host.sample__history_2 USING btree (message_id);

CREATE INDEX sample__history_2_settled_at_idx ON host.sample__history_2 USING btree (settled_at);

CREATE INDEX sample__history_3_message_id_idx ON host.sample__history_3 USING btree (message_id);

CREATE INDEX sample__history_3_settled_at_idx ON host.sample__history_3 USING btree (settled_at);

CREATE INDEX sample__history_4_message_id_idx ON host.sample__history_4 USING btree (message_id);

CREATE INDEX sample__history_4_settled_at_idx ON host.sample__history_4 USING btree (settled_at);

CREATE INDEX sample__history_5_message_id_idx ON host.sample__history_5 USING btree (message_id);

CREATE INDEX sample__history_5_settled_at_idx ON host.sample__history_5 USING btree (settled_at);

CREATE INDEX sample__history_6_message_id_idx ON host.sample__history_6 USING btree (message_id);

CREATE INDEX sample__history_6_settled_at_idx ON host.sample__history_6 USING btree (settled_at);

CREATE INDEX sample__history_7_message_id_idx ON host.sample__history_7 USING btree (message_id);

CREATE INDEX sample__history_7_settled_at_idx ON host.sample__history_7 USING btree (settled_at);

CREATE INDEX sample__history_8_message_id_idx ON host.sample__history_8 USING btree (message_id);

CREATE INDEX sample__history_8_settled_at_idx ON host.sample__history_8 USING btree (settled_at);

CREATE INDEX sample__history_9_message_id_idx ON host.sample__history_9 USING btree (message_id);

CREATE INDEX sample__history_9_settled_at_idx ON host.sample__history_9 USING btree (settled_at);

CREATE INDEX sample__lease_0_handler_id_id_idx ON host.sample__lease_0 USING btree (handler_id, id) WHERE is_cursor;

CREATE UNIQUE INDEX sample__lease_0_id_idx ON host.sample__lease_0 USING btree (id);

CREATE UNIQUE INDEX sample__lease_0_session_id_seq_idx ON host.sample__lease_0 USING btree (session_id, seq);

CREATE INDEX sample__lease_1_handler_id_id_idx ON host.sample__lease_1 USING btree (handler_id, id) WHERE is_cursor;

CREATE UNIQUE INDEX sample__lease_1_id_idx ON host.sample__lease_1 USING btree (id);

CREATE UNIQUE INDEX sample__lease_1_session_id_seq_idx ON host.sample__lease_1 USING btree (session_id, seq);

CREATE INDEX sample__lease_2_handler_id_id_idx ON host.sample__lease_2 USING btree (handler_id, id) WHERE is_cursor;

CREATE UNIQUE INDEX sample__lease_2_id_idx ON host.sample__lease_2 USING btree (id);

CREATE UNIQUE INDEX sample__lease_2_session_id_seq_idx ON host.sample__lease_2 USING btree (session_id, seq);

CREATE INDEX sample__message_window ON ONLY queue.sample USING btree (txid, id);

CREATE INDEX sample__message_0_txid_id_idx ON host.sample__message_0 USING btree (txid, id);

CREATE INDEX sample__message_1_txid_id_idx ON host.sample__message_1 USING btree (txid, id);

CREATE INDEX sample__message_2_txid_id_idx ON host.sample__message_2 USING btree (txid, id);

CREATE UNIQUE INDEX sample__promotion_0_id_idx ON host.sample__promotion_0 USING btree (id);

CREATE UNIQUE INDEX sample__promotion_1_id_idx ON host.sample__promotion_1 USING btree (id);

CREATE UNIQUE INDEX sample__promotion_2_id_idx ON host.sample__promotion_2 USING btree (id);

CREATE INDEX sample__schedule_due ON ONLY host.sample__schedule USING btree (due, id);

CREATE INDEX sample__schedule_0_due_id_idx ON host.sample__schedule_0 USING btree (due, id);

CREATE INDEX sample__schedule_late ON ONLY host.sample__schedule USING btree (txid, id);

CREATE INDEX sample__schedule_0_txid_id_idx ON host.sample__schedule_0 USING btree (txid, id);

CREATE INDEX sample__schedule_10_due_id_idx ON host.sample__schedule_10 USING btree (due, id);

CREATE INDEX sample__schedule_10_txid_id_idx ON host.sample__schedule_10 USING btree (txid, id);

CREATE INDEX sample__schedule_11_due_id_idx ON host.sample__schedule_11 USING btree (due, id);

CREATE INDEX sample__schedule_11_txid_id_idx ON host.sample__schedule_11 USING btree (txid, id);

CREATE INDEX sample__schedule_12_due_id_idx ON host.sample__schedule_12 USING btree (due, id);

CREATE INDEX sample__schedule_12_txid_id_idx ON host.sample__schedule_12 USING btree (txid, id);

CREATE INDEX sample__schedule_13_due_id_idx ON host.sample__schedule_13 USING btree (due, id);

CREATE INDEX sample__schedule_13_txid_id_idx ON host.sample__schedule_13 USING btree (txid, id);

CREATE INDEX sample__schedule_14_due_id_idx ON host.sample__schedule_14 USING btree (due, id);

CREATE INDEX sample__schedule_14_txid_id_idx ON host.sample__schedule_14 USING btree (txid, id);

CREATE INDEX sample__schedule_15_due_id_idx ON host.sample__schedule_15 USING btree (due, id);

CREATE INDEX sample__schedule_15_txid_id_idx ON host.sample__schedule_15 USING btree (txid, id);

CREATE INDEX sample__schedule_16_due_id_idx ON host.sample__schedule_16 USING btree (due, id);

CREATE INDEX sample__schedule_16_txid_id_idx ON host.sample__schedule_16 USING btree (txid, id);

CREATE INDEX sample__schedule_17_due_id_idx ON host.sample__schedule_17 USING btree (due, id);

CREATE INDEX sample__schedule_17_txid_id_idx ON host.sample__schedule_17 USING btree (txid, id);

CREATE INDEX sample__schedule_18_due_id_idx ON host.sample__schedule_18 USING btree (due, id);

CREATE INDEX sample__schedule_18_txid_id_idx ON host.sample__schedule_18 USING btree (txid, id);

CREATE INDEX sample__schedule_19_due_id_idx ON host.sample__schedule_19 USING btree (due, id);

CREATE INDEX sample__schedule_19_txid_id_idx ON host.sample__schedule_19 USING btree (txid, id);

CREATE INDEX sample__schedule_1_due_id_idx ON host.sample__schedule_1 USING btree (due, id);

CREATE INDEX sample__schedule_1_txid_id_idx ON host.sample__schedule_1 USING btree (txid, id);

CREATE INDEX sample__schedule_20_due_id_idx ON host.sample__schedule_20 USING btree (due, id);

CREATE INDEX sample__schedule_20_txid_id_idx ON host.sample__schedule_20 USING btree (txid, id);

CREATE INDEX sample__schedule_2_due_id_idx ON host.sample__schedule_2 USING btree (due, id);

CREATE INDEX sample__schedule_2_txid_id_idx ON host.sample__schedule_2 USING btree (txid, id);

CREATE INDEX sample__schedule_3_due_id_idx ON host.sample__schedule_3 USING btree (due, id);

CREATE INDEX sample__schedule_3_txid_id_idx ON host.sample__schedule_3 USING btree (txid, id);

CREATE INDEX sample__schedule_4_due_id_idx ON host.sample__schedule_4 USING btree (due, id);

CREATE INDEX sample__schedule_4_txid_id_idx ON host.sample__schedule_4 USING btree (txid, id);

CREATE INDEX sample__schedule_5_due_id_idx ON host.sample__schedule_5 USING btree (due, id);

CREATE INDEX sample__schedule_5_txid_id_idx ON host.sample__schedule_5 USING btree (txid, id);

CREATE INDEX sample__schedule_6_due_id_idx ON host.sample__schedule_6 USING btree (due, id);

CREATE INDEX sample__schedule_6_txid_id_idx ON host.sample__schedule_6 USING btree (txid, id);

CREATE INDEX sample__schedule_7_due_id_idx ON host.sample__schedule_7 USING btree (due, id);

CREATE INDEX sample__schedule_7_txid_id_idx ON host.sample__schedule_7 USING btree (txid, id);

CREATE INDEX sample__schedule_8_due_id_idx ON host.sample__schedule_8 USING btree (due, id);

CREATE INDEX sample__schedule_8_txid_id_idx ON host.sample__schedule_8 USING btree (txid, id);

CREATE INDEX sample__schedule_9_due_id_idx ON host.sample__schedule_9 USING btree (due, id);

CREATE INDEX sample__schedule_9_txid_id_idx ON host.sample__schedule_9 USING btree (txid, id);

CREATE UNIQUE INDEX sample__settlement_0_lease_id_seq_idx ON host.sample__settlement_0 USING btree (lease_id, seq);

CREATE UNIQUE INDEX sample__settlement_1_lease_id_seq_idx ON host.sample__settlement_1 USING btree (lease_id, seq);

CREATE UNIQUE INDEX sample__settlement_2_lease_id_seq_idx ON host.sample__settlement_2 USING btree (lease_id, seq);

CREATE INDEX sample__unique_message_id_idx ON host.sample__unique USING btree (message_id);

CREATE INDEX sample__unique_taken_at_idx ON host.sample__unique USING btree (taken_at) WHERE (settled_by <> '{}'::integer[]);

CREATE INDEX session_live ON host.session USING btree (id) WHERE (ended_at IS NULL);

ALTER INDEX host.heartbeat_newest ATTACH PARTITION host.heartbeat_0_session_id_beat_idx;

ALTER INDEX host.heartbeat_newest ATTACH PARTITION host.heartbeat_1_session_id_beat_idx;

ALTER INDEX host.heartbeat_newest ATTACH PARTITION host.heartbeat_2_session_id_beat_idx;

ALTER INDEX host.sample__history_message ATTACH PARTITION host.sample__history_0_message_id_idx;

ALTER INDEX host.sample__history_settled ATTACH PARTITION host.sample__history_0_settled_at_idx;

ALTER INDEX host.sample__history_message ATTACH PARTITION host.sample__history_10_message_id_idx;

ALTER INDEX host.sample__history_settled ATTACH PARTITION host.sample__history_10_settled_at_idx;

ALTER INDEX host.sample__history_message ATTACH PARTITION host.sample__history_11_message_id_idx;

ALTER INDEX host.sample__history_settled ATTACH PARTITION host.sample__history_11_settled_at_idx;

ALTER INDEX host.sample__history_message ATTACH PARTITION host.sample__history_1_message_id_idx;

ALTER INDEX host.sample__history_settled ATTACH PARTITION host.sample__history_1_settled_at_idx;

ALTER INDEX host.sample__history_message ATTACH PARTITION host.sample__history_2_message_id_idx;

ALTER INDEX host.sample__history_settled ATTACH PARTITION host.sample__history_2_settled_at_idx;

ALTER INDEX host.sample__history_message ATTACH PARTITION host.sample__history_3_message_id_idx;

ALTER INDEX host.sample__history_settled ATTACH PARTITION host.sample__history_3_settled_at_idx;

ALTER INDEX host.sample__history_message ATTACH PARTITION host.sample__history_4_message_id_idx;

ALTER INDEX host.sample__history_settled ATTACH PARTITION host.sample__history_4_settled_at_idx;

ALTER INDEX host.sample__history_message ATTACH PARTITION host.sample__history_5_message_id_idx;

ALTER INDEX host.sample__history_settled ATTACH PARTITION host.sample__history_5_settled_at_idx;

ALTER INDEX host.sample__history_message ATTACH PARTITION host.sample__history_6_message_id_idx;

ALTER INDEX host.sample__history_settled ATTACH PARTITION host.sample__history_6_settled_at_idx;

ALTER INDEX host.sample__history_message ATTACH PARTITION host.sample__history_7_message_id_idx;

ALTER INDEX host.sample__history_settled ATTACH PARTITION host.sample__history_7_settled_at_idx;

ALTER INDEX host.sample__history_message ATTACH PARTITION host.sample__history_8_message_id_idx;

ALTER INDEX host.sample__history_settled ATTACH PARTITION host.sample__history_8_settled_at_idx;

ALTER INDEX host.sample__history_message ATTACH PARTITION host.sample__history_9_message_id_idx;

ALTER INDEX host.sample__history_settled ATTACH PARTITION host.sample__history_9_settled_at_idx;

ALTER INDEX queue.sample__message_window ATTACH PARTITION host.sample__message_0_txid_id_idx;

ALTER INDEX queue.sample__message_window ATTACH PARTITION host.sample__message_1_txid_id_idx;

ALTER INDEX queue.sample__message_window ATTACH PARTITION host.sample__message_2_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_0_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_0_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_10_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_10_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_11_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_11_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_12_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_12_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_13_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_13_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_14_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_14_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_15_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_15_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_16_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_16_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_17_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_17_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_18_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_18_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_19_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_19_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_1_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_1_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_20_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_20_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_2_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_2_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_3_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_3_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_4_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_4_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_5_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_5_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_6_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_6_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_7_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_7_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_8_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_8_txid_id_idx;

ALTER INDEX host.sample__schedule_due ATTACH PARTITION host.sample__schedule_9_due_id_idx;

ALTER INDEX host.sample__schedule_late ATTACH PARTITION host.sample__schedule_9_txid_id_idx;

CREATE TRIGGER bump_catalog AFTER INSERT OR DELETE OR UPDATE OF paused ON host.cron FOR EACH ROW EXECUTE FUNCTION host.bump_catalog();

ALTER TABLE host.cron ENABLE ALWAYS TRIGGER bump_catalog;

CREATE TRIGGER bump_catalog AFTER INSERT OR DELETE OR UPDATE ON host.handler FOR EACH ROW EXECUTE FUNCTION host.bump_catalog();

ALTER TABLE host.handler ENABLE ALWAYS TRIGGER bump_catalog;

CREATE TRIGGER bump_catalog AFTER INSERT OR DELETE OR UPDATE ON host.handler_version FOR EACH ROW EXECUTE FUNCTION host.bump_catalog();

ALTER TABLE host.handler_version ENABLE ALWAYS TRIGGER bump_catalog;

CREATE TRIGGER bump_catalog AFTER INSERT OR DELETE OR UPDATE ON host.queue FOR EACH ROW EXECUTE FUNCTION host.bump_catalog();

ALTER TABLE host.queue ENABLE ALWAYS TRIGGER bump_catalog;

CREATE TRIGGER bump_catalog AFTER INSERT OR DELETE OR UPDATE ON host.secret FOR EACH ROW EXECUTE FUNCTION host.bump_catalog();

ALTER TABLE host.secret ENABLE ALWAYS TRIGGER bump_catalog;

CREATE TRIGGER refuse_change BEFORE DELETE OR UPDATE ON host.sample__message_0 FOR EACH STATEMENT EXECUTE FUNCTION host.refuse_change();

ALTER TABLE host.sample__message_0 ENABLE ALWAYS TRIGGER refuse_change;

CREATE TRIGGER refuse_change BEFORE DELETE OR UPDATE ON host.sample__message_1 FOR EACH STATEMENT EXECUTE FUNCTION host.refuse_change();

ALTER TABLE host.sample__message_1 ENABLE ALWAYS TRIGGER refuse_change;

CREATE TRIGGER refuse_change BEFORE DELETE OR UPDATE ON host.sample__message_2 FOR EACH STATEMENT EXECUTE FUNCTION host.refuse_change();

ALTER TABLE host.sample__message_2 ENABLE ALWAYS TRIGGER refuse_change;

CREATE TRIGGER insert_for_orm INSTEAD OF INSERT ON queue.sample__orm FOR EACH ROW EXECUTE FUNCTION host.sample__insert_for_orm();

CREATE TRIGGER refuse_change BEFORE DELETE OR UPDATE OR TRUNCATE ON queue.sample FOR EACH STATEMENT EXECUTE FUNCTION host.refuse_change();

ALTER TABLE queue.sample ENABLE ALWAYS TRIGGER refuse_change;

CREATE TRIGGER wake AFTER INSERT ON queue.sample FOR EACH STATEMENT EXECUTE FUNCTION host.sample__wake();

ALTER TABLE ONLY host.cancellation
    ADD CONSTRAINT cancellation_handler_id_fkey FOREIGN KEY (handler_id) REFERENCES host.handler(id) ON DELETE CASCADE;

ALTER TABLE ONLY host.cancellation
    ADD CONSTRAINT cancellation_queue_id_fkey FOREIGN KEY (queue_id) REFERENCES host.queue(id) ON DELETE CASCADE;

ALTER TABLE ONLY host.cron
    ADD CONSTRAINT cron_queue_id_fkey FOREIGN KEY (queue_id) REFERENCES host.queue(id);

ALTER TABLE ONLY host.handler
    ADD CONSTRAINT handler_queue_id_fkey FOREIGN KEY (queue_id) REFERENCES host.queue(id) ON DELETE CASCADE;

ALTER TABLE ONLY host.handler_version
    ADD CONSTRAINT handler_version_handler_id_fkey FOREIGN KEY (handler_id) REFERENCES host.handler(id) ON DELETE CASCADE;

ALTER TABLE ONLY host.handler_version
    ADD CONSTRAINT handler_version_sha256_fkey FOREIGN KEY (sha256) REFERENCES host.component(sha256);

ALTER TABLE ONLY host.loaded
    ADD CONSTRAINT loaded_handler_id_fkey FOREIGN KEY (handler_id) REFERENCES host.handler(id) ON DELETE CASCADE;

ALTER TABLE ONLY host.loaded
    ADD CONSTRAINT loaded_session_id_fkey FOREIGN KEY (session_id) REFERENCES host.session(id) ON DELETE CASCADE;

ALTER TABLE ONLY host.queue_functions
    ADD CONSTRAINT queue_functions_queue_id_fkey FOREIGN KEY (queue_id) REFERENCES host.queue(id) ON DELETE CASCADE;

GRANT USAGE ON SCHEMA host TO host_operator;
GRANT USAGE ON SCHEMA host TO host_serve;

GRANT USAGE ON SCHEMA queue TO host_producer;
GRANT USAGE ON SCHEMA queue TO host_operator;
GRANT USAGE ON SCHEMA queue TO host_serve;

REVOKE ALL ON FUNCTION host.begin_from_now(p_handler integer) FROM PUBLIC;
GRANT ALL ON FUNCTION host.begin_from_now(p_handler integer) TO host_operator;

REVOKE ALL ON FUNCTION host.create_queue(p_name text, p_payload_type text, p_payload_bytes_max bigint, p_max_attempts integer, p_backoff_base_ms bigint, p_backoff_cap_ms bigint, p_rotate_bytes bigint, p_rotate_age_ms bigint, p_wake_up boolean, p_delays_ms bigint[], p_keep_ms bigint, p_priorities boolean, p_ordered_lanes integer, p_keyed_lanes integer) FROM PUBLIC;
GRANT ALL ON FUNCTION host.create_queue(p_name text, p_payload_type text, p_payload_bytes_max bigint, p_max_attempts integer, p_backoff_base_ms bigint, p_backoff_cap_ms bigint, p_rotate_bytes bigint, p_rotate_age_ms bigint, p_wake_up boolean, p_delays_ms bigint[], p_keep_ms bigint, p_priorities boolean, p_ordered_lanes integer, p_keyed_lanes integer) TO host_operator;

REVOKE ALL ON FUNCTION host.deploy(p_queue text, p_handler text, p_sha256 text, p_config jsonb, p_isolation text, p_concurrency integer, p_memory_bytes bigint, p_timeout_ms bigint, p_cpu_ms bigint, p_log_bytes bigint, p_follow_ups integer, p_follow_up_bytes bigint, p_http text[], p_secrets text[], p_http_requests integer, p_http_bytes bigint, p_batch_size integer, OUT handler_id integer, OUT version integer) FROM PUBLIC;
GRANT ALL ON FUNCTION host.deploy(p_queue text, p_handler text, p_sha256 text, p_config jsonb, p_isolation text, p_concurrency integer, p_memory_bytes bigint, p_timeout_ms bigint, p_cpu_ms bigint, p_log_bytes bigint, p_follow_ups integer, p_follow_up_bytes bigint, p_http text[], p_secrets text[], p_http_requests integer, p_http_bytes bigint, p_batch_size integer, OUT handler_id integer, OUT version integer) TO host_operator;

REVOKE ALL ON FUNCTION host.drop_queue(p_name text, p_force boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION host.drop_queue(p_name text, p_force boolean) TO host_operator;

GRANT SELECT ON TABLE host.queue TO host_operator;
GRANT SELECT ON TABLE host.queue TO host_serve;

GRANT UPDATE(paused) ON TABLE host.queue TO host_operator;

REVOKE ALL ON FUNCTION host.grant_producer(p_queue text, p_role name) FROM PUBLIC;
GRANT ALL ON FUNCTION host.grant_producer(p_queue text, p_role name) TO host_operator;

REVOKE ALL ON FUNCTION host.idle(p_queue text, p_cap integer, OUT idle boolean, OUT dead bigint, OUT last_minute bigint, OUT bytes bigint, OUT clock_ms bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION host.idle(p_queue text, p_cap integer, OUT idle boolean, OUT dead bigint, OUT last_minute bigint, OUT bytes bigint, OUT clock_ms bigint) TO host_operator;

REVOKE ALL ON FUNCTION host.remove_handler(p_handler integer) FROM PUBLIC;
GRANT ALL ON FUNCTION host.remove_handler(p_handler integer) TO host_operator;

REVOKE ALL ON FUNCTION host.sample__advance() FROM PUBLIC;
GRANT ALL ON FUNCTION host.sample__advance() TO host_serve;

REVOKE ALL ON FUNCTION host.sample__missing(p_lease bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION host.sample__missing(p_lease bigint) TO host_serve;

REVOKE ALL ON FUNCTION host.sample__purge(p_handler integer, p_lane integer, p_n integer, OUT removed integer, OUT parked integer, OUT more boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION host.sample__purge(p_handler integer, p_lane integer, p_n integer, OUT removed integer, OUT parked integer, OUT more boolean) TO host_operator;

REVOKE ALL ON FUNCTION host.sample__take_key() FROM PUBLIC;

REVOKE ALL ON FUNCTION host.sample__truncate(p_leaf integer) FROM PUBLIC;
GRANT ALL ON FUNCTION host.sample__truncate(p_leaf integer) TO host_serve;

REVOKE ALL ON FUNCTION host.sample__truncate_history() FROM PUBLIC;
GRANT ALL ON FUNCTION host.sample__truncate_history() TO host_serve;

REVOKE ALL ON FUNCTION host.sample__truncate_schedule() FROM PUBLIC;
GRANT ALL ON FUNCTION host.sample__truncate_schedule() TO host_serve;

REVOKE ALL ON FUNCTION host.sample__try_truncate(p_leaf integer, OUT why text, OUT again boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION host.sample__try_truncate(p_leaf integer, OUT why text, OUT again boolean) TO host_serve;

REVOKE ALL ON FUNCTION host.sample__wake() FROM PUBLIC;

REVOKE ALL ON FUNCTION host.set_keep(p_queue text, p_keep_ms bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION host.set_keep(p_queue text, p_keep_ms bigint) TO host_operator;

REVOKE ALL ON FUNCTION host.set_limits(p_queue text, p_fleet_concurrency integer, p_rate_count integer, p_rate_ms bigint, p_rate_burst integer) FROM PUBLIC;
GRANT ALL ON FUNCTION host.set_limits(p_queue text, p_fleet_concurrency integer, p_rate_count integer, p_rate_ms bigint, p_rate_burst integer) TO host_operator;

REVOKE ALL ON FUNCTION host.set_queue(p_queue text, p_max_attempts integer, p_backoff_base_ms bigint, p_backoff_cap_ms bigint, p_delays_ms bigint[], p_payload_bytes_max bigint, p_rotate_bytes bigint, p_rotate_age_ms bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION host.set_queue(p_queue text, p_max_attempts integer, p_backoff_base_ms bigint, p_backoff_cap_ms bigint, p_delays_ms bigint[], p_payload_bytes_max bigint, p_rotate_bytes bigint, p_rotate_age_ms bigint) TO host_operator;

REVOKE ALL ON FUNCTION host.set_unique(p_queue text, p_unique_ms bigint, p_on_duplicate text) FROM PUBLIC;
GRANT ALL ON FUNCTION host.set_unique(p_queue text, p_unique_ms bigint, p_on_duplicate text) TO host_operator;

REVOKE ALL ON FUNCTION host.set_wake_up(p_queue text, p_wake_up boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION host.set_wake_up(p_queue text, p_wake_up boolean) TO host_operator;

REVOKE ALL ON FUNCTION host.truncate_heartbeat() FROM PUBLIC;
GRANT ALL ON FUNCTION host.truncate_heartbeat() TO host_serve;

GRANT SELECT,INSERT,DELETE ON TABLE host.cancellation TO host_operator;
GRANT SELECT,DELETE ON TABLE host.cancellation TO host_serve;

GRANT SELECT ON TABLE host.catalog TO host_operator;
GRANT SELECT ON TABLE host.catalog TO host_serve;

GRANT UPDATE(version) ON TABLE host.catalog TO host_serve;

GRANT SELECT ON TABLE host.catalog_change TO host_operator;
GRANT SELECT,DELETE ON TABLE host.catalog_change TO host_serve;

GRANT INSERT(changed_at) ON TABLE host.catalog_change TO host_operator;
GRANT INSERT(changed_at) ON TABLE host.catalog_change TO host_serve;

GRANT SELECT ON TABLE host.cluster TO host_operator;
GRANT SELECT ON TABLE host.cluster TO host_serve;

GRANT SELECT,INSERT ON TABLE host.component TO host_operator;
GRANT SELECT ON TABLE host.component TO host_serve;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE host.cron TO host_operator;
GRANT SELECT,UPDATE ON TABLE host.cron TO host_serve;

GRANT SELECT ON TABLE host.failing TO host_operator;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE host.failing TO host_serve;

GRANT SELECT ON TABLE host.handler TO host_operator;
GRANT SELECT ON TABLE host.handler TO host_serve;

GRANT UPDATE(version) ON TABLE host.handler TO host_operator;

GRANT UPDATE(paused) ON TABLE host.handler TO host_operator;

GRANT SELECT ON TABLE host.handler_version TO host_operator;
GRANT SELECT ON TABLE host.handler_version TO host_serve;

GRANT SELECT ON TABLE host.heartbeat TO host_operator;
GRANT SELECT,INSERT ON TABLE host.heartbeat TO host_serve;

GRANT SELECT,DELETE ON TABLE host.loaded TO host_operator;
GRANT SELECT,INSERT ON TABLE host.loaded TO host_serve;

GRANT UPDATE(error) ON TABLE host.loaded TO host_serve;

GRANT UPDATE(loaded_at) ON TABLE host.loaded TO host_serve;

GRANT SELECT ON TABLE host.migration TO host_operator;
GRANT SELECT ON TABLE host.migration TO host_serve;

GRANT SELECT ON TABLE host.migration_functions TO host_operator;
GRANT SELECT ON TABLE host.migration_functions TO host_serve;

GRANT SELECT ON TABLE host.pace TO host_operator;
GRANT SELECT ON TABLE host.pace TO host_serve;

GRANT SELECT ON TABLE host.partition_count TO host_operator;

GRANT SELECT ON TABLE host.queue_functions TO host_operator;

GRANT UPDATE ON SEQUENCE host.sample__asleep TO host_serve;

GRANT SELECT,DELETE ON TABLE host.sample__dead_letter TO host_operator;
GRANT INSERT ON TABLE host.sample__dead_letter TO host_serve;

GRANT SELECT ON TABLE host.sample__history TO host_operator;
GRANT INSERT ON TABLE host.sample__history TO host_serve;

GRANT SELECT ON TABLE host.sample__lease TO host_operator;
GRANT SELECT,INSERT ON TABLE host.sample__lease TO host_serve;

GRANT SELECT ON SEQUENCE host.sample__lease_id_seq TO host_operator;
GRANT SELECT ON SEQUENCE host.sample__lease_id_seq TO host_serve;

GRANT SELECT ON TABLE queue.sample TO host_operator;
GRANT SELECT,INSERT ON TABLE queue.sample TO host_serve;

GRANT SELECT(id) ON TABLE queue.sample TO host_producer;

GRANT INSERT(enqueued_at) ON TABLE queue.sample TO host_operator;

GRANT INSERT(run_at) ON TABLE queue.sample TO host_producer;
GRANT INSERT(run_at) ON TABLE queue.sample TO host_operator;

GRANT INSERT(origin) ON TABLE queue.sample TO host_operator;

GRANT INSERT(handler_id) ON TABLE queue.sample TO host_operator;

GRANT INSERT(attempt) ON TABLE queue.sample TO host_operator;

GRANT INSERT(headers) ON TABLE queue.sample TO host_producer;
GRANT INSERT(headers) ON TABLE queue.sample TO host_operator;

GRANT INSERT(history) ON TABLE queue.sample TO host_operator;

GRANT INSERT(payload) ON TABLE queue.sample TO host_producer;
GRANT INSERT(payload) ON TABLE queue.sample TO host_operator;

GRANT INSERT(expires_at) ON TABLE queue.sample TO host_producer;
GRANT INSERT(expires_at) ON TABLE queue.sample TO host_operator;

GRANT INSERT(unique_key) ON TABLE queue.sample TO host_producer;
GRANT INSERT(unique_key) ON TABLE queue.sample TO host_operator;

GRANT INSERT(priority) ON TABLE queue.sample TO host_producer;
GRANT INSERT(priority) ON TABLE queue.sample TO host_operator;

GRANT INSERT(key) ON TABLE queue.sample TO host_producer;
GRANT INSERT(key) ON TABLE queue.sample TO host_operator;

GRANT SELECT ON TABLE host.sample__message_0 TO host_operator;

GRANT SELECT ON TABLE host.sample__message_1 TO host_operator;

GRANT SELECT ON TABLE host.sample__message_2 TO host_operator;

GRANT SELECT ON TABLE host.sample__promotion TO host_operator;
GRANT SELECT,INSERT ON TABLE host.sample__promotion TO host_serve;

GRANT SELECT ON SEQUENCE host.sample__promotion_id_seq TO host_operator;
GRANT SELECT ON SEQUENCE host.sample__promotion_id_seq TO host_serve;

GRANT SELECT ON TABLE host.sample__schedule TO host_operator;
GRANT SELECT,INSERT ON TABLE host.sample__schedule TO host_serve;

GRANT SELECT ON SEQUENCE host.sample__schedule_id_seq TO host_serve;

GRANT SELECT ON TABLE host.sample__settlement TO host_operator;
GRANT SELECT,INSERT ON TABLE host.sample__settlement TO host_serve;

GRANT SELECT ON TABLE host.sample__unique TO host_operator;
GRANT SELECT,DELETE ON TABLE host.sample__unique TO host_serve;

GRANT UPDATE(settled_by) ON TABLE host.sample__unique TO host_serve;

GRANT DELETE ON TABLE host.secret TO host_operator;

GRANT SELECT(name),INSERT(name) ON TABLE host.secret TO host_operator;
GRANT SELECT(name) ON TABLE host.secret TO host_serve;

GRANT INSERT(value),UPDATE(value) ON TABLE host.secret TO host_operator;
GRANT SELECT(value) ON TABLE host.secret TO host_serve;

GRANT SELECT(set_at),UPDATE(set_at) ON TABLE host.secret TO host_operator;

GRANT SELECT(set_by),UPDATE(set_by) ON TABLE host.secret TO host_operator;

GRANT SELECT ON TABLE host.session TO host_operator;
GRANT SELECT ON TABLE host.session TO host_serve;

GRANT INSERT(host_name) ON TABLE host.session TO host_serve;

GRANT INSERT(pid) ON TABLE host.session TO host_serve;

GRANT INSERT(host_version) ON TABLE host.session TO host_serve;

GRANT UPDATE(ended_at) ON TABLE host.session TO host_serve;

GRANT UPDATE(lost) ON TABLE host.session TO host_serve;

GRANT SELECT,INSERT ON TABLE queue.sample__orm TO host_producer;

GRANT SELECT ON SEQUENCE queue.sample_id_seq TO host_producer;
GRANT SELECT ON SEQUENCE queue.sample_id_seq TO host_operator;
GRANT SELECT ON SEQUENCE queue.sample_id_seq TO host_serve;
