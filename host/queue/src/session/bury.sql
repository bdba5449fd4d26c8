-- Purpose: ends a session that was found dead; its host, unless it had ended before.
-- Locks: the session's row. Tables: host.session, and what ending it touches.
SELECT format('%s/%s', s.host_name, s.pid) FROM host.session s WHERE s.id = $1 AND host.end_session(s.id, true)
