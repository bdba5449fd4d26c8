-- A lease of the queue's only lane. What it does is in migrations/queue/functions/lease.sql.
SELECT lease_id, row_count, more, wait_ms, full_up FROM host.{q}__lease(
    p_handler => $1, p_session => $2, p_seq => $3, p_token => $4, p_n => $5, p_bytes => $6)
