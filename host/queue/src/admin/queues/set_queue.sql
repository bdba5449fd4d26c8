-- Purpose: change settings of a queue that exists. NULL leaves one as it is.
-- Locks: those of host.set_queue. Tables: the same.
SELECT host.set_queue(
    p_queue => $1,
    p_max_attempts => $2,
    p_backoff_base_ms => $3,
    p_backoff_cap_ms => $4,
    p_delays_ms => $5,
    p_payload_bytes_max => $6,
    p_rotate_bytes => $7,
    p_rotate_age_ms => $8
)
