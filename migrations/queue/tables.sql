-- Template: the tables of one queue. {q} is its name, {payload} the type of its payload,
-- {payload_bytes_max} the limit; {lanes?…} is only for a queue with lanes, {plain?…} only for one
-- without (see host.render). Run once, by host.create_queue.
--
-- A generation is a turn of the rotation. Every id here carries its generation,
--     id = generation * 10^11 + n,
-- and every log is PARTITION BY LIST ((id / 10^11) % 3): moving on to the next leaf is a setval,
-- and the identity does all the routing. A generation's messages, leases, settlements and
-- promotions are truncated together. Autovacuum is off: nothing is ever updated or deleted here
-- (I3).

-- Messages. Producers INSERT payload, headers, run_at, expires_at, priority, key and unique_key;
-- the rest is the system's.
CREATE TABLE queue.{q} (
    id bigint GENERATED ALWAYS AS IDENTITY,
    -- The transaction that inserted the row: what the windows of a lease are cut by.
    txid bigint NOT NULL DEFAULT txid_current(),
    enqueued_at timestamptz NOT NULL DEFAULT now(),
    -- Not before then. NULL: at once.
    run_at timestamptz
        CONSTRAINT run_at_is_finite CHECK (isfinite(run_at))
        -- IS NULL first: the sum is the dearest of all checks, and most have nothing to compare
        -- with it.
        CONSTRAINT run_at_is_within_30_years CHECK (run_at IS NULL OR run_at < enqueued_at + interval '30 years'),
    -- A message that was inserted again: the id it had first. Handlers see coalesce(origin, id).
    origin bigint,
    -- Meant for this handler only (a retry); NULL: for all of the queue's.
    handler_id int,
    -- The attempt that this row is for, from 1.
    attempt smallint NOT NULL DEFAULT 1,
    headers jsonb
        -- JSON's null is no headers: mappers write it for what is left out.
        CONSTRAINT headers_is_an_object CHECK (jsonb_typeof(headers) IN ('object', 'null'))
        CONSTRAINT headers_are_at_most_65536_bytes CHECK (octet_length(headers::text) <= {headers_bytes_max}),
    -- One entry per failed attempt.
    history jsonb,
    payload {payload} NOT NULL
        CONSTRAINT payload_is_at_most_{payload_bytes_max}_bytes CHECK ({payload_check}),
    -- From then on a dead letter, not run. NULL: never.
    expires_at timestamptz
        CONSTRAINT expires_at_is_finite CHECK (isfinite(expires_at)),
    -- Only for producers to give: where it is taken, a trigger puts it in the register and leaves
    -- NULL here.
    unique_key text
        CONSTRAINT unique_key_is_for_queues_that_are_set_to_take_it CHECK (unique_key IS NULL),
    -- 1 is high, 3 is low; NULL: normal, which is 2.
    priority smallint
        {priorities?CONSTRAINT priority_is_1_to_3 CHECK (priority BETWEEN 1 AND 3)}{no_priorities?CONSTRAINT queue_has_no_priorities CHECK (priority IS NULL)},
    -- Messages of one key {ordered?run one at a time, in order of commit}{unordered?have the limits
    -- of one lane}.
    key text
        {keys?CONSTRAINT key_is_1_to_255_bytes CHECK (octet_length(key) BETWEEN 1 AND 255)}{no_keys?CONSTRAINT queue_takes_no_key CHECK (key IS NULL)}{lanes?,
    -- The strand of the queue that it belongs to: each has a cursor of its own.
    lane smallint GENERATED ALWAYS AS ({lane_of}) STORED}
) PARTITION BY LIST ((id / {generation_size} % 3));

-- Uncompressed, so that its size in the table is its size in a host's memory. (What comes
-- compressed from another table stays so; a lease counts that as the largest that it can be.)
ALTER TABLE queue.{q} ALTER COLUMN payload SET STORAGE EXTERNAL;

CREATE TABLE host.{q}__message_0 PARTITION OF queue.{q} FOR VALUES IN (0) WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off);
CREATE TABLE host.{q}__message_1 PARTITION OF queue.{q} FOR VALUES IN (1) WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off);
CREATE TABLE host.{q}__message_2 PARTITION OF queue.{q} FOR VALUES IN (2) WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off);
-- A cursor has passed the transaction ids of the past: a row that claims one would never run. NOT
-- VALID, so that a dump restores its rows before it restores this.
ALTER TABLE queue.{q} ADD CONSTRAINT txid_is_for_the_database_to_set
    CHECK (txid = txid_current() AND id > 0 OR host.refuse_copied_row(id, txid)) NOT VALID;
CREATE INDEX {q}__message_window ON queue.{q} ({lanes?lane, }txid, id);
{ordered?-- The order within a window.
CREATE INDEX ON queue.{q} (lane, id);}

