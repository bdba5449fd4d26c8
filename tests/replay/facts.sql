-- All that the database has of queue {q}, a fact a line, in the words of tests/replay/facts.rs.
-- Invariant: reads with one snapshot, so it shows what is committed at one instant.
-- Locks: none but for reading. Tables: all of the queue's.
-- $1: the walk; $2: the sessions, $3: the handlers, each in the order of their numbers in the
-- model.
WITH handler AS (
    SELECT id, nth - 1 AS nth, c.*
    FROM unnest($3::int[]) WITH ORDINALITY h (id, nth)
    CROSS JOIN LATERAL (
        SELECT l.hi, l.more, l.txids, l.to_txid, l.to_id FROM host.{q}__lease l
        WHERE l.handler_id = h.id AND l.is_cursor ORDER BY l.id DESC LIMIT 1
    ) c
), lease AS (
    SELECT l.*, (
            SELECT CASE WHEN bool_or(s.revoked) THEN '{}'
                ELSE coalesce(l.positions, int4multirange(int4range(0, l.row_count))) - coalesce(range_agg(s.settled), '{}') END
            FROM host.{q}__settlement s WHERE s.lease_id = l.id
        ) AS rest
    FROM host.{q}__lease l WHERE l.row_count > 0
), promotion AS (
    SELECT * FROM host.{q}__promotion ORDER BY id DESC LIMIT 1
)
SELECT format('message %s payload %s of %s for %s attempt %s', public.id(m.id), m.payload, public.id(coalesce(m.origin, m.id)),
        coalesce((array_position($3, m.handler_id) - 1)::text, 'all'), m.attempt)
    FROM queue.{q} m
UNION ALL
SELECT format('message %s is to come for %s', public.id(m.id), h.nth)
    FROM handler h CROSS JOIN queue.{q} m
    WHERE NOT txid_visible_in_snapshot(m.txid, h.hi)
        OR h.more AND h.txids @> m.txid AND (m.txid, m.id) > (h.to_txid, h.to_id)
UNION ALL
SELECT format('lease %s of session %s for %s leaves %s deaths %s cursor %s leftover %s rest %s', public.id(l.id),
        array_position($2::int[], l.session_id) - 1, array_position($3, l.handler_id) - 1, l.leaves, l.deaths, l.is_cursor::text,
        (l.seq < 0)::text, l.rest)
    FROM lease l
UNION ALL
SELECT format('lease %s has %s payload %s attempt %s', public.id(l.id), r.pos, r.payload, r.attempt)
    FROM lease l CROSS JOIN LATERAL host.{q}__read(l.session_id, l.seq) r
    WHERE NOT isempty(l.rest)
UNION ALL
SELECT format('settlement %s of %s settled %s revoked %s', s.seq, public.id(s.lease_id), s.settled, s.revoked::text)
    FROM host.{q}__settlement s
UNION ALL
SELECT format('scheduled %s payload %s for %s attempt %s waits %s', s.id, s.payload, array_position($3, s.handler_id) - 1,
        s.attempt, ((s.due, s.id) > (p.due, p.schedule_id) OR NOT txid_visible_in_snapshot(s.txid, p.hi)
            OR p.late_txids @> s.txid AND (s.txid, s.id) > (p.late_txid, p.late_id))::text)
    FROM host.{q}__schedule s CROSS JOIN promotion p
UNION ALL
SELECT format('promoted up to %s by %s', p.schedule_id, public.id(p.id)) FROM promotion p
UNION ALL
SELECT format('dead payload %s for %s attempt %s', d.payload, array_position($3, d.handler_id) - 1, d.attempt)
    FROM host.{q}__dead_letter d
UNION ALL
SELECT format('acked payload %s for %s attempt %s', s.payload ->> 'payload', s.payload ->> 'handler', s.payload ->> 'attempt')
    FROM queue.sink s WHERE (s.payload ->> 'walk')::int = $1
UNION ALL
SELECT format('leaf %s is used', leaf) FROM generate_series(0, 2) leaf WHERE host.{q}__leaf_bytes(leaf) > 0
UNION ALL
SELECT format('next %s %s', kind, public.id(CASE WHEN is_called THEN last_value + 1 ELSE last_value END))
    FROM (SELECT 'message' AS kind, last_value, is_called FROM queue.{q}_id_seq
        UNION ALL SELECT 'lease', last_value, is_called FROM host.{q}__lease_id_seq
        UNION ALL SELECT 'promotion', last_value, is_called FROM host.{q}__promotion_id_seq) x
