-- Purpose: the schema that producers see. The schema host is made by bootstrap.sql.
-- Invariant: the schema queue holds one table per queue and nothing else.
-- Locks: none that another session waits for. Tables: none.

CREATE SCHEMA queue;
COMMENT ON SCHEMA queue IS 'One table per queue, for producers: INSERT enqueues.';
COMMENT ON SCHEMA host IS 'Internal to the job server. Nothing here is a producer''s business.';
