-- Purpose: a disturbance: a forgotten transaction that has written something, somewhere else.
-- Locks: none but its own transaction id. Tables: none.
BEGIN;
SELECT pg_current_xact_id();
