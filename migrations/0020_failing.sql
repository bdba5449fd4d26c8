-- Purpose: what fails of each handler, as hosts report it, for host status and host doctor.
-- Invariant: an ordinary table of few rows; no message, lease or settlement depends on it.
-- Locks: none that another session waits for. Tables: host.failing (new).

CREATE TABLE host.failing (
    session_id int NOT NULL,
    handler_id int NOT NULL,
    version int NOT NULL,
    -- Of the last five minutes before the report.
    calls bigint NOT NULL,
    failed bigint NOT NULL,
    dead bigint NOT NULL,
    error text NOT NULL,
    reported_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session_id, handler_id)
);
