-- Purpose: cron entries: messages that hosts enqueue at set times.
-- Invariant: a firing's INSERT into the queue and the advance of next_at are one transaction (I2).
-- Locks: none that another session waits for. Tables: host.cron, new.
--
-- An ordinary table: a row is updated at each firing, which is not on any message's way.
SET LOCAL lock_timeout = '5s';

CREATE TABLE host.cron (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE
        CONSTRAINT cron_name_is_lower_case_and_short CHECK (name ~ '^[a-z][a-z0-9_-]{0,39}$'),
    -- Dropping the queue says what becomes of the entry: see host.drop_queue.
    queue_id int NOT NULL REFERENCES host.queue,
    -- Hosts read both; the database knows only the times that follow from them.
    schedule text NOT NULL,
    time_zone text NOT NULL,
    -- What becomes of firings that no host was there for.
    missed text NOT NULL CHECK (missed IN ('skip', 'one', 'all')),
    payload bytea NOT NULL,
    headers jsonb NOT NULL CHECK (jsonb_typeof(headers) = 'object'),
    paused boolean NOT NULL DEFAULT false,
    next_at timestamptz NOT NULL CHECK (isfinite(next_at)),
    -- Why it could not be enqueued when it was due, and when to try again; NULL: nothing is wrong.
    error text,
    retry_at timestamptz,
    fired_at timestamptz,
    -- Messages enqueued, those by hand included.
    messages bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT current_user
);
