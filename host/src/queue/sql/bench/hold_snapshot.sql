-- Purpose: a disturbance: somebody who reads, and goes on reading: a snapshot that is held.
-- Locks: none. Tables: none.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_current_snapshot();
