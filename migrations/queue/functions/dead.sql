-- Template: what an operator does with dead letters. Tables touched: dead_letter, message.
-- Locks: the rows of dead letters that are retried or purged.

-- The newest first; only those of p_reason, unless that is NULL.
CREATE OR REPLACE FUNCTION host.{q}__dead_list(p_limit bigint, p_reason text)
RETURNS TABLE (
    id bigint, message_id bigint, handler text, reason text, error text, attempt smallint, died_at timestamptz,
    enqueued_at timestamptz
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.id, d.message_id, h.name, d.reason, d.error, d.attempt, d.died_at, d.enqueued_at
    FROM host.{q}__dead_letter d LEFT JOIN host.handler h ON h.id = d.handler_id
    WHERE p_reason IS NULL OR d.reason = p_reason
    ORDER BY d.id DESC LIMIT p_limit
$$;

-- One, with everything that is known of it; the payload as text, or as \x… when it is bytea.
CREATE OR REPLACE FUNCTION host.{q}__dead_show(p_id bigint)
RETURNS TABLE (
    id bigint, message_id bigint, handler text, reason text, error text, attempt smallint, died_at timestamptz,
    enqueued_at timestamptz, headers jsonb, history jsonb, payload text
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.id, d.message_id, h.name, d.reason, d.error, d.attempt, d.died_at, d.enqueued_at, d.headers,
        d.history, d.payload::text
    FROM host.{q}__dead_letter d LEFT JOIN host.handler h ON h.id = d.handler_id
    WHERE d.id = p_id
$$;

-- Puts dead letters on the queue again, for the handler that gave up on them and with all its
-- attempts before them; NULL: all of p_reason, and with that NULL too: all. Their id and history stay.
-- One statement: none is lost, and none is there twice. Returns the ids of those there were.
CREATE OR REPLACE FUNCTION host.{q}__dead_retry(p_ids bigint[], p_reason text) RETURNS SETOF bigint
LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (
        DELETE FROM host.{q}__dead_letter d
        WHERE (p_ids IS NULL OR d.id = ANY (p_ids)) AND (p_reason IS NULL OR d.reason = p_reason)
        RETURNING d.*
    ), again AS (
        INSERT INTO queue.{q} (enqueued_at, origin, handler_id, attempt, headers, history, payload)
        SELECT g.enqueued_at, g.message_id, g.handler_id, 1, g.headers, g.history, g.payload
        FROM gone g ORDER BY g.id
    )
    SELECT g.id FROM gone g
$$;

-- Deletes dead letters for good; which, as for retry. Returns the ids of those there were.
CREATE OR REPLACE FUNCTION host.{q}__dead_purge(p_ids bigint[], p_reason text) RETURNS SETOF bigint
LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM host.{q}__dead_letter d
    WHERE (p_ids IS NULL OR d.id = ANY (p_ids)) AND (p_reason IS NULL OR d.reason = p_reason)
    RETURNING d.id
$$;
