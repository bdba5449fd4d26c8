-- Template: promote. Moves what is due from the schedule into the queue.

-- Puts one message of the schedule on the queue, in a few tries. `why`: what is in the way; NULL:
-- it is on the queue. `passing`: the SQLSTATE, if that may pass by itself: it may concern all
-- messages alike. HQ012: a partition of the queue is detached. A lock that a trigger waits for is
-- not waited for long, so that other messages have their turn.
-- Tables: message, schedule.
CREATE OR REPLACE FUNCTION host.{q}__promote_one(p_due timestamptz, p_id bigint, OUT why text, OUT passing text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET enable_seqscan = off SET lock_timeout = '300ms' AS $$
DECLARE
    s record;
    inserted int;
    began timestamptz := clock_timestamp();
    context text;
    broken text;
BEGIN
    SELECT * INTO STRICT s FROM host.{q}__schedule x WHERE x.due = p_due AND x.id = p_id;
    FOR try IN 1..3 LOOP
        BEGIN
            INSERT INTO queue.{q} (enqueued_at, origin, handler_id, attempt, headers, history, payload, expires_at, priority, key)
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
                WHEN SQLSTATE = '23514' AND broken = '' AND NOT host.is_whole('queue.{q}'::regclass, 3) THEN 'HQ012'
            END;
        END;
        EXIT WHEN passing IS NULL;
    END LOOP;
END $$;

-- What becomes of a message that cannot be put on the queue: that costs it an attempt, and in the
-- end makes it a dead letter. Returns why, in words. Tables: schedule, dead_letter, unique.
CREATE OR REPLACE FUNCTION host.{q}__put_off(p_due timestamptz, p_id bigint, p_why text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET enable_seqscan = off AS $$
DECLARE
    s record;
    why text := 'cannot be put back on the queue: ' || p_why;
    entry jsonb;
    kept int;
    q host.queue;
BEGIN
    SELECT * INTO STRICT s FROM host.{q}__schedule x WHERE x.due = p_due AND x.id = p_id;
    SELECT * INTO STRICT q FROM host.queue x WHERE x.id = {queue_id};
    entry := coalesce(s.history, '[]') || jsonb_build_object('attempt', s.attempt, 'at', clock_timestamp(), 'error', why);
    IF s.attempt >= q.max_attempts AND s.handler_id IS NOT NULL THEN
        INSERT INTO host.{q}__dead_letter (message_id, enqueued_at, handler_id, attempt, reason, error, headers, history, payload, priority, key)
            VALUES (s.origin, s.enqueued_at, s.handler_id, s.attempt, 'attempts used up', why, s.headers, entry, s.payload, s.priority, s.key);
        GET DIAGNOSTICS kept = ROW_COUNT;
        PERFORM host.require_kept(kept, 1, 'host.{q}__dead_letter');
        IF {unique} THEN
            PERFORM host.{q}__release_keys(s.handler_id, ARRAY[s.origin]);
        END IF;
    ELSE
        -- Nobody's attempts end: without a handler it is tried for as long as it takes.
        IF s.handler_id IS NULL AND jsonb_array_length(entry) > 100 THEN
            entry := entry - 0;
        END IF;
        s.due := clock_timestamp() + host.retry_delay(q, s.attempt);
        INSERT INTO host.{q}__schedule (due, slot, origin, enqueued_at, handler_id, attempt, headers, history, payload, expires_at, priority, key)
            VALUES (s.due, host.slot(s.due, now()), s.origin, s.enqueued_at, s.handler_id, least(s.attempt, q.max_attempts - 1) + 1,
                s.headers, entry, s.payload, s.expires_at, s.priority, s.key);
        GET DIAGNOSTICS kept = ROW_COUNT;
        PERFORM host.require_kept(kept, 1, 'host.{q}__schedule');
    END IF;
    RETURN why;
END $$;

-- Puts messages on the queue one by one, where putting them there together has failed: a trigger or
-- constraint of somebody's is in the way of some. `done`: so many of the first are dealt with, for
-- which there are 5 s. What may pass by itself is a message's own fault if another went through;
-- else it is raised.
-- Tables: as promote_one, as put_off.
CREATE OR REPLACE FUNCTION host.{q}__promote_each(p_due timestamptz[], p_id bigint[], OUT done int, OUT refused int, OUT why text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
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
        SELECT * INTO one FROM host.{q}__promote_one(p_due[n], p_id[n]);
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
            HINT = CASE passing WHEN 'HQ012' THEN 'SELECT * FROM host.detached(''{q}'') says how to attach it again' ELSE '' END;
    END IF;
    FOR i IN 1 .. cardinality(blamed) LOOP
        why := host.{q}__put_off(p_due[blamed[i]], p_id[blamed[i]], blamed_why[i]);
    END LOOP;
    refused := cardinality(blamed);
END $$;

-- Promotes up to p_n messages that are due, as new rows of the queue. `again`: there are more, call
-- again at once. `next_ms`: how long until the next is due; NULL: none is known. `refused`: the
-- number of messages that cannot be put on the queue, one of them because of `why`.
--
-- The cursor is (hi, due, id): promoted is all that is visible in hi and due up to (due, id).
-- Rows may appear behind it, of transactions that commit later: they are found by the window from
-- hi to the present, so inserters take no lock. A clock that is set back takes the cursor back with
-- it, or all that is inserted then would be behind it, and promoted before it is due. Where the
-- cursor was is noted (passed_*) until it gets there again, so that nothing is promoted twice. The
-- snapshot is taken before the transaction has an xid (see lease). What it promotes is taken into
-- the account of its bucket. Raises HQ012 while a partition is detached. Asynchronous commit: lost,
-- it happens again, since the cursor is lost with it.
-- Locks: advisory ({promotion_lock}, queue), tried. Tables: schedule, promotion, message.
DO $$
BEGIN
    -- It had fewer columns once, which CREATE OR REPLACE does not change.
    IF EXISTS (SELECT FROM pg_proc p WHERE p.oid = to_regprocedure('host.{q}__promote(int)') AND 'why' <> ALL (p.proargnames)) THEN
        DROP FUNCTION host.{q}__promote(int);
    END IF;
END $$;
CREATE OR REPLACE FUNCTION host.{q}__promote(p_n int, OUT promoted int, OUT again boolean, OUT next_ms bigint,
    OUT refused int, OUT why text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET plan_cache_mode = force_generic_plan
SET enable_sort = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
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
    IF NOT pg_try_advisory_xact_lock({promotion_lock}, {queue_id}) THEN
        next_ms := 50;
        RETURN;
    END IF;
    -- A deferred constraint of somebody's would be in the way of the commit, and no more of a
    -- single message.
    SET CONSTRAINTS ALL IMMEDIATE;
    SELECT * INTO c FROM host.{q}__promotion ORDER BY id DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the schedule of queue "{q}" has no cursor to be seen: until then, no message is put back on the queue'
            USING ERRCODE = 'HQ012', HINT = 'SELECT * FROM host.detached(''{q}'') says which partition to attach';
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
        CONTINUE WHEN NOT EXISTS (SELECT FROM host.{q}__schedule s
            WHERE (s.txid, s.id) > (part.a_txid, part.a_id) AND s.txid < part.b
                AND (s.due, s.id) <= (c.due, c.schedule_id));
        BEGIN
            WITH due_rows AS MATERIALIZED (
                SELECT s.* FROM host.{q}__schedule s
                WHERE (s.txid, s.id) > (part.a_txid, part.a_id) AND s.txid < part.b
                    AND (s.due, s.id) <= (c.due, c.schedule_id)
                ORDER BY s.txid, s.id LIMIT p_n - promoted
            ), moved AS (
                INSERT INTO queue.{q} (enqueued_at, origin, handler_id, attempt, headers, history, payload, expires_at, priority, key)
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
                SELECT s.due, s.txid, s.id, s.slot FROM host.{q}__schedule s
                WHERE (s.txid, s.id) > (part.a_txid, part.a_id) AND s.txid < part.b
                    AND (s.due, s.id) <= (c.due, c.schedule_id)
                ORDER BY s.txid, s.id LIMIT p_n - promoted) x;
            SELECT * INTO each FROM host.{q}__promote_each(dues, ids);
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
    IF NOT again AND EXISTS (SELECT FROM host.{q}__schedule s
            WHERE (s.due, s.id) > (c.due, c.schedule_id) AND s.due <= due_now) THEN
        BEGIN
            WITH due_rows AS MATERIALIZED (
                SELECT s.* FROM host.{q}__schedule s
                WHERE (s.due, s.id) > (c.due, c.schedule_id) AND s.due <= due_now
                    AND txid_visible_in_snapshot(s.txid, hi)
                    AND (c.passed_due IS NULL
                        OR NOT host.was_passed(s.due, s.id, s.txid, c.passed_due, c.passed_id, c.passed_hi))
                ORDER BY s.due, s.id LIMIT p_n - promoted
            ), moved AS (
                INSERT INTO queue.{q} (enqueued_at, origin, handler_id, attempt, headers, history, payload, expires_at, priority, key)
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
                SELECT s.due, s.id, s.slot FROM host.{q}__schedule s
                WHERE (s.due, s.id) > (c.due, c.schedule_id) AND s.due <= due_now
                    AND txid_visible_in_snapshot(s.txid, hi)
                    AND (c.passed_due IS NULL
                        OR NOT host.was_passed(s.due, s.id, s.txid, c.passed_due, c.passed_id, c.passed_hi))
                ORDER BY s.due, s.id LIMIT p_n - promoted) x;
            SELECT * INTO each FROM host.{q}__promote_each(dues, ids);
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
        IF NOT host.is_whole('host.{q}__schedule'::regclass, 21) THEN
            RAISE EXCEPTION 'a partition of host.{q}__schedule is detached: until it is attached, no message is put back on the queue'
                USING ERRCODE = 'HQ012', HINT = 'SELECT * FROM host.detached(''{q}'') says how';
        END IF;
        INSERT INTO host.{q}__promotion (due, schedule_id, hi, late_txids, late_txid, late_id, passed_due, passed_id, passed_hi,
                promoted)
            VALUES (to_due, to_id, hi, late, CASE WHEN again AND NOT isempty(late) THEN late_txid ELSE 0 END,
                CASE WHEN again AND NOT isempty(late) THEN late_id ELSE 0 END, c.passed_due, c.passed_id, c.passed_hi,
                host.with_slots(c.promoted, slots));
    END IF;
    SELECT greatest(0, ceil(extract(epoch FROM s.due - clock_timestamp()) * 1000))::bigint INTO next_ms
        FROM host.{q}__schedule s WHERE (s.due, s.id) > (to_due, to_id) ORDER BY s.due, s.id LIMIT 1;
    IF c.passed_due IS NOT NULL THEN
        -- The next may have been promoted already.
        next_ms := greatest(next_ms, 100);
    END IF;
END $$;
