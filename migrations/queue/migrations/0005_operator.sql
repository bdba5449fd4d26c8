-- Template: which messages of a settlement an operator has removed. Nothing is rewritten or
-- scanned. Locks: ACCESS EXCLUSIVE on the settlements. Tables: these.
ALTER TABLE host.{q}__settlement ADD COLUMN removed int4multirange;
