-- Databases that came from another cluster. Cursors and messages speak of transaction ids, and
-- another cluster has others: a restored dump or a logical copy is rebased before it is served. A
-- copy within the cluster, and a physical one, have the same. Tables touched: host.cluster,
-- host.session, host.catalog_change.

-- Whether this database came from another cluster, and was not rebased yet.
CREATE OR REPLACE FUNCTION host.restored() RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT EXISTS (SELECT FROM host.cluster c JOIN pg_control_system() USING (system_identifier))
$$;

-- The last step, when every queue has been rebased: lets hosts begin sessions. The sessions of the
-- other cluster are over. Locks: the rows of host.session and host.cluster.
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
        BEGIN
            EXECUTE format('SELECT setval(%L, greatest(s.last_value, (SELECT max(id) FROM %s))) FROM %s s',
                t.sequence, t.name, t.sequence);
            -- No transaction takes a setval back; but the locks are given back, of which there
            -- would be some for each queue.
            RAISE SQLSTATE 'HQ009';
        EXCEPTION WHEN SQLSTATE 'HQ009' THEN NULL;
        END;
    END LOOP;
    INSERT INTO host.cluster (system_identifier) SELECT system_identifier FROM pg_control_system()
        ON CONFLICT (only_row) DO UPDATE SET system_identifier = EXCLUDED.system_identifier;
    INSERT INTO host.catalog_change DEFAULT VALUES;
END $$;

-- The process number of a pg_dump that may be about to read one of some tables, or NULL. A dump's
-- snapshot is older than its locks. If a leaf is truncated in between, the dump has neither the
-- messages nor what became of them. So whoever truncates asks here, once in its transaction, while
-- it has locked the leaf. What this shows does not change within a transaction.
--
-- Any role can call itself pg_dump. Nobody waits for one that may not read the tables, neither by
-- itself nor as a role that it can take on. Nobody waits for a dump of other tables either. pg_dump
-- locks all tables that it will read before it does anything else. So a dump that is past its LOCK
-- TABLE, and has locked none of these, will not read them. (The statement is shown to a superuser,
-- to a member of pg_read_all_stats, and to the dump's own role. To others, every dump may be about
-- to read them.)
CREATE OR REPLACE FUNCTION host.dump_at_work(p_tables regclass[]) RETURNS int
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT min(a.pid) FROM pg_stat_activity a
    WHERE a.application_name = 'pg_dump' AND a.datname = current_database()
        AND EXISTS (SELECT FROM pg_roles r CROSS JOIN unnest(p_tables) t
            WHERE pg_has_role(a.usesysid, r.oid, 'MEMBER') AND has_table_privilege(r.oid, t, 'SELECT'))
        AND NOT (a.state IN ('active', 'idle in transaction') AND a.query !~* '^[[:space:]]*(LOCK[[:space:]]|$)'
            -- What is below is the catalog's.
            AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.granted AND l.relation >= 16384))
$$;

-- Whether a row may come with a transaction id that is not its own: only into a copy that was not
-- rebased yet, as a restore or logical replication loads it. Raises otherwise. Called by a CHECK,
-- by whoever inserts, and only for such a row.
CREATE OR REPLACE FUNCTION host.refuse_copied_row(p_id bigint, p_txid bigint) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_id > 0 AND host.restored() THEN
        RETURN true;
    END IF;
    RAISE EXCEPTION 'a message came with id % and txid %, which are for the database to set: no handler would run it', p_id, p_txid
        USING ERRCODE = 'check_violation',
            HINT = 'copy only the columns payload, headers, run_at, expires_at, priority, key and unique_key';
END $$;
-- Whatever default privileges there are: the CHECK is for everybody who inserts.
GRANT EXECUTE ON FUNCTION host.refuse_copied_row TO PUBLIC;
