-- Part: the bytes of message m in a host's memory, its payload and headers. What is compressed is
-- not looked into, and counts as the largest.
CASE WHEN pg_column_compression(m.payload) IS NULL
    THEN pg_column_size(m.payload) ELSE {payload_bytes_max} END
+ CASE WHEN m.headers IS NULL THEN 0
    WHEN pg_column_compression(m.headers) IS NULL THEN pg_column_size(m.headers) ELSE {headers_bytes_max} END
