-- Purpose: tables to compare a benchmark's queue with. `floor`: a number and a payload, the least
--   that can be stored. `bare`: the columns of the queue with their defaults, and its one index; no
--   partitions, no checks, no trigger.
-- Locks: none that another session waits for. Tables: host.{q}__floor and host.{q}__bare, which it
-- creates.
CREATE TABLE host.{q}__floor (id bigint GENERATED ALWAYS AS IDENTITY, payload jsonb NOT NULL)
    WITH (autovacuum_enabled = off);
CREATE TABLE host.{q}__bare (LIKE queue.{q} INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING STORAGE)
    WITH (autovacuum_enabled = off);
CREATE INDEX {q}__bare_window ON host.{q}__bare (txid, id);
