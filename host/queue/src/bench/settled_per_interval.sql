-- Purpose: the positions settled in each interval of $2 seconds from $1 to $3, from the account of
--   a benchmark's queue. An interval without any has no row.
-- Locks: none that another session waits for. Tables: the queue's account.
SELECT floor(extract(epoch FROM settled_at - $1)::float8 / $2)::int AS interval, sum(settled)::bigint AS settled
FROM host.{q}__account WHERE settled_at >= $1 AND settled_at < $3
GROUP BY 1 ORDER BY 1
