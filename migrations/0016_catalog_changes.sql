-- Purpose: a change of the catalog waits for no other transaction, and a heartbeat says what of its host is late.
-- Invariant: every committed change raises the catalog's version, which is host.catalog's plus one for each row of
--   host.catalog_change.
-- Locks: ACCESS EXCLUSIVE on host.heartbeat; nothing is rewritten or scanned. Tables: host.heartbeat,
--   host.catalog_change.

-- One row for each change that is not counted in host.catalog yet. Hosts add them up there from time to time.
CREATE TABLE host.catalog_change (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    changed_at timestamptz NOT NULL DEFAULT now()
);

-- The loop of the host that is overdue, and by how much; NULL: none is.
ALTER TABLE host.heartbeat ADD COLUMN late text;

-- They get another argument, or another column. On a new database there are none yet.
DROP FUNCTION IF EXISTS host.beat(int, bigint);
DROP FUNCTION IF EXISTS host.sessions();
