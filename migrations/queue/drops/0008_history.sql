-- Template: functions of a queue that get other arguments or results in version 8. Locks: none that
-- another session waits for. Tables: the catalog's.
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN
        SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'host'::regnamespace
            AND p.proname IN ('{q}__settle', '{q}__runs', '{q}__whereabouts')
    LOOP
        EXECUTE format('DROP FUNCTION %s', f);
    END LOOP;
END $$;
