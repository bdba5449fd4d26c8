-- Template: the cursors of a handler, one for each lane of the queue, and what lies ahead of them.
-- Reads only.
-- Tables: lease.

-- The cursors of a handler, in order of the lane.
CREATE OR REPLACE FUNCTION host.{q}__cursors(p_handler int)
RETURNS TABLE (
    lane smallint, id bigint, from_txid bigint, from_id bigint, to_txid bigint, to_id bigint, more boolean,
    hi txid_snapshot, txids int8multirange, last_id bigint, held bigint[]
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
    SELECT c.lane, c.id, c.from_txid, c.from_id, c.to_txid, c.to_id, c.more, c.hi, c.txids, c.last_id, c.held
    FROM generate_series(0, {lanes} - 1) n
    CROSS JOIN LATERAL (
        SELECT l.* FROM host.{q}__lease l
        WHERE l.handler_id = p_handler {lanes?AND l.lane = n }AND l.is_cursor ORDER BY l.id DESC LIMIT 1
    ) c
$$;

-- The messages that a handler has not leased yet, by lane, in the order of leasing. Each row stands
-- for the messages of a lane with `(txid, id) > (a_txid, a_id) AND txid < b AND id > after_id`.
-- NULL: all messages.
CREATE OR REPLACE FUNCTION host.{q}__ahead(p_handler int)
RETURNS TABLE (lane smallint, a_txid bigint, a_id bigint, b bigint, after_id bigint)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET jit = off AS $$
    SELECT c.lane, p.* FROM (
        SELECT x.lane, x.hi, x.to_txid, x.to_id, CASE WHEN x.more THEN x.txids ELSE '{}' END AS txids
            FROM host.{q}__cursors(p_handler) x
        UNION ALL
        SELECT n::smallint, '1:1:', 0, 0, '{}' FROM generate_series(0, {lanes} - 1) n WHERE p_handler IS NULL
    ) c
    CROSS JOIN LATERAL (
        SELECT x.*, {ordered?c.to_id}{unordered?0} FROM host.parts_after(c.txids, {ordered?0, 0}{unordered?c.to_txid, c.to_id}) x
        UNION ALL
        SELECT x.*, 0 FROM host.parts_after(host.txid_window(c.hi, txid_current_snapshot()), 0, 0) x
    ) p
$$;
