-- Template: the triggers of a queue's tables. Run after all functions, and after the tables have
-- their shape. Locks: as host.put_trigger. Tables: message, and the view for mappers.
DO $$
BEGIN
    PERFORM host.put_trigger('queue.{q}__orm', 'insert_for_orm',
        'INSTEAD OF INSERT ON queue.{q}__orm FOR EACH ROW EXECUTE FUNCTION host.{q}__insert_for_orm()');
    -- A queue without unique keys has no such trigger: for COPY, one would cost much even if it
    -- never fired. ALWAYS: whatever session_replication_role a producer has. What is restored or
    -- replicated has no key left to take.
    IF {unique} THEN
        PERFORM host.put_trigger('queue.{q}', 'take_key', 'BEFORE INSERT ON queue.{q} FOR EACH ROW'
            ' WHEN ((new.unique_key IS NOT NULL)) EXECUTE FUNCTION host.{q}__take_key()', 'A');
    ELSIF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'queue.{q}'::regclass AND tgname = 'take_key') THEN
        DROP TRIGGER take_key ON queue.{q};
    END IF;
    PERFORM host.put_trigger('queue.{q}', 'wake',
        'AFTER INSERT ON queue.{q} FOR EACH STATEMENT EXECUTE FUNCTION host.{q}__wake()',
        CASE WHEN (SELECT wake_up FROM host.queue WHERE id = {queue_id}) THEN 'O' ELSE 'D' END);
    -- ALWAYS: for logical replication as well, and for who sets session_replication_role. A leaf
    -- itself is truncated by rotation, and by nobody else.
    PERFORM host.put_trigger('queue.{q}', 'refuse_change', 'BEFORE DELETE OR UPDATE OR TRUNCATE ON queue.{q}'
        ' FOR EACH STATEMENT EXECUTE FUNCTION host.refuse_change()', 'A');
    -- A statement on a partition fires no trigger of its table's.
    FOR leaf IN 0..2 LOOP
        PERFORM host.put_trigger(format('host.{q}__message_%s', leaf)::regclass, 'refuse_change',
            format('BEFORE DELETE OR UPDATE ON host.{q}__message_%s FOR EACH STATEMENT EXECUTE FUNCTION host.refuse_change()', leaf),
            'A');
    END LOOP;
END $$;
