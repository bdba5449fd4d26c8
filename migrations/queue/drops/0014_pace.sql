-- Template: the function of a queue that gets other results in version 14. Locks: none that another
-- session waits for. Tables: none.
DROP FUNCTION IF EXISTS host.{q}__backlog(int, int);
