-- The settings of a command's connections, whatever their role or database says. Locks, tables:
-- none.
-- A function that looks under a lock has to see what was committed while it waited for the lock.
SET default_transaction_isolation = 'read committed';
-- Compiling a plan takes longer than any of them runs, and is done under locks that hosts wait for.
SET jit = off;
-- A lock that somebody forgot is named, not waited for.
SET lock_timeout = '10s';
-- It waits for hosts, or has a component compiled, and ends by itself.
SET idle_session_timeout = 0;
