-- Purpose: reads a part of a table out, as little as can be: $1 to $2 are its first place and the
-- first after it.
-- Locks: none that another session waits for. Tables: {table}.
SELECT id, payload FROM {table} WHERE ctid >= $1::text::tid AND ctid < $2::text::tid
