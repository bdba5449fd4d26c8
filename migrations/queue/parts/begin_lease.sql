-- Part: the head of a lease. Refuses what it may not be, and waits for the lock of the handler's
-- cursor. Its commit is asynchronous.
IF {keyed?NOT p_again AND }pg_current_xact_id_if_assigned() IS NOT NULL
    OR current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'lease needs a READ COMMITTED transaction of its own';
END IF;
PERFORM set_config('synchronous_commit', 'off', true);
PERFORM pg_advisory_xact_lock({cursor_lock}, p_handler);
-- 0: nobody's, for what is settled in the same transaction (see purge).
IF p_session <> 0 AND NOT EXISTS (SELECT FROM host.session s WHERE s.id = p_session AND s.ended_at IS NULL) THEN
    RAISE EXCEPTION 'session % has ended', p_session USING ERRCODE = 'HQ001';
END IF;
