-- Purpose: whose the schemas host and queue are, and what is in them, from the catalog alone:
-- nothing of theirs is called. One simple query, and by no search path but its own. Locks: none.
-- Tables: the catalog's.
BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;
SELECT pg_catalog.current_schemas(true) AS path, pg_catalog.current_setting('server_encoding') AS encoding;
SET LOCAL search_path = pg_catalog, pg_temp;
WITH me AS (
    SELECT bool_or(r.rolsuper) AS is_super FROM pg_roles r WHERE r.rolname IN (current_user, session_user)
), trusted AS (
    -- A superuser runs nobody else's functions. Others run what the owner of the database has made,
    -- or a role that somebody has made an operator, which nobody can do for himself.
    SELECT r.oid FROM pg_roles r CROSS JOIN me
    WHERE r.rolsuper OR r.rolname = current_user
        OR NOT me.is_super AND (
            r.oid = (SELECT d.datdba FROM pg_database d WHERE d.datname = current_database())
            OR EXISTS (SELECT FROM pg_roles g WHERE g.rolname = 'host_operator' AND pg_has_role(r.oid, g.oid, 'MEMBER')))
)
SELECT n.nspname,
    pg_get_userbyid(n.nspowner) AS owner,
    n.nspowner IN (SELECT t.oid FROM trusted t) AS is_trusted,
    (SELECT format('%s of role "%s"', f.oid::regprocedure, pg_get_userbyid(f.proowner)) FROM pg_proc f
        WHERE f.pronamespace = n.oid AND f.proowner NOT IN (SELECT t.oid FROM trusted t)
            -- A member of the schema's owner may have migrated, too.
            AND NOT pg_has_role(f.proowner, n.nspowner, 'MEMBER') LIMIT 1) AS foreign_function,
    EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'migration' AND c.relkind = 'r') AS has_migrations,
    EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'queue' AND c.relkind = 'r') AS has_queues,
    (SELECT string_agg(c.relname, ', ') FROM (SELECT c.relname FROM pg_class c
        WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY c.relname LIMIT 3) c) AS tables,
    (SELECT m.is_super FROM me m) AS as_superuser
FROM pg_namespace n WHERE n.nspname IN ('host', 'queue') ORDER BY n.nspname;
COMMIT;
