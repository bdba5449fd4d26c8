-- What the connection of `host migrate` is set to, whatever its role or database says. Names are
-- found in the catalog only: a path that its owner chose must not lead a superuser astray. What is
-- parsed means the same everywhere, and the runner's own limits hold. Locks, tables: none.
SET search_path = pg_catalog, pg_temp;
SET standard_conforming_strings = on;
SET check_function_bodies = on;
SET quote_all_identifiers = off;
SET transform_null_equals = off;
SET statement_timeout = 0;
-- It waits for another `host migrate`; for the locks of others it has limits of its own.
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET idle_session_timeout = 0;
SET default_transaction_isolation = 'read committed';
