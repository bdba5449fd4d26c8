-- Template: what an operator does with dead letters. Tables touched: dead_letter, message,
-- host.cancellation.
-- Locks: the rows of dead letters that are retried, moved or purged.

-- The dead letters that a command selects, newest first: those in p_ids (NULL: all) for which
-- p_where holds, at most p_limit (NULL: all). A filter is a predicate on the fields below, times as
-- seconds since 1970; $now is the present. `handler`: NULL: it was removed. Planned for what is
-- asked: by the index on ids from the newest on, and no further than p_limit.
CREATE OR REPLACE FUNCTION host.{q}__dead_list(p_limit bigint, p_ids bigint[], p_where jsonpath)
RETURNS TABLE (
    id bigint, message_id bigint, handler text, reason text, error text, attempt smallint, died_at timestamptz,
    enqueued_at timestamptz
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET plan_cache_mode = force_custom_plan SET jit = off SET enable_sort = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT d.id, d.message_id, h.name, d.reason, d.error, d.attempt, d.died_at, d.enqueued_at
    FROM host.{q}__dead_letter d LEFT JOIN host.handler h ON h.id = d.handler_id
    WHERE (p_ids IS NULL OR d.id = ANY (p_ids)) AND (p_where IS NULL OR jsonb_path_match(
        jsonb_build_object('id', d.id, 'message', d.message_id, 'handler', h.name, 'reason', d.reason, 'error', d.error,
            'attempt', d.attempt, 'died_at', extract(epoch FROM d.died_at), 'enqueued_at', extract(epoch FROM d.enqueued_at)),
        p_where, jsonb_build_object('now', extract(epoch FROM now()))))
    ORDER BY d.id DESC LIMIT p_limit;
END $$;

-- The ids of those that are meant.
CREATE OR REPLACE FUNCTION host.{q}__dead_ids(p_ids bigint[], p_where jsonpath) RETURNS SETOF bigint
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
    SELECT d.id FROM host.{q}__dead_list(NULL, p_ids, p_where) d
$$;

-- One, with everything that is known of it; the payload as text, or as \x… when it is bytea.
CREATE OR REPLACE FUNCTION host.{q}__dead_show(p_id bigint)
RETURNS TABLE (
    id bigint, message_id bigint, handler text, reason text, error text, attempt smallint, died_at timestamptz,
    enqueued_at timestamptz, headers jsonb, history jsonb, payload text
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET row_security = off SET bytea_output = hex AS $$
    SELECT d.id, d.message_id, h.name, d.reason, d.error, d.attempt, d.died_at, d.enqueued_at, d.headers,
        d.history, d.payload::text
    FROM host.{q}__dead_letter d LEFT JOIN host.handler h ON h.id = d.handler_id
    WHERE d.id = p_id
$$;

-- Puts dead letters on the queue again, for the handler that gave up on them and with all its
-- attempts before them. Their id and history stay. One statement: none is lost, and none is there
-- twice. Those of a handler that was removed stay. Returns the ids of those that there were. Raises
-- HQ012 if something keeps one from the queue: then all of them are dead letters still.
CREATE OR REPLACE FUNCTION host.{q}__dead_retry(p_ids bigint[], p_where jsonpath) RETURNS SETOF bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    ids bigint[];
    kept bigint;
BEGIN
    WITH gone AS (
        DELETE FROM host.{q}__dead_letter d USING host.handler h
        WHERE h.id = d.handler_id AND d.id IN (SELECT host.{q}__dead_ids(p_ids, p_where))
        RETURNING d.*
    ), again AS (
        INSERT INTO queue.{q} (enqueued_at, origin, handler_id, attempt, headers, history, payload, priority, key)
        SELECT g.enqueued_at, g.message_id, g.handler_id, 1, g.headers, g.history, g.payload, g.priority, g.key
        FROM gone g ORDER BY g.id
        RETURNING id
    ), forgiven AS (
        DELETE FROM host.cancellation c USING gone g WHERE c.handler_id = g.handler_id AND c.message_id = g.message_id
    )
    SELECT array_agg(g.id), (SELECT count(*) FROM again) INTO ids, kept FROM gone g;
    PERFORM host.require_kept(kept, coalesce(cardinality(ids), 0), 'queue.{q}');
    RETURN QUERY SELECT unnest(ids);
END $$;

-- Moves dead letters to another queue, as new messages with their history, for all its handlers;
-- the payload is made of that queue's type. One statement. Returns the ids of those that there
-- were. Raises HQ012 as dead_retry does.
CREATE OR REPLACE FUNCTION host.{q}__dead_move(p_ids bigint[], p_where jsonpath, p_to text) RETURNS SETOF bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    kind text;
    ids bigint[];
    kept bigint;
BEGIN
    SELECT payload_type INTO kind FROM host.queue WHERE name = p_to;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no queue "%"', p_to USING ERRCODE = 'HQ004';
    END IF;
    EXECUTE format(
        'WITH gone AS (
             DELETE FROM host.{q}__dead_letter d WHERE d.id IN (SELECT host.{q}__dead_ids($1, $2)) RETURNING d.*
         ), again AS (
             INSERT INTO queue.%I (headers, history, payload) SELECT g.headers, g.history, %s FROM gone g ORDER BY g.id
             RETURNING id
         )
         SELECT array_agg(g.id), (SELECT count(*) FROM again) FROM gone g',
        p_to, host.payload_cast(
            CASE '{payload}' WHEN 'bytea' THEN 'g.payload' ELSE 'convert_to(g.payload::text, ''UTF8'')' END, kind))
    INTO ids, kept USING p_ids, p_where;
    PERFORM host.require_kept(kept, coalesce(cardinality(ids), 0), 'queue.' || p_to);
    RETURN QUERY SELECT unnest(ids);
END $$;

-- Deletes dead letters for good. Returns the ids of those that there were.
CREATE OR REPLACE FUNCTION host.{q}__dead_purge(p_ids bigint[], p_where jsonpath) RETURNS SETOF bigint
LANGUAGE sql
SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
    DELETE FROM host.{q}__dead_letter d WHERE d.id IN (SELECT host.{q}__dead_ids(p_ids, p_where)) RETURNING d.id
$$;
