-- Purpose: the size of an uploaded component ($1: its SHA-256 in hexadecimal), and its bytes,
--   unless they are more than $2: then nothing of them is read.
-- Locks: none that another session waits for. Tables: host.component.
SELECT octet_length(wasm)::bigint, CASE WHEN octet_length(wasm) <= $2::bigint THEN wasm END
FROM host.component WHERE sha256 = $1
