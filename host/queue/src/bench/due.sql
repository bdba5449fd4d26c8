-- Purpose: messages of a benchmark that are due later: $1 are their payloads, $2 says when.
-- Locks: none that another session waits for. Tables: {table}.
INSERT INTO {table} (payload, run_at) SELECT m.payload::jsonb, m.run_at FROM unnest($1::text[], $2::timestamptz[]) m (payload, run_at)
