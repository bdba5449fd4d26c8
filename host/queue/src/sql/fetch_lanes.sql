-- The messages of the leases that the session gave the numbers from $2 on, up to $4 of them. As
-- fetch.sql, with the number.
SELECT pos, id, enqueued_at, attempt, state,
    CASE WHEN state IS NULL THEN headers END AS headers,
    CASE WHEN state IS NULL THEN payload END AS payload, seq
FROM (
    SELECT coalesce(r.pos, r.ordinality::int - 1) AS pos, id, enqueued_at, attempt, headers, payload, seq,
        CASE WHEN handler_id <> $3 THEN 'not ours'
        WHEN id IN (SELECT c.message_id FROM host.cancellation c WHERE c.handler_id = $3) THEN 'removed'
        WHEN expires_at <= statement_timestamp() THEN 'expired' WHEN run_at > statement_timestamp() THEN 'early' END AS state
    FROM generate_series($2::bigint, $2::bigint + $4::int - 1) seq
    CROSS JOIN LATERAL host.{q}__rows($1, seq) WITH ORDINALITY r
) m
