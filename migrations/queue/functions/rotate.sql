-- Template: rotation. truncate empties a leaf whose messages are all settled, advance moves on to
-- the next one. A generation's messages, leases, settlements and promotions lie in leaves of the
-- same number and go together. Each function is one try, alone in its transaction, and says in
-- words what is in the way; NULL means that it has done it.

-- Whether a leaf has a message that a handler's cursors have not passed.
CREATE OR REPLACE FUNCTION host.{q}__beyond_cursor(p_leaf int, p_handler int) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET enable_sort = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    found_one boolean;
BEGIN
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM host.{q}__cursors($1) c WHERE
            EXISTS (SELECT FROM host.{q}__message_%1$s m
                WHERE {lanes?m.lane = c.lane AND }m.txid >= txid_snapshot_xmax(c.hi))
            OR EXISTS (SELECT FROM host.{q}__message_%1$s m
                WHERE {lanes?m.lane = c.lane AND }m.txid = ANY (ARRAY(SELECT txid_snapshot_xip(c.hi))))
            OR c.more AND EXISTS ({ordered?SELECT FROM host.{q}__message_%1$s m
                WHERE m.lane = c.lane AND m.id > c.to_id AND m.id <= c.last_id AND m.txid <@ c.txids
            }{unordered?SELECT FROM host.parts_after(c.txids, c.to_txid, c.to_id) p
                CROSS JOIN LATERAL (SELECT FROM host.{q}__message_%1$s m
                    WHERE {lanes?m.lane = c.lane AND }(m.txid, m.id) > (p.a_txid, p.a_id) AND m.txid < p.b LIMIT 1) x}))',
        p_leaf) INTO found_one USING p_handler;
    RETURN found_one;
END $$;

-- What keeps a leaf from being truncated, in words, or NULL. Takes no lock but for reading. Leases
-- and settlements are joined by hashing: of tables without statistics Postgres would compare each
-- with each.
CREATE OR REPLACE FUNCTION host.{q}__holds(p_leaf int) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off SET enable_mergejoin = off SET enable_nestloop = off AS $$
DECLARE
    h record;
    o record;
    p bigint;
    oldest int;
BEGIN
    IF NOT EXISTS (SELECT FROM host.handler WHERE queue_id = {queue_id}) THEN
        RETURN 'no handler is deployed yet';
    END IF;
    FOR h IN SELECT * FROM host.handler WHERE queue_id = {queue_id} ORDER BY id LOOP
        IF EXISTS (SELECT FROM host.{q}__cursors(h.id) c WHERE c.id / {generation_size} % 3 = p_leaf) THEN
            RETURN format('the cursor of handler "%s" has not been carried forward', h.name);
        END IF;
        -- A lease's row and its settlement show which session took it over.
        IF {limited} AND EXISTS (SELECT FROM host.{q}__cursors(h.id) c
                WHERE {priorities?c.id = (SELECT max(id) FROM host.{q}__cursors(h.id)) AND }EXISTS (
                        SELECT FROM unnest(c.held) x WHERE x / {generation_size} % 3 = p_leaf)
                    AND (SELECT a.held <> '{}' FROM host.{q}__allowance(h.id, c.lane) a)) THEN
            RETURN format('handler "%s" has yet to note what is in flight of it', h.name);
        END IF;
        IF host.{q}__beyond_cursor(p_leaf, h.id) THEN
            RETURN format('handler "%s"%s has messages in it to come', h.name, CASE WHEN h.paused THEN ', which is paused,' END);
        END IF;
    END LOOP;
    SELECT id INTO p FROM host.{q}__promotion ORDER BY id DESC LIMIT 1;
    IF p / {generation_size} % 3 = p_leaf THEN
        RETURN 'the cursor of the schedule has not been carried forward';
    END IF;
    SELECT l.id, l.session_id, l.leased_at, l.lane, l.due INTO o FROM host.{q}__lease l
        WHERE l.row_count > 0 AND (l.leaves & (1 << p_leaf) <> 0 OR l.id / {generation_size} % 3 = p_leaf)
            -- What handlers that were removed had open is nobody's.
            AND EXISTS (SELECT FROM host.handler x WHERE x.id = l.handler_id)
            AND NOT EXISTS (SELECT FROM host.{q}__settlement s WHERE s.lease_id = l.id AND s.rest = 0)
        LIMIT 1;
    IF FOUND THEN
        IF o.session_id = 0 THEN
            RETURN format('a retry holds lane %s until %s', o.lane, date_trunc('second', o.due));
        END IF;
        RETURN format('lease %s of session %s has been open since %s', o.id, o.session_id, date_trunc('second', o.leased_at));
    END IF;
    -- Its leases say what has run of the generation before, as long as that is there: see
    -- deliver_missed.
    SELECT (greatest(a.last_value, b.last_value, c.last_value) / {generation_size} + 1) % 3 INTO oldest
        FROM queue.{q}_id_seq a, host.{q}__lease_id_seq b, host.{q}__promotion_id_seq c;
    IF p_leaf <> oldest AND host.{q}__leaf_bytes(oldest) > 0 AND EXISTS (SELECT FROM host.{q}__lease l
            WHERE l.id / {generation_size} % 3 = p_leaf AND l.row_count > 0 AND l.leaves & (1 << oldest) <> 0) THEN
        RETURN format('its leases are of messages in leaf %s, which goes first', oldest);
    END IF;
    RETURN NULL;
