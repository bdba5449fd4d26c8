-- Template, only for queues with priorities: the lease that knows which lane's turn it is.

-- Leases from the first of these lanes that has messages, as lease does from one. `more`: or one of
-- those after it may have some. An empty poll looks at each lane's cursor, and writes as little as
-- a lease does: a lane whose cursor it writes ends it, since a transaction that has written cuts no
-- further window. Locks, tables: as lease.
CREATE OR REPLACE FUNCTION host.{q}__lease_of(
    p_lanes smallint[], p_handler int, p_session int, p_seq bigint, p_token uuid, p_n int, p_bytes bigint,
    OUT lease_id bigint, OUT row_count int, OUT more boolean, OUT wait_ms bigint, OUT full_up boolean
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    its smallint;
BEGIN
    FOREACH its IN ARRAY p_lanes LOOP
        SELECT l.lease_id, l.row_count, l.more OR its <> p_lanes[array_upper(p_lanes, 1)], l.wait_ms, l.full_up
            INTO lease_id, row_count, more, wait_ms, full_up
            FROM host.{q}__lease(p_handler, p_session, p_seq, p_token, p_n, p_bytes, its) l;
        EXIT WHEN lease_id IS NOT NULL OR wait_ms IS NOT NULL OR pg_current_xact_id_if_assigned() IS NOT NULL;
    END LOOP;
END $$;
