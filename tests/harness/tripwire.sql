-- Put into the database that all tests' are copies of: whoever updates or deletes a row of a log,
-- of messages or of the schedule, in whatever test, is refused (I3).
CREATE SCHEMA tripwire;

CREATE FUNCTION tripwire.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of a row of %: these rows are only ever inserted', TG_OP, TG_RELID::regclass;
END $$;

CREATE FUNCTION tripwire.spread() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE
    leaf regclass;
BEGIN
    FOR leaf IN SELECT objid FROM pg_event_trigger_ddl_commands()
        WHERE object_identity ~ '^host\..*__(message|lease|settlement|promotion|schedule|history)_\d+$'
    LOOP
        EXECUTE format('CREATE TRIGGER tripwire BEFORE UPDATE OR DELETE ON %s'
            ' FOR EACH ROW EXECUTE FUNCTION tripwire.refuse()', leaf);
    END LOOP;
END $$;
CREATE EVENT TRIGGER tripwire ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION tripwire.spread();

DO $$
BEGIN
    FOR leaf IN 0..2 LOOP
        EXECUTE format('CREATE TRIGGER tripwire BEFORE UPDATE OR DELETE ON host.heartbeat_%s'
            ' FOR EACH ROW EXECUTE FUNCTION tripwire.refuse()', leaf);
    END LOOP;
END $$;
