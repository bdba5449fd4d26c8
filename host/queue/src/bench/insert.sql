-- Purpose: a benchmark's producer. {table} is the queue, or a bare table to compare with; {values}
--   one parameter a row.
-- Locks: none that another session waits for. Tables: {table}.
INSERT INTO {table} (payload) VALUES {values}
