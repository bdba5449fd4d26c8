-- Purpose: a disturbance: a forgotten transaction that has written something, somewhere else.
-- Locks: none but its own transaction id. Tables: none.
SET idle_in_transaction_session_timeout = 0;
BEGIN;
SELECT pg_current_xact_id();
