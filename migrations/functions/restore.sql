-- Databases that came from another cluster. Cursors and messages speak of transaction ids, and another cluster
-- has others: a restored dump or a logical copy is rebased before it is served. A copy within the
-- cluster, and a physical one, have the same. Tables touched: host.cluster, host.session, host.catalog.

-- Whether this database came from another cluster, and was not rebased yet.
CREATE OR REPLACE FUNCTION host.restored() RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT EXISTS (SELECT FROM host.cluster c JOIN pg_control_system() USING (system_identifier))
$$;

-- The last step, when every queue has been rebased: lets hosts begin sessions. The sessions of the other cluster are
-- over. Locks: the rows of host.session, host.cluster and host.catalog.
CREATE OR REPLACE FUNCTION host.end_rebase() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t record;
BEGIN
    UPDATE host.session SET ended_at = clock_timestamp(), lost = true WHERE ended_at IS NULL;
    -- A logical copy brings rows without their sequences.
    FOR t IN
        SELECT c.oid::regclass AS name, pg_get_serial_sequence(c.oid::regclass::text, 'id')::regclass AS sequence
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'id' AND a.attidentity <> ''
        WHERE c.relnamespace = 'host'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition
    LOOP
        EXECUTE format('SELECT setval(%L, greatest(s.last_value, (SELECT max(id) FROM %s))) FROM %s s',
            t.sequence, t.name, t.sequence);
    END LOOP;
    INSERT INTO host.cluster (system_identifier) SELECT system_identifier FROM pg_control_system()
        ON CONFLICT (only_row) DO UPDATE SET system_identifier = EXCLUDED.system_identifier;
    UPDATE host.catalog SET version = version + 1;
END $$;

-- The process number of a pg_dump that is at work in this database, or NULL. Its snapshot is older than its
-- locks: of a leaf that is truncated in between, the dump would have neither the messages nor what became of them. So
-- whoever truncates asks here, once in its transaction (what it shows does not change in one), when what lies
-- in the leaf has become settled for all to see.
CREATE OR REPLACE FUNCTION host.dump_at_work() RETURNS int
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT min(pid) FROM pg_stat_activity WHERE application_name = 'pg_dump' AND datname = current_database()
$$;
