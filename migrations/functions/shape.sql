-- What each queue consists of, for `host doctor` to compare: its tables with what a new queue of
-- its kind has, its functions with what was put in force. Tables touched: host.queue,
-- host.queue_functions, and the catalog's. Locks: none that another session waits for.

-- One line for each thing that a queue has, in words in which all queues of a kind agree: {q}
-- stands for the queue's name. NULL: of all queues, in one look at the catalog. `part`: `queue`, or
-- what only a queue with such a setting has.
CREATE OR REPLACE FUNCTION host.shape(p_queue text DEFAULT NULL)
RETURNS TABLE (queue text, part text, line text)
LANGUAGE sql STABLE
-- Postgres writes a definition in the reader's style; a digest has to know one.
SET IntervalStyle = 'postgres' SET DateStyle = 'ISO, MDY' SET quote_all_identifiers = off SET standard_conforming_strings = on
SET search_path = pg_catalog, pg_temp SET jit = off AS $$
    WITH q AS MATERIALIZED (
        SELECT x.name, x.payload_type, x.payload_bytes_max, x.wake_up, host.lanes(x) AS lanes
        FROM host.queue x WHERE p_queue IS NULL OR x.name = p_queue
    ), rel AS MATERIALIZED (
        -- A queue's name has no two underscores in a row.
        SELECT q.name, q.payload_type, q.payload_bytes_max, q.wake_up, q.lanes, c.oid, c.relkind, c.relispartition,
            c.relpartbound, split_part(c.relname, '__', 2) AS suffix,
            format('%s.{q}%s', n.nspname, substr(c.relname, length(q.name) + 1)) AS called
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN ('host', 'queue')
        JOIN q ON q.name = split_part(c.relname, '__', 1)
        WHERE c.relkind IN ('r', 'p', 'v', 'S')
    ), index AS MATERIALIZED (
        -- Postgres opens a table to write down an index. So this is done once for all that are the
        -- same in the catalog; where an expression says which column, in the same table.
        SELECT r.name, r.suffix, r.called, i.indexrelid, i.indisunique, i.indisvalid, concat_ws('|', r.called, ic.relam, ic.reloptions,
            to_jsonb(i) - '{indexrelid,indrelid,indpred,indexprs,indcheckxmin,indisvalid,indisready,indisclustered}'::text[],
            (SELECT string_agg(a.attname, ',' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = i.indexrelid),
            CASE WHEN num_nonnulls(i.indpred, i.indexprs) > 0 THEN
                regexp_replace(concat_ws('|', i.indpred, i.indexprs), ':location -?[0-9]+', '', 'g')
                    || (SELECT string_agg(a.attname, ',' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = i.indrelid)
            END) AS raw
        FROM rel r JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class ic ON ic.oid = i.indexrelid
        -- What hangs on an index of the whole cannot be dropped alone.
        WHERE NOT ic.relispartition
    ), line (queue, suffix, line) AS (
        SELECT r.name, r.suffix, concat_ws(' ',
            CASE r.relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE 'table' END,
            -- It names no column, so its table need not be opened.
            r.called, pg_get_expr(r.relpartbound, 0))
        FROM rel r
        UNION ALL
        SELECT r.name, r.suffix, concat_ws(' ', 'column', r.called || '.' || a.attname,
            -- By its settings, which differ.
            CASE WHEN a.attname = 'payload' AND format_type(a.atttypid, a.atttypmod) = r.payload_type THEN '{payload}'
                ELSE format_type(a.atttypid, a.atttypmod) END,
            CASE WHEN a.attnotnull THEN 'NOT NULL' END,
            CASE WHEN a.attidentity <> '' THEN 'identity ' || a.attidentity::text END,
            CASE WHEN a.attgenerated <> '' THEN 'generated' END,
            replace(pg_get_expr(d.adbin, d.adrelid), format('(%s)::bigint', r.lanes - 1), '({lanes} - 1)'))
        FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE NOT r.relispartition AND r.relkind <> 'S'
        UNION ALL
        -- The names of indexes differ between a new queue and one that was migrated.
        SELECT i.name, i.suffix, format('index: CREATE %sINDEX ON %s%s%s', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END, i.called,
            d.text, CASE WHEN i.indisvalid THEN '' ELSE ', which is not valid' END)
        FROM index i JOIN (SELECT x.raw, pg_get_indexdef(min(x.indexrelid)) AS def FROM index x GROUP BY x.raw) x USING (raw)
        CROSS JOIN substr(x.def, strpos(x.def, ' USING ')) d (text)
        UNION ALL
        SELECT r.name, r.suffix, CASE
            WHEN k.conname = format('payload_is_at_most_%s_bytes', r.payload_bytes_max) THEN
                format('check %s payload_is_at_most_{payload_bytes_max}_bytes', r.called)
            ELSE format('check %s %s %s', r.called, k.conname, regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', ''))
            END
        FROM rel r JOIN pg_constraint k ON k.conrelid = r.oid AND k.contype = 'c' AND k.conislocal
        UNION ALL
        SELECT r.name, CASE t.tgname WHEN 'take_key' THEN 'unique key' ELSE r.suffix END,
            concat_ws(' ', 'trigger', t.tgname, 'on', r.called, 'type', t.tgtype::text, 'calls',
                format('%s.%s', p.pronamespace::regnamespace,
                    CASE WHEN starts_with(p.proname, r.name || '__') THEN '{q}' || substr(p.proname, length(r.name) + 1)
                        ELSE p.proname END),
                CASE WHEN (t.tgenabled = 'O') <> (t.tgname <> 'wake' OR r.wake_up) THEN ', enabled ' || t.tgenabled::text END)
        FROM rel r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal AND t.tgparentid = 0
        JOIN pg_proc p ON p.oid = t.tgfoid
    )
    SELECT l.queue, CASE
            WHEN l.suffix = 'unique key' THEN 'unique'
            WHEN l.suffix ~ '^history(_[0-9]+)?(_id_seq)?$' THEN 'history'
            ELSE 'queue'
        END, l.line
    FROM line l
$$;

-- The functions that queues have now, each with a digest of what it does. NULL: of all queues.
CREATE OR REPLACE FUNCTION host.functions_now(p_queue int DEFAULT NULL)
RETURNS TABLE (queue_id int, function text, digest text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET jit = off AS $$
    SELECT q.id, format('host.%s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)),
        md5(concat_ws(' ', p.prosrc, p.prosecdef, p.provolatile, p.proconfig))
    FROM pg_proc p JOIN host.queue q ON q.name = split_part(p.proname, '__', 1)
    WHERE p.pronamespace = 'host'::regnamespace AND strpos(p.proname, '__') > 0 AND (p_queue IS NULL OR q.id = p_queue)
$$;

-- Notes what the functions of a queue are, just after they were put in force.
CREATE OR REPLACE FUNCTION host.note_functions(p_queue int) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO host.queue_functions (queue_id, digests)
        SELECT p_queue, jsonb_object_agg(f.function, f.digest) FROM host.functions_now(p_queue) f
        ON CONFLICT (queue_id) DO UPDATE SET digests = EXCLUDED.digests
$$;

-- Functions of queues that are not what was put in force: missing, changed, or of somebody else's
-- making.
CREATE OR REPLACE FUNCTION host.changed_functions()
RETURNS TABLE (queue text, function text, how text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET jit = off AS $$
    SELECT q.name, coalesce(f.function, n.function), CASE
        WHEN f.function IS NULL THEN 'missing'
        WHEN n.function IS NULL THEN 'added'
        ELSE 'changed'
    END
    FROM host.functions_now() f
    FULL JOIN (SELECT x.queue_id, e.key AS function, e.value AS digest
        FROM host.queue_functions x CROSS JOIN jsonb_each_text(x.digests) e) n USING (queue_id, function)
    JOIN host.queue q ON q.id = queue_id
    WHERE f.digest IS DISTINCT FROM n.digest
        -- Of a queue whose functions were never noted nothing can be said.
        AND queue_id IN (SELECT queue_id FROM host.queue_functions)
$$;
