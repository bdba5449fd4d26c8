-- What the connections of `host serve` are set to, whatever their role or database says: those are
-- defaults for people and programs that forget to finish. A host finishes, and what it runs has
-- bounds of its own. Each function's lock_timeout wins over this one. Names are found in the
-- catalog only. Locks, tables: none.
SET search_path = pg_catalog, pg_temp;
SET statement_timeout = '25s';
SET lock_timeout = '5s';
SET idle_in_transaction_session_timeout = '25s';
SET idle_session_timeout = 0;
SET default_transaction_isolation = 'read committed';
-- Compiling a plan takes longer than any of them runs, and is done under locks that leases wait
-- for.
SET jit = off;
