-- Purpose: create a queue with all its settings but limits and unique keys.
-- Locks: those of host.create_queue. Tables: the same.
SELECT host.create_queue(
    p_name => $1,
    p_payload_type => $2,
    p_payload_bytes_max => $3,
    p_max_attempts => $4,
    p_backoff_base_ms => $5,
    p_backoff_cap_ms => $6,
    p_rotate_bytes => $7,
    p_rotate_age_ms => $8,
    p_wake_up => $9,
    p_delays_ms => $10,
    p_keep_ms => $11,
    p_priorities => $12,
    p_ordered_lanes => $13,
    p_keyed_lanes => $14
)
