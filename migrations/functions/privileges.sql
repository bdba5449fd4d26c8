-- The list of all rights. Each of the three group roles gets the rights that its work needs. `host
-- migrate` grants what is missing. A restore into a cluster without the roles loses grants. Roles
-- belong to the whole cluster. A role that is missing (see bootstrap.sql) is passed over.
--   host_producer  enqueues on every queue; `host queue grant` is for one queue alone.
--   host_operator  runs every command that is for operators.
--   host_serve     runs `host serve`.
-- Tables touched: the catalog's. Locks: none that another session waits for.

-- The list. `columns`: only these; NULL: all. {q} stands for each queue's name; with p_queue, only
-- what has to do with that queue.
CREATE OR REPLACE FUNCTION host.privileges(p_queue text DEFAULT NULL)
RETURNS TABLE (role text, kind text, object text, privilege text, columns text[])
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT p.role, p.kind, replace(p.object, '{q}', coalesce(q.name, '')), privilege, p.columns::text[]
    FROM (VALUES
        ('host_producer', 'SCHEMA', 'queue', 'USAGE', NULL),
        ('host_producer', 'TABLE', 'queue.{q}', 'INSERT', '{payload,headers,run_at,expires_at,priority,key,unique_key}'),
        ('host_producer', 'TABLE', 'queue.{q}', 'SELECT', '{id}'),
        -- Empty for everybody: what is inserted is read back, and nothing else.
        ('host_producer', 'TABLE', 'queue.{q}__orm', 'SELECT INSERT', NULL),
        -- lastval() and currval(). Its last value is the newest id, which every INSERT returns as
        -- well.
        ('host_producer', 'SEQUENCE', 'queue.{q}_id_seq', 'SELECT', NULL),

        ('host_operator', 'SCHEMA', 'queue', 'USAGE', NULL),
        ('host_operator', 'SCHEMA', 'host', 'USAGE', NULL),
        ('host_operator', 'TABLE', 'host.migration', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.migration_functions', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.cluster', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.partition_count', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.catalog', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.catalog_change', 'SELECT', NULL),
        -- Not the id: whoever takes the next ones holds up all other changes.
        ('host_operator', 'TABLE', 'host.catalog_change', 'INSERT', '{changed_at}'),
        ('host_operator', 'TABLE', 'host.queue', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.queue', 'UPDATE', '{paused}'),
        ('host_operator', 'TABLE', 'host.queue_functions', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.component', 'SELECT INSERT', NULL),
        ('host_operator', 'TABLE', 'host.handler', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.handler', 'UPDATE', '{version,paused}'),
        ('host_operator', 'TABLE', 'host.cancellation', 'SELECT INSERT DELETE', NULL),
        ('host_operator', 'TABLE', 'host.handler_version', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.loaded', 'SELECT DELETE', NULL),
        ('host_operator', 'TABLE', 'host.session', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.failing', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.heartbeat', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.pace', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.cron', 'SELECT INSERT UPDATE DELETE', NULL),
        -- Sets a value, and never sees one.
        ('host_operator', 'TABLE', 'host.secret', 'SELECT', '{name,set_at,set_by}'),
        ('host_operator', 'TABLE', 'host.secret', 'INSERT', '{name,value}'),
        ('host_operator', 'TABLE', 'host.secret', 'UPDATE', '{value,set_at,set_by}'),
        ('host_operator', 'TABLE', 'host.secret', 'DELETE', NULL),
        ('host_operator', 'FUNCTION', 'host.create_queue', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.set_unique', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.set_limits', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.drop_queue', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.set_keep', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.set_queue', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.set_wake_up', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.grant_producer', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.deploy', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.begin_from_now', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.idle', 'EXECUTE', NULL),
        ('host_operator', 'FUNCTION', 'host.remove_handler', 'EXECUTE', NULL),
        -- Peeking is an operator's business.
        ('host_operator', 'TABLE', 'queue.{q}', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.{q}__message_0', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.{q}__message_1', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.{q}__message_2', 'SELECT', NULL),
        -- What retrying a dead letter inserts.
        ('host_operator', 'TABLE', 'queue.{q}', 'INSERT',
            '{payload,headers,run_at,expires_at,priority,key,unique_key,enqueued_at,origin,handler_id,attempt,history}'),
        ('host_operator', 'TABLE', 'host.{q}__dead_letter', 'SELECT DELETE', NULL),
        ('host_operator', 'TABLE', 'host.{q}__schedule', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.{q}__unique', 'SELECT', NULL),
        ('host_operator', 'FUNCTION', 'host.{q}__purge', 'EXECUTE', NULL),
        ('host_operator', 'TABLE', 'host.{q}__lease', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.{q}__settlement', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.{q}__promotion', 'SELECT', NULL),
        ('host_operator', 'TABLE', 'host.{q}__history', 'SELECT', NULL),
        ('host_operator', 'SEQUENCE', 'queue.{q}_id_seq', 'SELECT', NULL),
        ('host_operator', 'SEQUENCE', 'host.{q}__lease_id_seq', 'SELECT', NULL),
        ('host_operator', 'SEQUENCE', 'host.{q}__promotion_id_seq', 'SELECT', NULL),

        ('host_serve', 'SCHEMA', 'queue', 'USAGE', NULL),
        ('host_serve', 'SCHEMA', 'host', 'USAGE', NULL),
        ('host_serve', 'TABLE', 'host.migration', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.migration_functions', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.cluster', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.catalog', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.catalog', 'UPDATE', '{version}'),
        ('host_serve', 'TABLE', 'host.catalog_change', 'SELECT DELETE', NULL),
        ('host_serve', 'TABLE', 'host.catalog_change', 'INSERT', '{changed_at}'),
        ('host_serve', 'TABLE', 'host.queue', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.component', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.handler', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.handler_version', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.cancellation', 'SELECT DELETE', NULL),
        ('host_serve', 'TABLE', 'host.loaded', 'SELECT INSERT', NULL),
        ('host_serve', 'TABLE', 'host.loaded', 'UPDATE', '{error,loaded_at}'),
        ('host_serve', 'TABLE', 'host.session', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.session', 'INSERT', '{host_name,pid,host_version}'),
        ('host_serve', 'TABLE', 'host.session', 'UPDATE', '{ended_at,lost}'),
        ('host_serve', 'TABLE', 'host.heartbeat', 'SELECT INSERT', NULL),
        ('host_serve', 'TABLE', 'host.pace', 'SELECT', NULL),
        ('host_serve', 'TABLE', 'host.cron', 'SELECT UPDATE', NULL),
        ('host_serve', 'TABLE', 'host.failing', 'SELECT INSERT UPDATE DELETE', NULL),
        ('host_serve', 'TABLE', 'host.secret', 'SELECT', '{name,value}'),
        ('host_serve', 'FUNCTION', 'host.truncate_heartbeat', 'EXECUTE', NULL),
        ('host_serve', 'TABLE', 'queue.{q}', 'SELECT INSERT', NULL),
        ('host_serve', 'TABLE', 'host.{q}__lease', 'SELECT INSERT', NULL),
        ('host_serve', 'TABLE', 'host.{q}__settlement', 'SELECT INSERT', NULL),
        ('host_serve', 'TABLE', 'host.{q}__promotion', 'SELECT INSERT', NULL),
        ('host_serve', 'TABLE', 'host.{q}__schedule', 'SELECT INSERT', NULL),
        ('host_serve', 'TABLE', 'host.{q}__dead_letter', 'INSERT', NULL),
        ('host_serve', 'TABLE', 'host.{q}__history', 'INSERT', NULL),
        ('host_serve', 'TABLE', 'host.{q}__unique', 'SELECT DELETE', NULL),
        ('host_serve', 'TABLE', 'host.{q}__unique', 'UPDATE', '{settled_by}'),
        ('host_serve', 'SEQUENCE', 'queue.{q}_id_seq', 'SELECT', NULL),
        ('host_serve', 'SEQUENCE', 'host.{q}__lease_id_seq', 'SELECT', NULL),
        ('host_serve', 'SEQUENCE', 'host.{q}__promotion_id_seq', 'SELECT', NULL),
        ('host_serve', 'SEQUENCE', 'host.{q}__schedule_id_seq', 'SELECT', NULL),
        ('host_serve', 'SEQUENCE', 'host.{q}__asleep', 'UPDATE', NULL),
        ('host_serve', 'FUNCTION', 'host.{q}__missing', 'EXECUTE', NULL),
        ('host_serve', 'FUNCTION', 'host.{q}__truncate', 'EXECUTE', NULL),
        ('host_serve', 'FUNCTION', 'host.{q}__try_truncate', 'EXECUTE', NULL),
        ('host_serve', 'FUNCTION', 'host.{q}__advance', 'EXECUTE', NULL),
        ('host_serve', 'FUNCTION', 'host.{q}__truncate_schedule', 'EXECUTE', NULL),
        ('host_serve', 'FUNCTION', 'host.{q}__truncate_history', 'EXECUTE', NULL)
    ) p (role, kind, object, privileges, columns)
    CROSS JOIN string_to_table(p.privileges, ' ') privilege
    LEFT JOIN host.queue q ON strpos(p.object, '{q}') > 0
    WHERE CASE
        WHEN p_queue IS NOT NULL THEN q.name = p_queue
        ELSE q.name IS NOT NULL OR strpos(p.object, '{q}') = 0
    END
        -- Only queues that keep what is settled have one.
        AND (p.object <> 'host.{q}__history' OR to_regclass('host.' || q.name || '__history') IS NOT NULL)
$$;

-- The statements that would grant what is missing of the list. A function that does not run with
-- its owner's rights is for everybody who may use the schema, and is not in the list. But ALTER
-- DEFAULT PRIVILEGES may have taken it from everybody. Then operators and hosts are granted it.
CREATE OR REPLACE FUNCTION host.missing_privileges(p_queue text DEFAULT NULL) RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('GRANT %s%s ON %s %s TO %I', p.privilege, ' (' || array_to_string(p.columns, ', ') || ')',
        p.kind, p.object, p.role)
    FROM host.privileges(p_queue) p JOIN pg_roles r ON r.rolname = p.role
    WHERE NOT CASE p.kind
        WHEN 'SCHEMA' THEN has_schema_privilege(r.oid, p.object, p.privilege)
        WHEN 'SEQUENCE' THEN has_sequence_privilege(r.oid, p.object, p.privilege)
        WHEN 'FUNCTION' THEN has_function_privilege(r.oid, p.object::regproc, p.privilege)
        WHEN 'TABLE' THEN has_table_privilege(r.oid, p.object, p.privilege)
            OR (SELECT bool_and(has_column_privilege(r.oid, p.object, c, p.privilege)) FROM unnest(p.columns) c) IS TRUE
    END
    UNION ALL
    SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', f.oid::regprocedure, r.rolname)
    FROM pg_proc f CROSS JOIN pg_roles r
    WHERE f.pronamespace = 'host'::regnamespace AND NOT f.prosecdef AND f.prorettype <> 'trigger'::regtype
        AND (p_queue IS NULL OR split_part(f.proname, '__', 1) = p_queue)
        AND r.rolname IN ('host_operator', 'host_serve') AND NOT has_function_privilege(r.oid, f.oid, 'EXECUTE')
$$;

-- Rights that everybody has and should not have, as the statements that take them back. ALTER
-- DEFAULT PRIVILEGES can open what is made. INSERT alone on a queue is left: an owner may let
-- everybody enqueue. With any other right on it, all go.
CREATE OR REPLACE FUNCTION host.open_privileges(p_queue text DEFAULT NULL) RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('REVOKE ALL ON %s %s FROM PUBLIC', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass)
    FROM pg_class c
    WHERE c.relnamespace IN ('host'::regnamespace, 'queue'::regnamespace) AND c.relkind IN ('r', 'p', 'v', 'S')
        AND (p_queue IS NULL OR c.relname IN (p_queue, p_queue || '_id_seq') OR starts_with(c.relname, p_queue || '__'))
        AND EXISTS (SELECT FROM aclexplode(c.relacl) a
            WHERE a.grantee = 0 AND (a.privilege_type <> 'INSERT' OR c.relnamespace = 'host'::regnamespace))
    UNION ALL
    SELECT format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', n.nspname)
    FROM pg_namespace n
    WHERE n.nspname IN ('host', 'queue') AND EXISTS (SELECT FROM aclexplode(n.nspacl) a
        WHERE a.grantee = 0 AND a.privilege_type = 'CREATE')
    UNION ALL
    SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f.oid::regprocedure)
    FROM pg_proc f
    WHERE f.pronamespace = 'host'::regnamespace AND f.prosecdef
        AND (p_queue IS NULL OR split_part(f.proname, '__', 1) = p_queue)
        AND EXISTS (SELECT FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a WHERE a.grantee = 0)
$$;

-- Roles other than the owner that may change what is host's beyond the list and beyond a producer's
-- INSERT: call a function that has the owner's rights, write a table, set a sequence, or read
-- secrets. One row a role. `rights` are phrases for people, one for each kind of object;
-- `statements` take the same rights back. Nothing here revokes them: somebody may have granted them
-- on purpose. Default privileges that named a role did so by accident.
CREATE OR REPLACE FUNCTION host.excess_privileges() RETURNS TABLE (role text, rights text[], statements text[])
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET jit = off AS $$
    WITH other AS MATERIALIZED (
        SELECT r.oid, r.rolname
        FROM pg_roles r
        -- Whoever is the owner in effect, as superusers are, may do all of it anyway.
        WHERE NOT pg_has_role(r.oid, (SELECT nspowner FROM pg_namespace WHERE nspname = 'host'), 'USAGE')
    ), listed AS MATERIALIZED (
        SELECT p.role, p.object, p.privilege, p.columns FROM host.privileges() p
    ), relation AS MATERIALIZED (
        SELECT n.nspname, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, c.oid, c.relname, c.relacl
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN ('host', 'queue')
        WHERE c.relkind IN ('r', 'p', 'v', 'S')
    ), held (role, nspname, kind, object, listed_as, privilege, column_name) AS (
        SELECT a.grantee, r.nspname, r.kind, r.oid::regclass::text, concat_ws('.', r.nspname, r.relname), a.privilege_type, NULL
        FROM relation r CROSS JOIN aclexplode(r.relacl) a
        UNION ALL
        SELECT a.grantee, r.nspname, r.kind, r.oid::regclass::text, concat_ws('.', r.nspname, r.relname), a.privilege_type, c.attname
        FROM relation r JOIN pg_attribute c ON c.attrelid = r.oid CROSS JOIN aclexplode(c.attacl) a
        UNION ALL
        SELECT a.grantee, 'host', 'FUNCTION', f.oid::regprocedure::text, 'host.' || f.proname, a.privilege_type, NULL
        FROM pg_proc f CROSS JOIN aclexplode(f.proacl) a
        WHERE f.pronamespace = 'host'::regnamespace AND f.prosecdef
        UNION ALL
        SELECT a.grantee, n.nspname, 'SCHEMA', n.nspname, n.nspname, a.privilege_type, NULL
        FROM pg_namespace n CROSS JOIN aclexplode(n.nspacl) a WHERE n.nspname IN ('host', 'queue')
    ), excess AS (
        SELECT o.rolname, h.nspname, h.kind, count(DISTINCT h.object) AS n, min(h.object) AS example,
            string_agg(DISTINCT h.privilege, ', ') AS privileges
        FROM held h JOIN other o ON o.oid = h.role
        WHERE CASE h.kind
                WHEN 'SCHEMA' THEN h.privilege = 'CREATE'
                WHEN 'FUNCTION' THEN true
                -- nextval() on the ids of messages only leaves a gap, as does an INSERT that is
                -- rolled back.
                WHEN 'SEQUENCE' THEN h.privilege = 'UPDATE' OR (h.privilege = 'USAGE' AND h.nspname = 'host')
                -- Whoever may enqueue is for the owner of the queue to say.
                ELSE h.privilege <> 'SELECT' AND (h.privilege <> 'INSERT' OR h.nspname = 'host') OR h.listed_as = 'host.secret'
            END
            AND NOT EXISTS (SELECT FROM listed p
                WHERE p.role = o.rolname AND p.object = h.listed_as AND p.privilege = h.privilege
                    AND (p.columns IS NULL OR h.column_name = ANY (p.columns)))
        GROUP BY o.rolname, h.nspname, h.kind
    )
    SELECT e.rolname,
        array_agg(CASE
            WHEN e.n = 1 THEN format('%s on %s %s', e.privileges, lower(e.kind), e.example)
            ELSE format('%s on %s %ss of %s, such as %s', e.privileges, e.n, lower(e.kind), e.nspname, e.example)
        END ORDER BY e.kind, e.nspname),
        array_agg(CASE
            WHEN e.n = 1 THEN format('REVOKE %s ON %s %s FROM %I', e.privileges, e.kind, e.example, e.rolname)
            ELSE format('REVOKE %s ON ALL %sS IN SCHEMA %I FROM %I', e.privileges, e.kind, e.nspname, e.rolname)
        END ORDER BY e.kind, e.nspname)
    FROM excess e GROUP BY e.rolname ORDER BY e.rolname
$$;

-- What default privileges will open of what the owner makes next: tables to everybody, and to
-- anybody functions that run with the owner's rights. As the statements that end it.
CREATE OR REPLACE FUNCTION host.open_defaults() RETURNS SETOF text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT concat('ALTER DEFAULT PRIVILEGES FOR ROLE ', quote_ident(o.rolname), ' IN SCHEMA ' || quote_ident(n.nspname), ' REVOKE ALL ON ',
        CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'n' THEN 'SCHEMAS' ELSE 'FUNCTIONS' END,
        ' FROM ', coalesce(quote_ident(g.rolname), 'PUBLIC'))
    FROM pg_default_acl d JOIN pg_roles o ON o.oid = d.defaclrole
        LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
        CROSS JOIN aclexplode(d.defaclacl) a LEFT JOIN pg_roles g ON g.oid = a.grantee
    WHERE d.defaclrole = (SELECT nspowner FROM pg_namespace WHERE nspname = 'host')
        AND (d.defaclnamespace = 0 OR n.nspname IN ('host', 'queue'))
        AND CASE WHEN d.defaclobjtype = 'f' THEN a.grantee NOT IN (0, d.defaclrole)
            ELSE d.defaclobjtype IN ('r', 'S', 'n') AND a.grantee = 0 END
$$;

-- Grants what is missing, and takes back what is open. Returns how much that was.
CREATE OR REPLACE FUNCTION host.grant_privileges(p_queue text DEFAULT NULL) RETURNS int
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    statement text;
    granted int := 0;
BEGIN
    FOR statement IN SELECT host.open_privileges(p_queue) LOOP
        EXECUTE statement;
        granted := granted + 1;
    END LOOP;
    -- After that: what everybody could do, a group role may have had no other way to do.
    FOR statement IN SELECT host.missing_privileges(p_queue) LOOP
        EXECUTE statement;
        granted := granted + 1;
    END LOOP;
    RETURN granted;
END $$;
