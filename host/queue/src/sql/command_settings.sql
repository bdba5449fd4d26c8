-- What the connections of commands are set to, whatever their role or database says: what looks under a lock
-- has to see what was committed while it waited for it. Locks, tables: none.
SET default_transaction_isolation = 'read committed';
