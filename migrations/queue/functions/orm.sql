-- Template: the view that object-relational mappers insert into. They name `id`, and have every
-- column returned: on the table that would take rights with which a producer could forge ids and
-- read what others enqueue.

-- Always empty, and of no table: nobody reads a message here, whatever rights somebody has.
-- Not replaced where it is there: whoever inserts into it would wait.
DO $$
BEGIN
    IF to_regclass('queue.{q}__orm') IS NULL THEN
        CREATE VIEW queue.{q}__orm AS
            SELECT NULL::bigint AS id, NULL::{payload} AS payload, NULL::jsonb AS headers, NULL::timestamptz AS run_at,
                NULL::timestamptz AS expires_at, NULL::smallint AS priority, NULL::text AS key, NULL::text AS unique_key
            WHERE false;
    END IF;
END $$;

-- Enqueues the row, with the rights of who inserts it: on the table itself. Whatever id was given,
-- the table's identity gives one, which is returned. For a duplicate that the queue drops that is
-- the id of the message that has its key: a mapper takes a row that does not come back for an
-- error. Tables: the queue's.
CREATE OR REPLACE FUNCTION host.{q}__insert_for_orm() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('host.duplicate_of', '', true);
    INSERT INTO queue.{q} (payload, headers, run_at, expires_at, priority, key, unique_key)
        VALUES (NEW.payload, NEW.headers, NEW.run_at, NEW.expires_at, NEW.priority, NEW.key, NEW.unique_key)
        RETURNING id INTO NEW.id;
    IF NOT FOUND THEN
        -- Said by take_key.
        NEW.id := nullif(current_setting('host.duplicate_of', true), '')::bigint;
        IF NEW.id IS NULL THEN
            RETURN NULL;
        END IF;
    END IF;
    RETURN NEW;
END $$;

-- Roles of `host queue grant`, also those that were granted before there was the view.
DO $$
DECLARE
    role name;
BEGIN
    FOR role IN
        SELECT DISTINCT r.rolname FROM pg_attribute a CROSS JOIN aclexplode(a.attacl) acl JOIN pg_roles r ON r.oid = acl.grantee
        WHERE a.attrelid = 'queue.{q}'::regclass AND a.attname = 'payload' AND acl.privilege_type = 'INSERT'
            AND r.rolname NOT IN ('host_producer', 'host_operator', 'host_serve')
    LOOP
        EXECUTE format('GRANT SELECT, INSERT ON queue.{q}__orm TO %I', role);
        EXECUTE format('GRANT SELECT ON SEQUENCE queue.{q}_id_seq TO %I', role);
    END LOOP;
END $$;
