-- Secrets: values for handlers that are nobody else's to see. Tables touched: host.secret;
-- host.handler and host.handler_version are read. Locks: the secret's row. Not one of these is
-- SECURITY DEFINER: who may do what is a matter of the grants on host.secret's columns, see
-- privileges.sql.

-- Sets a secret. True: there was none of that name. A refusal names the secret and never the value:
-- no constraint stands on the table that could put a whole row into an error.
CREATE OR REPLACE FUNCTION host.set_secret(p_name text, p_value text) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    was_there boolean;
BEGIN
    IF p_name IS NULL OR p_name !~ '^[A-Za-z][A-Za-z0-9_.-]{0,63}$' THEN
        RAISE EXCEPTION '% is not the name of a secret', quote_nullable(p_name) USING ERRCODE = '22023';
    END IF;
    IF p_value IS NULL OR octet_length(p_value) NOT BETWEEN 1 AND 65536 THEN
        RAISE EXCEPTION 'the value of secret "%" has % bytes: 1 to 65536 are kept', p_name,
            coalesce(octet_length(p_value), 0) USING ERRCODE = '22023';
    END IF;
    SELECT EXISTS (SELECT FROM host.secret WHERE name = p_name) INTO was_there;
    INSERT INTO host.secret (name, value) VALUES (p_name, p_value)
        ON CONFLICT (name) DO UPDATE SET value = p_value, set_at = now(), set_by = current_user;
    RETURN NOT was_there;
END $$;

-- All secrets, without their values, and the handlers in force that are granted each.
CREATE OR REPLACE FUNCTION host.secrets()
RETURNS TABLE (name text, set_at timestamptz, set_by text, granted_to text[])
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.name, s.set_at, s.set_by,
        ARRAY(SELECT format('%s/%s', q.name, h.name)
            FROM host.handler h
            JOIN host.queue q ON q.id = h.queue_id
            JOIN host.handler_version v ON v.handler_id = h.id AND v.version = h.version
            WHERE s.name = ANY (v.secrets) ORDER BY 1)
    FROM host.secret s ORDER BY s.name
$$;

-- Removes a secret. False: there was none. While handlers are granted it, only if p_force; raises
-- HQ005.
CREATE OR REPLACE FUNCTION host.remove_secret(p_name text, p_force boolean DEFAULT false) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    granted text[] := (SELECT s.granted_to FROM host.secrets() s WHERE s.name = p_name);
BEGIN
    IF cardinality(granted) > 0 AND NOT p_force THEN
        RAISE EXCEPTION 'secret "%" is granted to %', p_name, array_to_string(granted, ', ')
            USING ERRCODE = 'HQ005', HINT = format('to remove it all the same: host secret remove %s --force', p_name);
    END IF;
    DELETE FROM host.secret WHERE name = p_name;
    RETURN FOUND;
END $$;

-- The values of some secrets, for hosts. Those that are not set are left out.
CREATE OR REPLACE FUNCTION host.read_secrets(p_names text[]) RETURNS TABLE (name text, value text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.name, s.value FROM host.secret s WHERE s.name = ANY (p_names)
$$;

-- Tells hosts to read their secrets anew.
CREATE OR REPLACE TRIGGER bump_catalog AFTER INSERT OR UPDATE OR DELETE ON host.secret
    FOR EACH ROW EXECUTE FUNCTION host.bump_catalog();
ALTER TABLE host.secret ENABLE ALWAYS TRIGGER bump_catalog;