-- The lease log. The newest row of a handler and lane that has `is_cursor` is its cursor:
-- everything up to (to_txid, to_id) of the window `txids` has been leased, and `more` says whether
-- the window has rows beyond. A row with row_count 0 is a cursor only.
CREATE TABLE host.{q}__lease (
    id bigint GENERATED ALWAYS AS IDENTITY,
    -- Chosen by the client, so that it can ask for the rows before it knows the lease's id.
    seq bigint NOT NULL,
    leased_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The rows: the first row_count of the window's after (from_txid, from_id). A frozen set;
    -- a row's place in it, from 0, is its position.
    from_txid bigint NOT NULL,
    from_id bigint NOT NULL,
    to_txid bigint NOT NULL,
    to_id bigint NOT NULL,
    handler_id int NOT NULL,
    session_id int NOT NULL,
    row_count int NOT NULL,
    -- Which leaves hold the rows: bit n for leaf n.
    leaves smallint NOT NULL,
    -- How many hosts have died with these messages in flight.
    deaths smallint NOT NULL DEFAULT 0,
    is_cursor boolean NOT NULL,
    more boolean NOT NULL,
    -- Fences a zombie that holds the number of a lease which was never written.
    token uuid NOT NULL,
    -- Up to where the log has been cut into windows.
    hi txid_snapshot NOT NULL,
    -- The transactions of the window: committed in hi, not in the hi before.
    txids int8multirange NOT NULL,
    -- The positions that are still to do, of a lease that was taken over; NULL: all.
    positions int4multirange,
    -- Whose messages they are; a queue without lanes has the one, 0.
    lane smallint NOT NULL DEFAULT 0,
    -- What follows is only for queues that keep an order: from_txid and to_txid are 0 there. The
    -- last of the window.
    last_id bigint,
    -- Not before then, and not the session's (0) but anybody's: the lane is held.
    due timestamptz,
    -- Of the first of the positions, if it is tried again.
    attempt smallint,
    history jsonb,
    -- On a queue with limits (see functions/limits.sql), else NULL.
    tat timestamptz,
    held bigint[],
    -- How many messages of each leaf the handler has leased in this lane since the leaf's
    -- generation began, in rows that are a cursor. An element that is NULL: not known.
    leased bigint[]
) PARTITION BY LIST ((id / {generation_size} % 3));

-- The settlement log. A lease is open until it has a row with rest 0. (lease_id, seq) is unique:
-- settle and take_over both go through it, so that exactly one of them wins.
CREATE TABLE host.{q}__settlement (
    lease_id bigint NOT NULL,
    seq int NOT NULL,
    -- Positions that are not settled yet, after this.
    rest int NOT NULL,
    settled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Ended by take_over, not by its own session.
    revoked boolean NOT NULL DEFAULT false,
    -- The positions settled by this.
    settled int4multirange NOT NULL,
    -- Of these: removed by an operator; NULL: none.
    removed int4multirange,
    -- Of these: acked with a result, and the results in the same order; NULL: none.
    result_pos int[],
    results bytea[],
    -- Of one that was taken over: what the lease that goes on with it is called by its session.
    heir_session int,
    heir_seq bigint,
    -- How many of these were not due yet, and went to the schedule; NULL: none.
    parked int
) PARTITION BY LIST ((lease_id / {generation_size} % 3));

-- The promotion log: how far the schedule has been promoted into the queue. The newest row counts.
CREATE TABLE host.{q}__promotion (
    id bigint GENERATED ALWAYS AS IDENTITY,
    -- Promoted: all rows visible in hi that are due up to (due, schedule_id), but for what follows.
    due timestamptz NOT NULL,
    schedule_id bigint NOT NULL,
    hi txid_snapshot NOT NULL,
    -- Rows that came late, behind the cursor: of these transactions, those after (late_txid,
    -- late_id) are still to be looked at. Empty when done.
    late_txids int8multirange NOT NULL,
    late_txid bigint NOT NULL,
    late_id bigint NOT NULL,
    -- Cursors from which the database's clock was set back: what each has passed is promoted,
    -- although it is due again. NULL: none that is still ahead of the clock.
    passed_due timestamptz[],
    passed_id bigint[],
    passed_hi txid_snapshot[],
    -- How many messages were promoted from each bucket of the schedule since it was truncated. An
    -- element that is NULL: not known.
    promoted bigint[]
) PARTITION BY LIST ((id / {generation_size} % 3));

