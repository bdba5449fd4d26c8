-- Ends a lease that keeps its lane's order, and leaves what is not settled of it.
SELECT host.{q}__hand_on(
    p_lease => $1, p_session => $2, p_token => $3, p_pos => $4, p_delay_ms => $5, p_entry => $6)
