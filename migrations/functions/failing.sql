-- What fails lately, for `host status` and `host doctor`. Tables touched: host.failing, which hosts
-- write every ten seconds while something fails; the dead letters of queues are read.
-- Locks: rows of host.failing, each its own host's.

-- What an error has in common with others of its kind: without numbers, ids, quoted words and
-- addresses. As host/core/src/health/failures.rs has it.
CREATE OR REPLACE FUNCTION host.error_kind(p_error text) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT left(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(p_error,
            '"[^"]*"', '"…"', 'g'),
            '[^ ]+@[^ ]+', '#', 'g'),
            '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}', '#', 'g'),
            '(?=[0-9A-Za-z]*[0-9])(?=[0-9A-Za-z]*[A-Za-z])[0-9A-Za-z]{8,}', '#', 'g'),
            '[0-9]+', '#', 'g'), 200)
$$;

-- Notes what fails on a host: rows of handler_id, version, calls, failed, dead, error. Repeatable.
-- What is a day old goes.
CREATE OR REPLACE FUNCTION host.report_failing(p_session int, p_rows jsonb) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM host.failing f WHERE f.reported_at < now() - interval '1 day';
    INSERT INTO host.failing (session_id, handler_id, version, calls, failed, dead, error)
        SELECT p_session, r.handler_id, r.version, r.calls, r.failed, r.dead, r.error
        FROM jsonb_to_recordset(p_rows) r (handler_id int, version int, calls bigint, failed bigint, dead bigint, error text)
        ORDER BY r.handler_id
        ON CONFLICT (session_id, handler_id) DO UPDATE SET version = EXCLUDED.version, calls = EXCLUDED.calls,
            failed = EXCLUDED.failed, dead = EXCLUDED.dead, error = EXCLUDED.error, reported_at = now()
$$;

-- The handlers whose version in force fails, or did two minutes ago. `calls`: messages that ran in
-- the last five minutes, over all hosts; `failed` and `dead` are some of them. `error` is that of
-- the host where most fail.
CREATE OR REPLACE FUNCTION host.failing_handlers()
RETURNS TABLE (queue text, handler text, version int, calls bigint, failed bigint, dead bigint, error text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT q.name, h.name, h.version, sum(f.calls)::bigint, sum(f.failed)::bigint, sum(f.dead)::bigint,
        (array_agg(f.error ORDER BY f.failed DESC, f.session_id))[1]
    FROM host.failing f JOIN host.handler h ON h.id = f.handler_id AND h.version = f.version
        JOIN host.queue q ON q.id = h.queue_id
    WHERE f.reported_at > now() - interval '2 minutes'
    GROUP BY q.name, h.name, h.version ORDER BY q.name, h.name
$$;

-- Queues with dead letters that are fresh: how many, since when, and the commonest error. Of each
-- queue, the newest thousand are looked at; a queue without any costs no look. The locks of a look
-- are given back with it, as those of host.status_of_each are.
CREATE OR REPLACE FUNCTION host.fresh_dead_letters(p_within interval DEFAULT '1 hour')
RETURNS TABLE (queue text, letters bigint, since timestamptz, error text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    one text;
BEGIN
    FOR one IN SELECT q.name FROM host.queue q ORDER BY q.name LOOP
        letters := 0;
        BEGIN
            CONTINUE WHEN coalesce(pg_relation_size(to_regclass(format('host.%I', one || '__dead_letter'))), 0) = 0;
            EXECUTE format(
                'WITH fresh AS MATERIALIZED (
                    SELECT d.died_at, d.error FROM (SELECT * FROM host.%I ORDER BY id DESC LIMIT 1000) d
                    WHERE d.died_at > clock_timestamp() - $1
                )
                SELECT count(*), min(f.died_at), (SELECT min(c.error) FROM fresh c GROUP BY host.error_kind(c.error)
                    ORDER BY count(*) DESC, min(c.died_at) LIMIT 1)
                FROM fresh f', one || '__dead_letter')
                INTO letters, since, error USING p_within;
            RAISE SQLSTATE 'HQ009';
        EXCEPTION
            WHEN SQLSTATE 'HQ009' THEN NULL;
            -- Dropped meanwhile, or locked by somebody.
            WHEN undefined_table OR lock_not_available THEN NULL;
        END;
        IF letters > 0 THEN
            queue := one;
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;