END $$;

-- Of the settlements of a leaf: what was settled in the last minute, by handler and second. For the
-- figures of a queue that rotates faster than that. Hashes, as holds does.
CREATE OR REPLACE FUNCTION host.{q}__settled_lately(p_leaf int)
RETURNS TABLE (handler_id int, settled_at timestamptz, messages bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_mergejoin = off SET enable_nestloop = off AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT l.handler_id, date_trunc(''second'', s.settled_at), sum(host.positions(s.settled) - coalesce(s.parked, 0))::bigint
        FROM host.{q}__settlement_%1$s s JOIN host.{q}__lease_%1$s l ON l.id = s.lease_id
        WHERE s.settled_at > $1 GROUP BY 1, 2', p_leaf) USING clock_timestamp() - interval '1 minute';
END $$;

-- Truncates a leaf. Checks first without a lock; then, with the handlers' cursors locked so that no
-- lease begins, in full again; and only probes an index for late messages under the lock that
-- a producer could wait for (I4). The cursors say what a host has seen; that this is all there is,
-- is proven by the owner's count of the leaf against the handlers' accounts: whatever hides a
-- message from a host, it stays. `why`: what keeps it; NULL: it is truncated. `again`: they are
-- being counted, so go on at once.
-- Locks: as count; advisory ({rotation_lock}, queue) and ({cursor_lock}, handlers), tried; ACCESS
-- EXCLUSIVE on the leaf, at most 20 ms a table, to the end of the transaction. SECURITY DEFINER: a
-- host may truncate what is settled, and nothing else.
CREATE OR REPLACE FUNCTION host.{q}__try_truncate(p_leaf int, OUT why text, OUT again boolean)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '20ms' AS $$
DECLARE
    dump int;
    h record;
    pace jsonb;
    counted txid_snapshot;
BEGIN
    again := false;
    PERFORM host.require_read_committed('truncating a partition');
    IF p_leaf = (SELECT last_value / {generation_size} % 3 FROM queue.{q}_id_seq)
        OR p_leaf = (SELECT last_value / {generation_size} % 3 FROM host.{q}__lease_id_seq)
        OR p_leaf = (SELECT last_value / {generation_size} % 3 FROM host.{q}__promotion_id_seq) THEN
        why := 'it is the present one';
        RETURN;
    END IF;
    why := host.{q}__holds(p_leaf);
    IF why IS NULL THEN
        SELECT c.why, c.again INTO why, again FROM host.{q}__count('message', p_leaf) c;
    END IF;
    IF why IS NOT NULL THEN
        RETURN;
    END IF;
    IF NOT pg_try_advisory_xact_lock({rotation_lock}, {queue_id}) THEN
        why := 'another host is rotating';
        RETURN;
    END IF;
    FOR h IN SELECT id, name FROM host.handler WHERE queue_id = {queue_id} ORDER BY id LOOP
        IF NOT pg_try_advisory_xact_lock({cursor_lock}, h.id) THEN
            why := format('handler "%s" is leasing', h.name);
            RETURN;
        END IF;
    END LOOP;
    why := coalesce(host.{q}__holds(p_leaf), host.{q}__missed(p_leaf));
    IF why IS NOT NULL THEN
        RETURN;
    END IF;
    -- Nothing is settled in it any more.
    pace := (SELECT jsonb_agg(s) FROM host.{q}__settled_lately(p_leaf) s);
    BEGIN
        EXECUTE format('LOCK TABLE host.{q}__promotion_%1$s, host.{q}__lease_%1$s, host.{q}__settlement_%1$s,'
            ' host.{q}__message_%1$s IN ACCESS EXCLUSIVE MODE', p_leaf);
    EXCEPTION WHEN lock_not_available THEN
        why := host.{q}__readers(p_leaf);
        RETURN;
    END;
    dump := host.dump_at_work(ARRAY[format('host.{q}__promotion_%s', p_leaf), format('host.{q}__lease_%s', p_leaf),
        format('host.{q}__settlement_%s', p_leaf), format('host.{q}__message_%s', p_leaf)]::regclass[]);
    IF dump IS NOT NULL THEN
        why := format('process %s (pg_dump) may be about to read it', dump);
        RETURN;
    END IF;
    FOR h IN SELECT id, name FROM host.handler WHERE queue_id = {queue_id} LOOP
        IF host.{q}__beyond_cursor(p_leaf, h.id) THEN
            why := format('handler "%s" has late messages in it', h.name);
            RETURN;
        END IF;
    END LOOP;
    SELECT c.hi INTO counted FROM host.partition_count c
        WHERE c.queue_id = {queue_id} AND c.kind = 'message' AND c.leaf = p_leaf;
    IF counted IS NULL OR host.{q}__has_later('message', p_leaf, counted) THEN
        why := 'a message came to it while they were counted';
        RETURN;
    END IF;
    EXECUTE format('TRUNCATE host.{q}__message_%1$s, host.{q}__lease_%1$s, host.{q}__settlement_%1$s,'
        ' host.{q}__promotion_%1$s', p_leaf);
    DELETE FROM host.pace WHERE queue_id = {queue_id} AND settled_at < clock_timestamp() - interval '1 minute';
    INSERT INTO host.pace (queue_id, handler_id, settled_at, messages)
        SELECT {queue_id}, p.handler_id, p.settled_at, p.messages
        FROM jsonb_to_recordset(pace) p (handler_id int, settled_at timestamptz, messages bigint);
    DELETE FROM host.partition_count c
        WHERE c.queue_id = {queue_id} AND c.kind = 'message' AND c.leaf = p_leaf;
END $$;
REVOKE EXECUTE ON FUNCTION host.{q}__try_truncate FROM PUBLIC;

-- The same for who wants only the words. NULL: it is truncated.
CREATE OR REPLACE FUNCTION host.{q}__truncate(p_leaf int) RETURNS text
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
    SELECT t.why FROM host.{q}__try_truncate(p_leaf) t
$$;
REVOKE EXECUTE ON FUNCTION host.{q}__truncate FROM PUBLIC;

-- Who holds a lock on a leaf, in words.
CREATE OR REPLACE FUNCTION host.{q}__readers(p_leaf int) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
    SELECT coalesce(string_agg(DISTINCT format('process %s (%s) holds %s on it since %s', l.pid,
            coalesce(nullif(a.application_name, ''), a.usename, 'unknown'), l.mode, date_trunc('second', a.xact_start)), '; '),
        'somebody held a lock on it')
    FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
    WHERE l.granted AND l.pid <> pg_backend_pid() AND l.locktype = 'relation'
        AND l.relation = ANY (ARRAY[
            format('host.{q}__message_%s', p_leaf)::regclass, format('host.{q}__lease_%s', p_leaf)::regclass,
            format('host.{q}__settlement_%s', p_leaf)::regclass, format('host.{q}__promotion_%s', p_leaf)::regclass]::oid[])
$$;

-- How big a leaf is, in bytes, without its indexes.
CREATE OR REPLACE FUNCTION host.{q}__leaf_bytes(p_leaf int) RETURNS bigint
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
    SELECT sum(pg_relation_size(c.oid) + coalesce(pg_relation_size(c.reltoastrelid), 0))::bigint
    FROM unnest(ARRAY['message', 'lease', 'settlement', 'promotion']) kind
    JOIN pg_class c ON c.oid = format('host.{q}__%s_%s', kind, p_leaf)::regclass
$$;

-- What there is to rotate, if anything: leaves to truncate, and whether the present one is full.
-- Cheap.
CREATE OR REPLACE FUNCTION host.{q}__rotation(OUT used int[], OUT full_one boolean)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    present int;
BEGIN
    SELECT greatest(a.last_value, b.last_value, c.last_value) / {generation_size} % 3 INTO present
        FROM queue.{q}_id_seq a, host.{q}__lease_id_seq b, host.{q}__promotion_id_seq c;
    SELECT coalesce(array_agg(leaf ORDER BY leaf) FILTER (WHERE leaf <> present AND bytes > 0), '{}'),
            bool_or(leaf = present AND bytes >= (SELECT rotate_bytes FROM host.queue WHERE id = {queue_id}))
        INTO used, full_one
        FROM (SELECT leaf, host.{q}__leaf_bytes(leaf) AS bytes FROM generate_series(0, 2) leaf) l;
END $$;

-- Begins the next generation: sets the sequences, carries the cursors forward. Only when the
-- present leaf is big and old enough and the next one is empty. The age is stretched as pg_class
-- fills with dead rows, which is what TRUNCATE leaves while somebody holds a snapshot.
-- Locks: advisory ({rotation_lock}, queue), tried; ({promotion_lock}, queue) and ({cursor_lock},
-- handlers), waited for up to a second, so that no cursor moves meanwhile. Tables: lease,
-- promotion. SECURITY DEFINER: a host may set the sequences to the next generation, and to nothing
-- else.
CREATE OR REPLACE FUNCTION host.{q}__advance() RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '1s' AS $$
DECLARE
    g bigint;
    q record;
    since timestamptz;
    h record;
BEGIN
    PERFORM host.require_read_committed('rotating a queue');
    SELECT rotate_bytes, rotate_age_ms INTO STRICT q FROM host.queue WHERE id = {queue_id};
    SELECT greatest(a.last_value, b.last_value, c.last_value) / {generation_size} INTO g
        FROM queue.{q}_id_seq a, host.{q}__lease_id_seq b, host.{q}__promotion_id_seq c;
    IF host.{q}__leaf_bytes((g % 3)::int) < q.rotate_bytes THEN
        RETURN 'the present leaf is not full';
    END IF;
    SELECT leased_at INTO since FROM host.{q}__lease
        WHERE id >= g * {generation_size} ORDER BY id LIMIT 1;
    -- In the future: the clock was set back.
    IF since <= clock_timestamp() AND since > clock_timestamp() - q.rotate_age_ms * interval '1 ms'
            * (1 + pg_stat_get_dead_tuples('pg_class'::regclass) / 1000.0) THEN
        RETURN 'the present leaf is not old enough';
    END IF;
    IF host.{q}__leaf_bytes(((g + 1) % 3)::int) > 0 THEN
        RETURN format('leaf %s, which would be next, is not empty', (g + 1) % 3);
    END IF;
    IF NOT pg_try_advisory_xact_lock({rotation_lock}, {queue_id}) THEN
        RETURN 'another host is rotating';
    END IF;
    PERFORM pg_advisory_xact_lock({promotion_lock}, {queue_id});
    PERFORM pg_advisory_xact_lock({cursor_lock}, id) FROM (SELECT id FROM host.handler WHERE queue_id = {queue_id} ORDER BY id) x;
    IF (SELECT last_value / {generation_size} FROM queue.{q}_id_seq) > g THEN
        RETURN 'another host has just rotated';
    END IF;
    g := g + 1;
    -- Again, where no lease can begin: the accounts of this leaf begin at 0.
    IF host.{q}__leaf_bytes((g % 3)::int) > 0 THEN
        RETURN format('leaf %s, which would be next, is not empty', g % 3);
    END IF;
    -- In this order, and for good, even if this is cut off: what leases messages of a generation is
    -- of that generation then, so that its account says by itself which generation it is of (see
    -- begun_account).
    PERFORM setval('host.{q}__lease_id_seq', g * {generation_size} + 1, false);
    PERFORM setval('host.{q}__promotion_id_seq', g * {generation_size} + 1, false);
    PERFORM setval('queue.{q}_id_seq', g * {generation_size} + 1, false);
    INSERT INTO host.{q}__promotion (due, schedule_id, hi, late_txids, late_txid, late_id, passed_due, passed_id, passed_hi,
            promoted)
        SELECT due, schedule_id, hi, late_txids, late_txid, late_id, passed_due, passed_id, passed_hi, promoted
        FROM host.{q}__promotion ORDER BY id DESC LIMIT 1;
    FOR h IN SELECT id FROM host.handler WHERE queue_id = {queue_id} ORDER BY id LOOP
        INSERT INTO host.{q}__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
                row_count, leaves, is_cursor, more, token, hi, txids, lane, last_id, tat, held, leased)
            SELECT host.cursor_seq(h.id, c.lane), c.from_txid, c.from_id, c.to_txid, c.to_id, h.id, 0, 0, 0, true, c.more,
                gen_random_uuid(), c.hi, c.txids, c.lane, c.last_id, a.tat, a.held,
                host.begun_account((SELECT coalesce(l.leased, ARRAY[NULL, NULL, NULL]::bigint[]) FROM host.{q}__lease l WHERE l.id = c.id),
                    c.id / {generation_size}, g)
            FROM host.{q}__cursors(h.id) c CROSS JOIN LATERAL host.{q}__allowance(h.id, c.lane) a;
    END LOOP;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION host.{q}__advance FROM PUBLIC;
