-- Purpose: no duration of a queue is so long that a time plus it is none, and no delay is negative.
-- Invariant: whatever overflows is refused where it is set, not where a message meets it.
-- Locks: ACCESS EXCLUSIVE on host.queue, whose few rows are looked at. Tables: host.queue.

-- What was set before is brought to the nearest that can be: hosts stood still at it.
UPDATE host.queue SET
    keep_ms = least(keep_ms, 315360000000),
    rotate_age_ms = least(rotate_age_ms, 31536000000),
    delays_ms = (SELECT array_agg(greatest(0, least(d.ms, 31536000000)) ORDER BY d.n)
        FROM unnest(delays_ms) WITH ORDINALITY d (ms, n))
    WHERE keep_ms > 315360000000 OR rotate_age_ms > 31536000000
        OR 0 > ANY (delays_ms) OR 31536000000 < ANY (delays_ms);

ALTER TABLE host.queue
    DROP CONSTRAINT keep_is_a_time,
    ADD CONSTRAINT keep_is_at_most_10_years CHECK (keep_ms BETWEEN 1 AND 315360000000),
    ADD CONSTRAINT rotate_age_is_at_most_a_year CHECK (rotate_age_ms <= 31536000000),
    ADD CONSTRAINT delays_are_at_most_a_year CHECK (0 <= ALL (delays_ms) AND 31536000000 >= ALL (delays_ms));

-- It returns the id of the last message.
DROP FUNCTION IF EXISTS host.cron_enqueue(int, timestamptz[]);
