-- A lease of each of several lanes. What a row has, the kind of queue says.
SELECT * FROM host.{q}__lease_lanes(
    p_handler => $1, p_session => $2, p_seq => $3, p_token => $4, p_n => $5, p_bytes => $6,
    p_first => $7, p_lanes => $8, p_deaths_max => $9)
