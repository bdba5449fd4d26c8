-- Purpose: $1 messages that are due in a day, when no benchmark runs any more.
-- Locks: none that another session waits for. Tables: {table}.
INSERT INTO {table} (payload, run_at)
SELECT jsonb_build_object('n', n), now() + interval '1 day' FROM generate_series(1, $1::bigint) n
