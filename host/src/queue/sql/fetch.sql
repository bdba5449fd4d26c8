-- The messages of a lease, by the session's id and the number that it chose for the lease.
-- What does not run now (not due yet, another handler's retry, past its deadline, or removed by an operator)
-- comes without its payload.
SELECT pos, id, enqueued_at, attempt, state, handler_id,
    CASE WHEN state IS NULL THEN headers END AS headers,
    CASE WHEN state IS NULL THEN payload END AS payload
FROM (
    SELECT *, CASE WHEN id IN (SELECT c.message_id FROM host.cancellation c WHERE c.handler_id = $3) THEN 'removed'
        WHEN expires_at <= clock_timestamp() THEN 'expired' WHEN run_at > clock_timestamp() THEN 'early' END AS state
    FROM host.{q}__read($1, $2)
) m
