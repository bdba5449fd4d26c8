-- Takes over a stray lease.
SELECT lease_id, row_count, more, gone FROM host.{q}__take_over(
    p_lease => $1, p_session => $2, p_seq => $3, p_token => $4, p_n => $5, p_deaths_max => $6)
