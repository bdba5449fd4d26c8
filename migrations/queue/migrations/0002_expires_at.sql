-- Template: deadlines of messages. Nothing is rewritten or scanned. Locks: ACCESS EXCLUSIVE on the
-- schedule and the messages. Tables: these.
ALTER TABLE host.{q}__schedule ADD COLUMN expires_at timestamptz;
-- NOT VALID: rows that are there have none to check.
ALTER TABLE queue.{q} ADD COLUMN expires_at timestamptz,
    ADD CONSTRAINT expires_at_is_finite CHECK (isfinite(expires_at)) NOT VALID;
