-- Purpose: the roles that something can be granted to. Tables: pg_roles.
SELECT rolname::text FROM pg_roles WHERE NOT starts_with(rolname, 'pg_') ORDER BY rolname
