-- Template: settlements say how many of their messages only went to the schedule. Nothing is
-- rewritten or scanned.
-- Locks: ACCESS EXCLUSIVE on the settlements. Tables: these.
ALTER TABLE host.{q}__settlement ADD COLUMN parked int;
