-- Purpose: an account of what was leased, for the proof before a partition is truncated; refusal of rows
--   that claim the transaction id of another. queue/migrations has the half of each queue.
-- Locks: none that another session waits for. Tables: host.leaf_count.

-- The count of a leaf's messages, made by who truncates it: all rows of its first `blocks` blocks. It
-- stands as long as the leaf gets no row that `hi` does not see. Not a message's: rows are updated.
CREATE TABLE host.leaf_count (
    queue_id int NOT NULL,
    leaf int NOT NULL,
    hi txid_snapshot NOT NULL,
    blocks bigint NOT NULL,
    messages bigint NOT NULL,
    -- Of these, how many some handler has never leased; NULL: none, as far as is known.
    missed bigint,
    PRIMARY KEY (queue_id, leaf)
);

-- functions/restore.sql has the text that counts.
CREATE FUNCTION host.refuse_copied_row(p_id bigint, p_txid bigint) RETURNS boolean
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS 'SELECT false';
GRANT EXECUTE ON FUNCTION host.refuse_copied_row TO PUBLIC;
