-- Purpose: connections of a benchmark's hosts and producers that are still there: what they counted
--   is complete only when they are gone.
-- Locks: none. Tables: pg_stat_activity.
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND (application_name LIKE 'host session %' OR application_name = 'host bench')
