-- Purpose: a disturbance: a dump that takes long. It holds a snapshot and reads every table of the
-- queue.
-- Locks: ACCESS SHARE on the tables of the queue {q} and their leaves. Tables: the queue's.
SET idle_in_transaction_session_timeout = 0;
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
LOCK TABLE queue.{q}, host.{q}__lease, host.{q}__settlement, host.{q}__promotion, host.{q}__schedule
    IN ACCESS SHARE MODE;
SELECT pg_current_snapshot();
