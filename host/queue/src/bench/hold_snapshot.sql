-- Purpose: a disturbance: somebody who reads, and goes on reading: a snapshot that is held.
-- Locks: none. Tables: none.
SET idle_in_transaction_session_timeout = 0;
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_current_snapshot();
