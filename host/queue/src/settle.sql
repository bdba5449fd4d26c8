-- One settlement. The positions come as the text of a multirange; what a settlement does not have
-- is NULL. settle.rs groups the parameters in the same way. What it does with them is in
-- migrations/queue/functions/settle.sql.
SELECT host.{q}__settle(
    p_lease => $1, p_session => $2, p_token => $3, p_seq => $4, p_settled => $5::text::int4multirange,
    p_park_pos => $6, p_removed => $7::text::int4multirange,
    p_retry_pos => $8, p_retry_delay_ms => $9, p_retry_entry => $10,
    p_dead_pos => $11, p_dead_reason => $12, p_dead_entry => $13,
    p_follow_up_queue => $14, p_follow_up_payload => $15, p_follow_up_headers => $16, p_follow_up_delay_ms => $17,
    p_follow_up_key => $18, p_follow_up_priority => $19, p_follow_up_unique_key => $20,
    p_result_pos => $21, p_results => $22)
