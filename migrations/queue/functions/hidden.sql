-- Template: messages of a lease that are not there. A lease is a frozen set of rows, and a position
-- a place in it. So a row that is missing moves all that come after it, and nothing may be read by
-- position any more. Either something hides the row (a detached partition, a damaged index): then
-- everybody waits until it is seen again. Or its owner has deleted it by hand: then the lease is
-- cut anew, of what is left.

-- How many messages of a lease its partitions hold, as their owner sees them, and by no index.
-- NULL: one of the partitions is not part of the queue now. Reads them through: only for a lease
-- that lacks messages.
-- Tables: lease, message, the catalog's.
CREATE OR REPLACE FUNCTION host.{q}__in_partitions(p_lease bigint) RETURNS int
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_indexonlyscan = off SET enable_bitmapscan = off AS $$
DECLARE
    l record;
    n int;
    there int := 0;
BEGIN
    IF NOT host.is_whole('queue.{q}'::regclass, 3) THEN
        RETURN NULL;
    END IF;
    SELECT * INTO STRICT l FROM host.{q}__lease WHERE id = p_lease;
    FOR leaf IN 0..2 LOOP
        CONTINUE WHEN l.leaves & (1 << leaf) = 0;
        -- Sums, which no index knows.
        EXECUTE format(
            'SELECT count(*) FROM host.{q}__message_%s m WHERE m.txid <@ $1
                AND {ordered?m.lane + 0 = $6 AND m.id + 0 > $3 AND m.id + 0 <= $5}{unordered?(m.txid + 0, m.id + 0) > ($2, $3) AND (m.txid + 0, m.id + 0) <= ($4, $5) {lanes?AND m.lane + 0 = $6}}',
            leaf) INTO n USING l.txids, l.from_txid, l.from_id, l.to_txid, l.to_id, l.lane;
        there := there + n;
    END LOOP;
    RETURN there;
END $$;

-- How many messages of a lease have been deleted. NULL: some are missing, and something may only
-- hide them: their owner has to find as few as the index does. SECURITY DEFINER: a host may not
-- read the partitions. Tables: as above.
CREATE OR REPLACE FUNCTION host.{q}__missing(p_lease bigint) RETURNS int
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off SET plan_cache_mode = force_generic_plan
SET enable_sort = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    l record;
    part record;
    n int;
    seen int := 0;
BEGIN
    SELECT * INTO STRICT l FROM host.{q}__lease WHERE id = p_lease;
    {ordered?SELECT count(*) INTO seen FROM (
        SELECT FROM queue.{q} m
        WHERE m.lane = l.lane AND m.id > l.from_id AND m.id <= l.to_id AND m.txid <@ l.txids
        ORDER BY m.id LIMIT l.row_count) m;}{unordered?FOR part IN SELECT * FROM host.parts_after(l.txids, l.from_txid, l.from_id) LOOP
        EXIT WHEN seen >= l.row_count;
        SELECT count(*) INTO n FROM (
            SELECT FROM queue.{q} m
            WHERE (m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
                AND (m.txid, m.id) <= (l.to_txid, l.to_id) {lanes?AND m.lane = l.lane}
            ORDER BY m.txid, m.id LIMIT l.row_count - seen) m;
        seen := seen + n;
    END LOOP;}
    IF seen = l.row_count THEN
        RETURN 0;
    END IF;
    RETURN CASE WHEN host.{q}__in_partitions(p_lease) = seen THEN l.row_count - seen END;
END $$;
REVOKE EXECUTE ON FUNCTION host.{q}__missing FROM PUBLIC;

-- Refuses to go on with a lease that lacks messages. HQ012: something hides them, so ask again.
-- HQ002: they were deleted, and the lease ends: what is left of it is a stray, which take_over cuts
-- anew.
CREATE OR REPLACE FUNCTION host.{q}__refuse_missing(p_lease bigint) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    missing int := host.{q}__missing(p_lease);
BEGIN
    IF missing > 0 THEN
        RAISE EXCEPTION '% messages of lease % of queue "{q}" were deleted by hand; the others are leased again', missing, p_lease
            USING ERRCODE = 'HQ002';
    END IF;
    RAISE EXCEPTION 'messages of lease % of queue "{q}" cannot be read: something hides them', p_lease
        USING ERRCODE = 'HQ012',
            HINT = 'attach the partition again, or REINDEX TABLE queue.{q}; until then they wait, and nothing of them is lost';
END $$;

-- Ends a lease of which messages were deleted, and leases what is left of it to the same session
-- again, as a stray that anybody may take over. A position may be up to p_missing places further on
-- than before. So a settled message next to an unsettled one may run once more. None is lost.
-- Tables: lease, settlement. The caller has looked that nobody else holds it, and holds off the
-- rotation.
CREATE OR REPLACE FUNCTION host.{q}__recut(p_lease bigint, p_missing int) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    l record;
    last_seq int;
    rest int4multirange;
    n int;
BEGIN
    SELECT * INTO STRICT l FROM host.{q}__lease WHERE id = p_lease;
    SELECT max(t.seq), coalesce(l.positions, int4multirange(int4range(0, l.row_count))) - coalesce(range_agg(t.settled), '{}')
        INTO last_seq, rest FROM host.{q}__settlement t WHERE t.lease_id = p_lease;
    n := l.row_count - p_missing;
    rest := (SELECT range_agg(int4range(greatest(lower(r) - p_missing, 0), least(upper(r), n)))
        FROM unnest(rest) r WHERE greatest(lower(r) - p_missing, 0) < least(upper(r), n));
    INSERT INTO host.{q}__settlement (lease_id, seq, rest, settled, revoked)
        VALUES (p_lease, coalesce(last_seq, -1) + 1, 0, '{}', true);
    IF rest IS NOT NULL THEN
        -- Negative: chosen by the server, as in take_over. Nobody's (0) go by the lease that they
        -- continue, as in hand_on.
        INSERT INTO host.{q}__lease (seq, from_txid, from_id, to_txid, to_id, handler_id, session_id,
                row_count, leaves, deaths, is_cursor, more, token, hi, txids, positions, lane, last_id, due)
            SELECT CASE WHEN l.session_id = 0 THEN p_lease ELSE -p_lease END, l.from_txid, l.from_id, l.to_txid, l.to_id,
                l.handler_id, l.session_id, n, l.leaves,
                l.deaths{unordered? + (l.seq >= 0 AND s.lost IS TRUE)::int}, false, false, gen_random_uuid(), l.hi, l.txids, rest,
                l.lane, l.last_id, l.due
            FROM (SELECT) one LEFT JOIN host.session s ON s.id = l.session_id;
    END IF;
END $$;
