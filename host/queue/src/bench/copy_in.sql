-- Purpose: a benchmark's producer. {table} is the queue, or a bare table to compare with.
-- Locks: none that another session waits for. Tables: {table}.
COPY {table} (payload) FROM STDIN (FORMAT binary)
