-- COMMENTs, for people who look at the schemas with a tool. Tables touched: all of the system's, in their comments alone.
-- Locks: SHARE UPDATE EXCLUSIVE on what has no such comment yet; no host or producer waits for it.

-- All of them. `columns`: a JSON object. {q} stands for each queue's name.
CREATE OR REPLACE FUNCTION host.comments() RETURNS TABLE (relation text, comment text, columns jsonb)
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
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
            "tat": "With limits: when the next may start.", "held": "With limits: leases that were open."}'),
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
            "late_txid": "Of these: looked at up to this one …", "late_id": "… and this row."}'),
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
            '{"only_row": "Always true.", "sha256": "The digest.", "applied_at": "When."}'),
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

-- Comments on what has another comment, or none. Of a queue: its tables, view and partitions. NULL: on what is no queue's.
CREATE OR REPLACE FUNCTION host.put_comments(p_queue text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
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

COMMENT ON SCHEMA queue IS 'Queues of host: a table for each, to INSERT into. Made and changed by host alone: exclude it from schema tools.';
COMMENT ON SCHEMA host IS 'Of host, the job server: what it knows of its queues. Made and changed by host alone: exclude it from schema tools.';
SELECT host.put_comments();