DO $$
BEGIN
    FOR leaf IN 0..2 LOOP
        EXECUTE format('CREATE TABLE host.{q}__lease_%1$s PARTITION OF host.{q}__lease FOR VALUES IN (%1$s) WITH (autovacuum_enabled = off)', leaf);
        EXECUTE format('CREATE UNIQUE INDEX ON host.{q}__lease_%s (id)', leaf);
        EXECUTE format('CREATE UNIQUE INDEX ON host.{q}__lease_%s (session_id, seq)', leaf);
        EXECUTE format('CREATE INDEX ON host.{q}__lease_%s (handler_id, {lanes?lane, }id) WHERE is_cursor', leaf);
        {ordered?EXECUTE format('CREATE INDEX ON host.{q}__lease_%s (handler_id, lane, id)'
            ' WHERE row_count > 0 AND (session_id <> 0 OR due IS NOT NULL)', leaf);}
        {keyed?-- For a lane whose limits are new.
        EXECUTE format('CREATE INDEX ON host.{q}__lease_%s (handler_id, lane, id) WHERE row_count > 0', leaf);}
        EXECUTE format('CREATE TABLE host.{q}__settlement_%1$s PARTITION OF host.{q}__settlement FOR VALUES IN (%1$s)'
            ' WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off)', leaf);
        EXECUTE format('CREATE UNIQUE INDEX ON host.{q}__settlement_%s (lease_id, seq)', leaf);
        EXECUTE format('CREATE TABLE host.{q}__promotion_%1$s PARTITION OF host.{q}__promotion FOR VALUES IN (%1$s) WITH (autovacuum_enabled = off)', leaf);
        EXECUTE format('CREATE UNIQUE INDEX ON host.{q}__promotion_%s (id)', leaf);
    END LOOP;
END $$;

INSERT INTO host.{q}__promotion (due, schedule_id, hi, late_txids, late_txid, late_id, promoted)
VALUES ('-infinity', 0, '1:1:', '{}', 0, 0, array_fill(0::bigint, ARRAY[21]));

-- The schedule: messages that are not due yet. Partitioned by due time in levels of growing width
-- (see host.slot): a row stays where it was put until it is due, and its leaf is truncated when
-- its time is over.
CREATE TABLE host.{q}__schedule (
    id bigint GENERATED ALWAYS AS IDENTITY,
    due timestamptz NOT NULL,
    txid bigint NOT NULL DEFAULT txid_current(),
    origin bigint NOT NULL,
    enqueued_at timestamptz NOT NULL,
    handler_id int,
    slot smallint NOT NULL,
    attempt smallint NOT NULL,
    headers jsonb,
    history jsonb,
    payload {payload} NOT NULL,
    expires_at timestamptz,
    priority smallint,
    key text
) PARTITION BY LIST (slot);
ALTER TABLE host.{q}__schedule ALTER COLUMN payload SET STORAGE EXTERNAL;
DO $$
BEGIN
    FOR slot IN 0..20 LOOP
        EXECUTE format('CREATE TABLE host.{q}__schedule_%1$s PARTITION OF host.{q}__schedule FOR VALUES IN (%1$s)'
            ' WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off)', slot);
    END LOOP;
END $$;
-- As of messages. After the leaves: of one that is made later, it would be valid, and restored
-- before the rows.
ALTER TABLE host.{q}__schedule ADD CONSTRAINT txid_is_for_the_database_to_set
    CHECK (txid = txid_current() AND id > 0 OR host.refuse_copied_row(id, txid)) NOT VALID;
CREATE INDEX {q}__schedule_due ON host.{q}__schedule (due, id);
CREATE INDEX {q}__schedule_late ON host.{q}__schedule (txid, id);

-- Messages that were given up on, for an operator to look at, retry or purge. An ordinary table.
CREATE TABLE host.{q}__dead_letter (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id bigint NOT NULL,
    enqueued_at timestamptz NOT NULL,
    died_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    handler_id int NOT NULL,
    attempt smallint NOT NULL,
    reason text NOT NULL,
    error text NOT NULL,
    headers jsonb,
    history jsonb,
    payload {payload} NOT NULL,
    priority smallint,
    key text
);
CREATE INDEX ON host.{q}__dead_letter (message_id);

-- The register of unique keys that are taken, by which message. An ordinary table; empty unless the
-- queue takes keys.
CREATE TABLE host.{q}__unique (
    key text PRIMARY KEY,
    message_id bigint NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The handlers that are done with the message.
    settled_by int[] NOT NULL DEFAULT '{}'
);
CREATE INDEX ON host.{q}__unique (message_id);
CREATE INDEX ON host.{q}__unique (taken_at) WHERE settled_by <> '{}';

-- 1 while a host sleeps and wants a NOTIFY. A sequence: seen at once by everybody, and no dead
-- rows.
CREATE SEQUENCE host.{q}__asleep MINVALUE 0 MAXVALUE 1 START 0;
