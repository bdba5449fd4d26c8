-- Template: what the lease log notes for limits, and who has taken a lease over. Nothing is
-- rewritten or scanned.
-- Locks: ACCESS EXCLUSIVE on the leases and the settlements. Tables: these.
ALTER TABLE host.{q}__lease ADD COLUMN tat timestamptz, ADD COLUMN held bigint[];
ALTER TABLE host.{q}__settlement ADD COLUMN heir_session int, ADD COLUMN heir_seq bigint;
