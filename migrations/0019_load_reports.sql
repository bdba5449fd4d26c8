-- Purpose: the end of a function that is made anew with other parameters: a host reports all the handlers that it has
--   loaded in one statement.
-- Invariant: no table changes. A host of the version before cannot report what it loads until it is replaced.
-- Locks: none that anybody waits for.
DROP FUNCTION IF EXISTS host.report_loaded(int, int, int, text);
