-- Template: an account of what was promoted. Nothing is rewritten or scanned.
-- Locks: ACCESS EXCLUSIVE on the promotions. Tables: these.
ALTER TABLE host.{q}__promotion ADD COLUMN promoted bigint[];
