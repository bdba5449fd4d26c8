-- Idle queues. Most queues of a database are, and what `host status` and `host doctor` say of
-- one is known then, from a few probes instead of the functions of each queue. Reads only. Tables
-- touched: host.queue, host.handler, host.pace, and the queues' own. Locks: ACCESS SHARE.

-- How big a table is with its indexes. An empty one counts as nothing, whatever pages its indexes
-- have.
CREATE OR REPLACE FUNCTION host.table_bytes(p_table oid) RETURNS bigint
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT CASE WHEN pg_relation_size(p_table::regclass) > 0 THEN pg_total_relation_size(p_table::regclass) ELSE 0 END;
END;

-- Whether a queue is idle: all of its handlers have settled all of its messages, nothing is on its
-- schedule, and only the present partition has rows. Then `dead`, `last_minute` and `bytes` are
-- what host.queue_status would say, and `clock_ms` is what host.{q}__examine would. In doubt it is
-- not idle, and those two look. A new connection pays for each table and index that it opens, and a
-- queue has 160 of them. This function opens what it must, and looks into partitions by their
-- names.
-- SECURITY DEFINER: no role may read these.
CREATE OR REPLACE FUNCTION host.idle(
    p_queue text, p_cap int, OUT idle boolean, OUT dead bigint, OUT last_minute bigint, OUT bytes bigint, OUT clock_ms bigint
)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off
SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
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
        'SELECT m.last_value / {generation_size} AS message, m.is_called AS used, l.last_value / {generation_size} AS lease,
            p.last_value / {generation_size} AS promotion, s.is_called AS scheduled
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
END $$;
REVOKE EXECUTE ON FUNCTION host.idle FROM PUBLIC;

-- The queues of which something may hide messages, so that they are looked at in full: a partition
-- that is not attached, a policy, or messages that the owner counts and no handler has leased.
CREATE OR REPLACE FUNCTION host.hiding_queues() RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET jit = off AS $$
    SELECT split_part(c.relname, '__', 1) FROM pg_class c
    WHERE c.relnamespace IN ('host'::regnamespace, 'queue'::regnamespace) AND (c.relrowsecurity
        OR NOT c.relispartition AND c.relkind = 'r'
            AND c.relname ~ '__(message|lease|settlement|promotion|schedule|history)_[0-9]+$')
    UNION
    SELECT split_part(c.relname, '__', 1) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhdetachpending
    UNION
    SELECT q.name FROM host.partition_count x JOIN host.queue q ON q.id = x.queue_id WHERE x.missed > 0
$$;
