-- Template: an account of what was leased; refusal of rows that claim the transaction id of
-- another; a cursor of the schedule that can follow a clock that is set back. What was leased
-- before is not known (NULL), so partitions are proven from the next generation on. Nothing is
-- rewritten or scanned.
-- Locks: ACCESS EXCLUSIVE on the leases, the promotions, the schedule and the messages. Tables:
-- these.
ALTER TABLE host.{q}__lease ADD COLUMN leased bigint[];
ALTER TABLE host.{q}__promotion ADD COLUMN passed_due timestamptz[], ADD COLUMN passed_id bigint[],
    ADD COLUMN passed_hi txid_snapshot[];
ALTER TABLE host.{q}__schedule ADD CONSTRAINT txid_is_for_the_database_to_set
    CHECK (txid = txid_current() AND id > 0 OR host.refuse_copied_row(id, txid)) NOT VALID;
ALTER TABLE queue.{q} ADD CONSTRAINT txid_is_for_the_database_to_set
    CHECK (txid = txid_current() AND id > 0 OR host.refuse_copied_row(id, txid)) NOT VALID;
