-- What a queue is made of, put in force: when it is made, when its settings change, and when a
-- release has changed a template. Tables touched: host.queue, host.template, host.migration_queue,
-- and the queue's own. Locks: each says.

-- Runs some templates for a queue, in order of their names.
CREATE OR REPLACE FUNCTION host.run_templates(q host.queue, p_templates text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t text;
BEGIN
    FOR t IN SELECT x.t FROM unnest(p_templates) x (t) ORDER BY x.t COLLATE "C" LOOP
        EXECUTE host.render(t, q);
    END LOOP;
END $$;

-- The templates of a queue's functions.
CREATE OR REPLACE FUNCTION host.function_templates(q host.queue) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(t.name) FROM host.template t
    WHERE t.name LIKE 'functions/%' OR (t.name LIKE 'priorities/%' AND q.priorities)
        OR (t.name LIKE 'ordered/%' AND q.ordered_lanes IS NOT NULL)
        OR (t.name LIKE 'keyed/%' AND q.keyed_lanes IS NOT NULL)
$$;

-- The templates of a directory that a queue lacks whose tables have some version.
CREATE OR REPLACE FUNCTION host.templates_since(p_directory text, p_version int) RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(t.name) FROM host.template t
    WHERE starts_with(t.name, p_directory || '/') AND substr(t.name, length(p_directory) + 2, 4)::int > p_version
$$;

-- Puts the functions and triggers of a queue in force, as the templates have them now. Its tables
-- have to be of that release. Locks: none that another session waits for, unless a trigger changes
-- (see host.put_trigger).
CREATE OR REPLACE FUNCTION host.apply_queue_functions(p_name text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    q host.queue;
    want int := (SELECT max(m.version) FROM host.migration m);
BEGIN
    SELECT * INTO STRICT q FROM host.queue WHERE name = p_name;
    -- A new one has the tables of this release.
    INSERT INTO host.migration_queue (queue_id, version, functions) VALUES (q.id, want, host.migration_target())
        ON CONFLICT (queue_id) DO NOTHING;
    IF EXISTS (SELECT FROM host.migration_queue m WHERE m.queue_id = q.id AND m.version < want) THEN
        RAISE EXCEPTION 'an upgrade of the schema has not reached queue "%"', p_name
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'run `host migrate`, which goes on where it stopped';
    END IF;
    PERFORM host.run_templates(q, host.function_templates(q));
    PERFORM host.run_templates(q, '{triggers.sql}');
    PERFORM host.note_functions(q.id);
END $$;

-- Brings a queue's tables, functions and triggers to this release, in the one transaction that the
-- caller makes of it; host.end_upgrade does the rest. What takes no lock that others wait for comes
-- first. Then all locks are taken at once, those of the messages last, so that producers wait for
-- the change of the tables alone. A host takes its locks in the order of this list where it writes;
-- where it only reads, it may have another.
-- Locks: the queue's row; if there is something to change, ACCESS EXCLUSIVE on the queue's tables.
-- It waits for each for as long as the caller's lock_timeout says, which should be less than the
-- server's deadlock_timeout: then two that wait for each other cost the host nothing. Bodies are
-- not checked: that would lock all that they name.
CREATE OR REPLACE FUNCTION host.upgrade_queue(p_name text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET check_function_bodies = off AS $$
DECLARE
    q host.queue;
    have int;
    want int := (SELECT max(m.version) FROM host.migration m);
    steps text[];
BEGIN
    -- Not FOR UPDATE: a deployment does not wait. A change of the settings does.
    SELECT * INTO q FROM host.queue WHERE name = p_name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT m.version INTO STRICT have FROM host.migration_queue m WHERE m.queue_id = q.id;
    PERFORM host.run_templates(q, host.templates_since('drops', have));
    PERFORM host.run_templates(q, host.function_templates(q));
    -- Hosts at work call the new functions as soon as this commits.
    PERFORM host.grant_privileges(p_name);
    steps := host.templates_since('migrations', have);
    IF steps IS NOT NULL THEN
        EXECUTE format('LOCK TABLE host.%I, host.%I, host.%I, host.%I, queue.%I IN ACCESS EXCLUSIVE MODE',
            p_name || '__lease', p_name || '__promotion', p_name || '__settlement', p_name || '__schedule', p_name);
        PERFORM host.run_templates(q, steps);
    END IF;
    PERFORM host.run_templates(q, '{triggers.sql}');
    PERFORM host.note_functions(q.id);
    UPDATE host.migration_queue SET version = want WHERE queue_id = q.id;
    -- Whatever a running host has made of a function that was away, it looks again.
    INSERT INTO host.catalog_change DEFAULT VALUES;
END $$;

-- The rest of a queue's upgrade, in a transaction of its own, since it takes longer than the
-- other's locks should be held: comments and privileges. Then the queue is done with. One that was
-- dropped in between is passed over. Locks: the queue's row, against a drop; SHARE UPDATE EXCLUSIVE
-- on tables whose comments change; no host or producer waits for it.
CREATE OR REPLACE FUNCTION host.end_upgrade(p_name text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM host.queue WHERE name = p_name FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM host.put_comments(p_name);
    PERFORM host.grant_privileges(p_name);
    UPDATE host.migration_queue m SET functions = host.migration_target()
        FROM host.queue q WHERE q.id = m.queue_id AND q.name = p_name;
END $$;

-- Makes a trigger of a table what p_definition says, in the words of pg_get_triggerdef; p_enabled
-- as in pg_trigger. If it is so already, no lock is taken. Locks: SHARE ROW EXCLUSIVE on the table
-- otherwise; producers wait for it.
CREATE OR REPLACE FUNCTION host.put_trigger(p_table regclass, p_name text, p_definition text, p_enabled text DEFAULT 'O')
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t record;
BEGIN
    SELECT pg_get_triggerdef(x.oid) AS definition, x.tgenabled INTO t
        FROM pg_trigger x WHERE x.tgrelid = p_table AND x.tgname = p_name AND NOT x.tgisinternal;
    -- Postgres quotes a queue's name that is a word of SQL; no name has quotes in it.
    IF replace(t.definition, '"', '') IS DISTINCT FROM format('CREATE TRIGGER %s %s', p_name, p_definition) THEN
        EXECUTE format('CREATE OR REPLACE TRIGGER %s %s', p_name, p_definition);
        t.tgenabled := 'O';
    END IF;
    IF t.tgenabled::text <> p_enabled THEN
        EXECUTE format('ALTER TABLE %s %s TRIGGER %s', p_table,
            CASE p_enabled WHEN 'O' THEN 'ENABLE' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'DISABLE' END, p_name);
    END IF;
END $$;
