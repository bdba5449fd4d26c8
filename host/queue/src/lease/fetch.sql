-- The messages of a lease, by the session's id and the number that it chose for the lease. Or, in
-- {lanes?…}, of the leases that it numbered from $2 on, up to $4 of them, each row with its number.
-- What does not run now (not due yet, another handler's retry, past its deadline, or removed by an
-- operator) comes without its payload. The statement begins after the lease's, so what that took
-- for due is due here.
SELECT pos, id, enqueued_at, attempt, state,
    CASE WHEN state IS NULL THEN headers END AS headers,
    CASE WHEN state IS NULL THEN payload END AS payload{lanes?, seq}
FROM (
    SELECT coalesce(r.pos, r.ordinality::int - 1) AS pos, id, enqueued_at, attempt, headers, payload,{lanes? seq,}
        CASE WHEN handler_id <> $3 THEN 'not ours'
        WHEN id IN (SELECT c.message_id FROM host.cancellation c WHERE c.handler_id = $3) THEN 'removed'
        WHEN expires_at <= statement_timestamp() THEN 'expired' WHEN run_at > statement_timestamp() THEN 'not due' END AS state
    FROM {plain?host.{q}__rows($1, $2)}{lanes?generate_series($2::bigint, $2::bigint + $4::int - 1) seq
    CROSS JOIN LATERAL host.{q}__rows($1, seq)} WITH ORDINALITY r
) m
