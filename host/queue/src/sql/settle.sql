-- One settlement. The positions come as the text of a multirange; what a settlement does not have
-- is NULL.
SELECT host.{q}__settle(
    p_lease => $1, p_session => $2, p_token => $3, p_seq => $4, p_settled => $5::text::int4multirange,
    p_retry_pos => $6, p_retry_delay_ms => $7, p_retry_entry => $8,
    p_park_pos => $9,
    p_dead_pos => $10, p_dead_reason => $11, p_dead_entry => $12,
    p_follow_up_queue => $13, p_follow_up_payload => $14, p_follow_up_headers => $15, p_follow_up_delay_ms => $16,
    p_removed => $17::text::int4multirange,
    p_result_pos => $18, p_results => $19,
    p_follow_up_key => $20, p_follow_up_priority => $21, p_follow_up_unique_key => $22)
