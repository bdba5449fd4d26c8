-- Purpose: what a benchmark's complete account says. It has the deliveries of the whole run. Of the
--   leases from $1 on, it has the time of the first, and when and how many positions were settled
--   by $2.
-- Locks: none that another session waits for. Tables: the queue's account.
SELECT coalesce(sum(delivered), 0)::bigint AS delivered, coalesce(sum(sum), 0)::text AS sum,
    coalesce(sum(sum_of_squares), 0)::text AS sum_of_squares,
    min(leased_at) FILTER (WHERE leased_at >= $1) AS first_leased,
    max(settled_at) FILTER (WHERE leased_at >= $1 AND settled_at <= $2) AS last_settled,
    coalesce(sum(settled) FILTER (WHERE leased_at >= $1 AND settled_at <= $2), 0)::bigint AS settled,
    count(*) FILTER (WHERE leased_at >= $1 AND settled_at <= $2) AS leases
FROM host.{q}__account
