-- Template: results of handlers. Nothing is rewritten. Locks: ACCESS EXCLUSIVE on the settlements.
-- Tables: these.
ALTER TABLE host.{q}__settlement ADD COLUMN result_pos int[], ADD COLUMN results bytea[];
ALTER TABLE host.{q}__settlement_0 SET (toast.autovacuum_enabled = off);
ALTER TABLE host.{q}__settlement_1 SET (toast.autovacuum_enabled = off);
ALTER TABLE host.{q}__settlement_2 SET (toast.autovacuum_enabled = off);
