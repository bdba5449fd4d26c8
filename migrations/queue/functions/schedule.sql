-- Template: the schedule's end. A partition of it is truncated when its time is over and all in it
-- is promoted. That it is, is proven as for messages: the owner's count has to be that of the
-- account.

-- Whether a bucket has messages that the cursor has not passed. Probes the index.
CREATE OR REPLACE FUNCTION host.{q}__slot_waits(p_slot int, p_due timestamptz, p_id bigint, p_hi txid_snapshot) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET enable_sort = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    waits boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM %1$s WHERE (due, id) > ($1, $2))'
        ' OR EXISTS (SELECT FROM %1$s WHERE txid >= $3) OR EXISTS (SELECT FROM %1$s WHERE txid = ANY ($4))',
        format('host.{q}__schedule_%s', p_slot))
        INTO waits USING p_due, p_id, txid_snapshot_xmax(p_hi), ARRAY(SELECT txid_snapshot_xip(p_hi));
    RETURN waits;
END $$;

-- Writes down the account anew, where the cursor stays. Under the lock of promotions.
CREATE OR REPLACE FUNCTION host.{q}__note_promoted(p_account bigint[]) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
    INSERT INTO host.{q}__promotion (due, schedule_id, hi, late_txids, late_txid, late_id, passed_due, passed_id, passed_hi,
            promoted)
        SELECT due, schedule_id, hi, late_txids, late_txid, late_id, passed_due, passed_id, passed_hi, p_account
        FROM host.{q}__promotion ORDER BY id DESC LIMIT 1
$$;

-- Truncates the leaves of the schedule whose time is over and whose messages are all promoted.
-- Returns how many. A leaf of which more are counted than were promoted stays, and that is noted.
-- Counts before it locks a leaf, for half a second each; the next call goes on.
-- Locks: advisory ({promotion_lock}, queue), tried; ACCESS EXCLUSIVE on the leaf, at most 20 ms.
-- SECURITY DEFINER, as truncate. Tables: schedule, promotion, host.partition_count.
CREATE OR REPLACE FUNCTION host.{q}__truncate_schedule() RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '20ms'
SET enable_sort = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
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
    IF NOT pg_try_advisory_xact_lock({promotion_lock}, {queue_id}) THEN
        RETURN 0;
    END IF;
    SELECT * INTO c FROM host.{q}__promotion ORDER BY id DESC LIMIT 1;
    IF NOT isempty(c.late_txids) OR NOT host.is_whole('host.{q}__schedule'::regclass, 21) THEN
        RETURN 0;
    END IF;
    account := coalesce(c.promoted, array_fill(NULL::bigint, ARRAY[21]));
    FOR level IN 0..6 LOOP
        -- The bucket before the present one has the leaf that comes after the next one's.
        slot := level * 3 + (extract(epoch FROM now())::bigint / width + 2) % 3;
        leaf := format('host.{q}__schedule_%s', slot);
        width := width * 16;
        IF pg_relation_size(leaf::regclass) = 0 THEN
            account[slot + 1] := 0;
            CONTINUE;
        END IF;
        CONTINUE WHEN host.{q}__slot_waits(slot, c.due, c.schedule_id, c.hi)
            OR (SELECT n.why IS NOT NULL FROM host.{q}__count('schedule', slot) n);
        SELECT n.hi, n.messages INTO STRICT counted FROM host.partition_count n
            WHERE n.queue_id = {queue_id} AND n.kind = 'schedule' AND n.leaf = slot;
        -- What has come since it was looked at is no loss.
        CONTINUE WHEN host.{q}__slot_waits(slot, c.due, c.schedule_id, c.hi);
        IF counted.messages > account[slot + 1] THEN
            UPDATE host.partition_count n SET missed = counted.messages - account[slot + 1]
                WHERE n.queue_id = {queue_id} AND n.kind = 'schedule' AND n.leaf = slot
                    AND n.missed IS DISTINCT FROM counted.messages - account[slot + 1];
            CONTINUE;
        END IF;
        BEGIN
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', leaf);
            IF NOT host.{q}__slot_waits(slot, c.due, c.schedule_id, c.hi)
                AND NOT host.{q}__has_later('schedule', slot, counted.hi)
                AND host.dump_at_work(ARRAY[leaf]::regclass[]) IS NULL THEN
                EXECUTE format('TRUNCATE %s', leaf);
                DELETE FROM host.partition_count n WHERE n.queue_id = {queue_id} AND n.kind = 'schedule' AND n.leaf = slot;
                account[slot + 1] := 0;
                truncated := truncated + 1;
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            NULL;  -- Somebody reads it: next time.
        END;
    END LOOP;
    IF account IS DISTINCT FROM c.promoted THEN
        PERFORM host.{q}__note_promoted(account);
    END IF;
    RETURN truncated;
END $$;
REVOKE EXECUTE ON FUNCTION host.{q}__truncate_schedule FROM PUBLIC;

-- Puts the messages of each leaf of the schedule of which some were missed on the queue, and takes
-- them into the account. One is known to have come if it is on the queue still: in doubt, it comes
-- once more. Returns how many. A part of deliver_missed. Locks: advisory ({promotion_lock}, queue).
-- Tables: schedule, message, promotion, host.partition_count.
CREATE OR REPLACE FUNCTION host.{q}__promote_missed() RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
DECLARE
    c record;
    n bigint;
    wanted bigint;
    total bigint := 0;
    account bigint[];
BEGIN
    PERFORM pg_advisory_xact_lock({promotion_lock}, {queue_id});
    SELECT p.promoted INTO account FROM host.{q}__promotion p ORDER BY p.id DESC LIMIT 1;
    FOR c IN SELECT x.leaf, x.hi, x.messages FROM host.partition_count x
        WHERE x.queue_id = {queue_id} AND x.kind = 'schedule' AND x.missed > 0 ORDER BY x.leaf
    LOOP
        EXECUTE format(
            'WITH missed AS MATERIALIZED (
                SELECT s.* FROM host.{q}__schedule_%s s
                WHERE txid_visible_in_snapshot(s.txid, $1) AND NOT EXISTS (SELECT FROM queue.{q} m
                    WHERE m.origin = s.origin AND m.attempt = s.attempt AND m.enqueued_at = s.enqueued_at
                        AND m.handler_id IS NOT DISTINCT FROM s.handler_id)
             ), again AS (
                INSERT INTO queue.{q} (enqueued_at, origin, handler_id, attempt, headers, history, payload, expires_at,
                    priority, key)
                SELECT s.enqueued_at, s.origin, s.handler_id, s.attempt, s.headers, s.history, s.payload, s.expires_at,
                    s.priority, s.key
                FROM missed s ORDER BY s.due, s.id
                RETURNING id
             )
             SELECT (SELECT count(*) FROM again), (SELECT count(*) FROM missed)', c.leaf)
            INTO n, wanted USING c.hi;
        PERFORM host.require_kept(n, wanted, 'queue.{q}');
        total := total + n;
        account[c.leaf + 1] := c.messages;
        UPDATE host.partition_count x SET missed = NULL
            WHERE x.queue_id = {queue_id} AND x.kind = 'schedule' AND x.leaf = c.leaf;
        PERFORM host.{q}__note_promoted(account);
    END LOOP;
    RETURN total;
END $$;
