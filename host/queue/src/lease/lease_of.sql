-- A lease of the first of some lanes that has messages. The parameters are those of lease.sql, and
-- the lanes.
SELECT lease_id, row_count, more, wait_ms, full_up FROM host.{q}__lease_of(
    p_lanes => $7, p_handler => $1, p_session => $2, p_seq => $3, p_token => $4, p_n => $5, p_bytes => $6)
