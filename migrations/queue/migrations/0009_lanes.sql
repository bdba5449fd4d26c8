-- Template: lanes. A queue that was there before has one lane, 0, and refuses a priority or a key.
-- Nothing is rewritten or scanned. Locks: ACCESS EXCLUSIVE on the leases, the schedule, the
-- messages and the dead letters.
-- Tables: these.
ALTER TABLE host.{q}__lease ADD COLUMN lane smallint NOT NULL DEFAULT 0, ADD COLUMN last_id bigint,
    ADD COLUMN due timestamptz, ADD COLUMN attempt smallint, ADD COLUMN history jsonb;
ALTER TABLE host.{q}__schedule ADD COLUMN priority smallint, ADD COLUMN key text;
-- NOT VALID: rows that are there have none to check.
ALTER TABLE queue.{q} ADD COLUMN priority smallint, ADD COLUMN key text,
    ADD CONSTRAINT queue_has_no_priorities CHECK (priority IS NULL) NOT VALID,
    ADD CONSTRAINT queue_keeps_no_order CHECK (key IS NULL) NOT VALID;
ALTER TABLE host.{q}__dead_letter ADD COLUMN priority smallint, ADD COLUMN key text;
-- To whom `host queue grant` has given the other columns.
DO $$
DECLARE
    role text;
BEGIN
    FOR role IN
        SELECT pg_get_userbyid(g.grantee) FROM pg_attribute a CROSS JOIN aclexplode(a.attacl) g
        WHERE a.attrelid = 'queue.{q}'::regclass AND a.attname = 'expires_at'
            AND g.privilege_type = 'INSERT' AND g.grantee <> 0
    LOOP
        EXECUTE format('GRANT INSERT (priority, key) ON queue.{q} TO %I', role);
    END LOOP;
END $$;
