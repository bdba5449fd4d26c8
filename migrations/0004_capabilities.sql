-- Purpose: what a deployment grants its guests beyond messages: HTTP requests and secrets by name.
-- Invariant: a value of host.secret is read by hosts and by nobody else; what lists secrets leaves it out.
-- Locks: ACCESS EXCLUSIVE on host.handler_version, for as long as it takes to note new columns.
-- Tables: host.handler_version, host.secret (new).
SET LOCAL lock_timeout = '5s';

ALTER TABLE host.handler_version
    -- As `host deploy --http` takes them.
    ADD COLUMN http text[] NOT NULL DEFAULT '{}',
    ADD COLUMN secrets text[] NOT NULL DEFAULT '{}',
    ADD COLUMN http_requests int NOT NULL DEFAULT 100,
    ADD COLUMN http_bytes bigint NOT NULL DEFAULT 16 << 20;

CREATE TABLE host.secret (
    name text PRIMARY KEY,
    value text NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now(),
    set_by text NOT NULL DEFAULT current_user
);
COMMENT ON COLUMN host.secret.value IS 'For hosts alone: grant no other role SELECT on it.';

-- They get further arguments and columns, which CREATE OR REPLACE refuses.
DROP FUNCTION IF EXISTS host.deploy(text, text, text, jsonb, text, int, bigint, bigint, bigint, bigint, int, bigint);
DROP FUNCTION IF EXISTS host.handlers();
