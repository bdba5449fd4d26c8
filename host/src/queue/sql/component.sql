-- Purpose: the bytes of an uploaded component, by its SHA-256 in hexadecimal.
-- Locks: none that another session waits for. Tables: host.component.
SELECT wasm FROM host.component WHERE sha256 = $1
