-- Purpose: a benchmark's account of its queue's deliveries. It appends a row for each settled lease
--   of the handler `default`, before that can be truncated. It reads the messages once more, as the
--   host read them, and sums the numbers in their payloads. {q} is the queue's name, {queue_id} its
--   number.
-- Invariant: nothing is truncated that is not in the account; a lease is in it at most once.
-- Locks: advisory ({rotation_lock}, queue), which truncate tries to get; ACCESS SHARE. On a
-- message's way: none. Tables touched: host.{q}__account, which is appended to; reads lease,
-- settlement and message.
CREATE TABLE host.{q}__account (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lease_id bigint NOT NULL UNIQUE,
    leased_at timestamptz NOT NULL,
    settled_at timestamptz,
    -- Positions, of whatever kind, each as often as it was settled.
    settled bigint NOT NULL,
    -- First deliveries, each as often as it was settled: how many, and the sums of their numbers
    -- and of the squares. A retry is no first delivery, and a message that is only put off none
    -- yet.
    delivered bigint NOT NULL,
    sum numeric NOT NULL,
    sum_of_squares numeric NOT NULL
) WITH (autovacuum_enabled = off);

-- Accounts for the leases after p_after and up to p_upto that touch a leaf; NULL: any. Almost every
-- lease is settled whole: then its positions need not be compared, which would cost six times as
-- much.
CREATE FUNCTION host.{q}__audit(p_leaf int, p_after bigint, p_upto bigint) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog SET enable_sort = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
    INSERT INTO host.{q}__account (lease_id, leased_at, settled_at, settled, delivered, sum, sum_of_squares)
    SELECT l.id, l.leased_at, s.settled_at, s.settled, m.delivered, m.sum, m.sum_of_squares
    FROM host.{q}__lease l
    CROSS JOIN LATERAL (
        SELECT max(t.settled_at) AS settled_at, coalesce(sum(host.positions(t.settled)), 0) AS settled,
            l.positions IS NULL AND coalesce(sum(host.positions(t.settled)) = l.row_count
                AND range_agg(t.settled) = int4multirange(int4range(0, l.row_count)), false) AS whole
        FROM host.{q}__settlement t WHERE t.lease_id = l.id
    ) s
    CROSS JOIN LATERAL (
        SELECT count(*) AS delivered, coalesce(sum(n), 0) AS sum, coalesce(sum(n * n), 0) AS sum_of_squares
        FROM (
            SELECT (r.payload ->> 'n')::bigint AS n
            FROM (
                SELECT r.* FROM host.parts_after(l.txids, l.from_txid, l.from_id) part
                CROSS JOIN LATERAL (
                    SELECT m.payload, m.attempt, m.run_at FROM queue.{q} m
                    WHERE (m.txid, m.id) > (part.a_txid, part.a_id) AND m.txid < part.b
                    ORDER BY m.txid, m.id LIMIT l.row_count
                ) r LIMIT l.row_count
            ) r WHERE s.whole AND r.attempt = 1 AND r.run_at IS NULL
            UNION ALL
            SELECT (r.payload ->> 'n')::bigint
            FROM host.{q}__read(l.session_id, l.seq) r
            JOIN host.{q}__settlement t ON t.lease_id = l.id AND t.settled @> r.pos
            WHERE NOT s.whole AND r.attempt = 1 AND r.run_at IS NULL
        ) r
    ) m
    WHERE l.row_count > 0 AND l.id > coalesce(p_after, 0) AND l.id <= coalesce(p_upto, 9223372036854775807)
        AND l.handler_id = (SELECT id FROM host.handler WHERE queue_id = {queue_id} AND name = 'default')
        AND (p_leaf IS NULL OR l.leaves & (1 << p_leaf) <> 0 OR l.id / {generation_size} % 3 = p_leaf)
        AND NOT EXISTS (SELECT FROM host.{q}__account a WHERE a.lease_id = l.id)
$$;

-- The same while hosts run: not at once with a truncation, which accounts for leases of its own.
-- Volatile, so that what it sees is from after it has the lock.
CREATE FUNCTION host.{q}__audit_upto(p_after bigint, p_upto bigint) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog AS $$
BEGIN
    PERFORM pg_advisory_xact_lock({rotation_lock}, {queue_id});
    PERFORM host.{q}__audit(NULL, p_after, p_upto);
END $$;

-- What rotation calls on this queue: as before, but that the leaf is accounted for first, without a
-- lock that anybody waits for. Nothing is leased or settled in it any more when `holds` finds
-- nothing.
ALTER FUNCTION host.{q}__truncate(int) RENAME TO {q}__truncate_audited;
CREATE FUNCTION host.{q}__truncate(p_leaf int) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog AS $$
DECLARE
    why text := host.{q}__holds(p_leaf);
BEGIN
    IF why IS NULL AND (SELECT count(*) FROM (
            SELECT FROM host.{q}__lease l
            WHERE l.row_count > 0 AND (l.leaves & (1 << p_leaf) <> 0 OR l.id / {generation_size} % 3 = p_leaf)
                AND l.handler_id = (SELECT id FROM host.handler WHERE queue_id = {queue_id} AND name = 'default')
                AND NOT EXISTS (SELECT FROM host.{q}__account a WHERE a.lease_id = l.id)
            LIMIT 1001) behind) > 1000 THEN
        -- It would take longer than a statement may.
        why := 'the account is behind';
    END IF;
    IF why IS NULL AND NOT pg_try_advisory_xact_lock({rotation_lock}, {queue_id}) THEN
        why := 'another host is rotating';
    END IF;
    IF why IS NOT NULL THEN
        RETURN why;
    END IF;
    PERFORM host.{q}__audit(p_leaf, NULL, NULL);
    RETURN host.{q}__truncate_audited(p_leaf);
END $$;

-- How far the hosts are, in time that does not grow with the run: the positions settled of all
-- leases after p_lease, as far as the last before which all are settled, and beyond. The lock is
-- taken before the snapshot, so that no leaf is truncated between a look at the leases and one at
-- the account.
-- Locks: ACCESS SHARE on lease and settlement.
CREATE FUNCTION host.{q}__progress(p_lease bigint, OUT lease bigint, OUT settled bigint, OUT beyond bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog SET enable_sort = off SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    LOCK TABLE host.{q}__lease, host.{q}__settlement IN ACCESS SHARE MODE;
    WITH seen AS MATERIALIZED (
        SELECT l.id, coalesce(s.settled, 0) AS settled, coalesce(s.closed, false) AS closed
        FROM host.{q}__lease l CROSS JOIN LATERAL (
            SELECT sum(host.positions(t.settled)) AS settled, bool_or(t.rest = 0) AS closed
            FROM host.{q}__settlement t WHERE t.lease_id = l.id
        ) s
        WHERE l.id > p_lease AND l.row_count > 0
            AND l.handler_id = (SELECT id FROM host.handler WHERE queue_id = {queue_id} AND name = 'default')
        UNION ALL
        SELECT a.lease_id, a.settled, true FROM host.{q}__account a
        WHERE a.lease_id > p_lease AND NOT EXISTS (SELECT FROM host.{q}__lease l WHERE l.id = a.lease_id)
    ), upto AS (
        SELECT coalesce(min(id) FILTER (WHERE NOT closed) - 1, max(id), p_lease) AS id FROM seen
    )
    SELECT u.id, coalesce(sum(s.settled) FILTER (WHERE s.id <= u.id), 0),
            coalesce(sum(s.settled) FILTER (WHERE s.id > u.id), 0)
        INTO lease, settled, beyond
        FROM upto u LEFT JOIN seen s ON true GROUP BY u.id;
END $$;
