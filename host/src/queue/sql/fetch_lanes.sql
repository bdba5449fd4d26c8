-- The messages of the leases that the session gave the numbers from $2 on, up to $4 of them. As fetch.sql, with the number.
SELECT pos, id, enqueued_at, attempt, state, handler_id,
    CASE WHEN state IS NULL THEN headers END AS headers,
    CASE WHEN state IS NULL THEN payload END AS payload, seq
FROM (
    SELECT r.*, seq, CASE WHEN r.id IN (SELECT c.message_id FROM host.cancellation c WHERE c.handler_id = $3) THEN 'removed'
        WHEN r.expires_at <= clock_timestamp() THEN 'expired' WHEN r.run_at > clock_timestamp() THEN 'early' END AS state
    FROM generate_series($2::bigint, $2::bigint + $4::int - 1) seq CROSS JOIN LATERAL host.{q}__read($1, seq) r
) m
