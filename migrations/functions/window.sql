-- Windows between two snapshots, and the buckets of the schedule. Pure: no locks, no tables.
--
-- Most are called for every batch. A function in SQL that is not inlined is planned anew at each
-- call, which took longer than what it did: hence bodies without a setting, whose names are
-- resolved when they are made, or plpgsql.

-- The transactions that are committed or rolled back in `hi` and were not in `lo`, as ranges of
-- txids. Order of visibility is not order of ids: a transaction that began first may commit last,
-- so a cursor over ids or times would lose messages; a window between snapshots cannot (PgQ's idea,
-- <https://github.com/pgq/pgq>). Transactions still open in `hi` are cut out, so that a huge
-- uncommitted INSERT is never walked.
CREATE OR REPLACE FUNCTION host.txid_window(lo txid_snapshot, hi txid_snapshot) RETURNS int8multirange
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
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

-- The ranges of a window after (p_txid, p_id), each as `(txid, id) > (a_txid, a_id) AND txid < b`.
-- The start is one comparison of a row: beside `txid >= a`, Postgres begins an index scan at
-- whichever it meets first, and would walk all that was there before the window, or an open
-- transaction's rows in its midst.
CREATE OR REPLACE FUNCTION host.parts_after(p_window int8multirange, p_txid bigint, p_id bigint)
RETURNS TABLE (a_txid bigint, a_id bigint, b bigint)
LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT greatest(lower(r), p_txid), CASE WHEN lower(r) > p_txid THEN 0 ELSE p_id END, upper(r)
    FROM unnest(p_window) r WHERE upper(r) > p_txid;
END;

-- The leaf of the schedule for a message due at `due`, seen from `at`. Level k has buckets of
-- 60 s * 16^k (1 min, 16 min, 4.3 h, 2.8 d, 45 d, 2 y, 32 y) and three leaves that they take in
-- turn. A message goes to the finest level at which its bucket is the present or the next one. So
-- it is written once, however far off it is due, and what is left of it goes with its leaf after at
-- most 32 times its delay.
CREATE OR REPLACE FUNCTION host.slot(due timestamptz, at timestamptz) RETURNS smallint
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
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

-- Whether a row of the schedule was promoted before the clock was set back: one of these cursors
-- has passed it. NULL: there are none.
CREATE OR REPLACE FUNCTION host.was_passed(
    p_due timestamptz, p_id bigint, p_txid bigint, p_dues timestamptz[], p_ids bigint[], p_his txid_snapshot[]
) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN p_dues IS NOT NULL AND EXISTS (SELECT FROM unnest(p_dues, p_ids, p_his) c (due, id, hi)
        WHERE (p_due, p_id) <= (c.due, c.id) AND txid_visible_in_snapshot(p_txid, c.hi));
END $$;

-- How many positions a set has.
CREATE OR REPLACE FUNCTION host.positions(p int4multirange) RETURNS int
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(p) r);
END $$;

-- Which leaves hold ids from `a` to `b`: bit n for leaf n. May name a leaf too many, never one too
-- few.
CREATE OR REPLACE FUNCTION host.leaves_between(a bigint, b bigint) RETURNS smallint
LANGUAGE sql IMMUTABLE
RETURN CASE b / {generation_size} - a / {generation_size}
    WHEN 0 THEN 1 << (a / {generation_size} % 3)::int
    WHEN 1 THEN (1 << (a / {generation_size} % 3)::int) | (1 << (b / {generation_size} % 3)::int)
    ELSE 7
END::smallint;

-- An account of the buckets of the schedule with one more for each that is named. NULL stays: it is
-- not known.
CREATE OR REPLACE FUNCTION host.with_slots(p_account bigint[], p_slots smallint[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT array_agg(p_account[i] + coalesce(n.times, 0) ORDER BY i)
        FROM generate_series(1, cardinality(p_account)) i
        LEFT JOIN (SELECT slot + 1 AS i, count(*) AS times FROM unnest(p_slots) slot GROUP BY slot) n USING (i));
END $$;

-- The account of a lane, of which the cursor is of the generation p_cursor, before it leases
-- messages up to the generation p_messages: what it has of leaves that a later generation has begun
-- since is of nobody now. Nothing changes but where an advance was cut off: else it has carried the
-- cursor forward.
CREATE OR REPLACE FUNCTION host.begun_account(p_account bigint[], p_cursor bigint, p_messages bigint) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    FOR generation IN greatest(p_cursor + 1, p_messages - 2) .. p_messages LOOP
        p_account[generation % 3 + 1] := 0;
    END LOOP;
    RETURN p_account;
END $$;
