-- One settlement. The positions come as the text of a multirange; what a settlement does not have is NULL.
SELECT host.{q}__settle($1, $2, $3, $4, $5::text::int4multirange,
    $6, $7, $8,
    $9,
    $10, $11, $12,
    $13, $14, $15, $16,
    $17::text::int4multirange,
    $18, $19,
    $20, $21, $22)
