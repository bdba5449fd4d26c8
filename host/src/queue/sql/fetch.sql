-- The messages of a lease, by the session's id and the number that it chose for the lease.
-- What does not run now (not due yet, or another handler's retry) comes without its payload.
SELECT pos, id, enqueued_at, attempt, early, handler_id,
    CASE WHEN NOT early THEN headers END AS headers,
    CASE WHEN NOT early THEN payload END AS payload
FROM (SELECT *, coalesce(run_at > clock_timestamp(), false) AS early FROM host.{q}__read($1, $2)) m
