-- Purpose: what every queue's tables are like, as one digest for each, in one look at the catalog.
-- Tables: host.queue and the catalog's. Locks: none that another session waits for.
SELECT q.name,
    CASE WHEN q.priorities THEN 'priorities' WHEN q.ordered_lanes IS NOT NULL THEN 'ordered'
        WHEN q.keyed_lanes IS NOT NULL THEN 'keyed' ELSE 'plain' END AS lanes,
    coalesce(s.has_history, false) OR q.keep_ms IS NOT NULL AS history,
    q.unique_ms IS NOT NULL AS takes_keys,
    coalesce(s.digest, '') AS digest
FROM host.queue q LEFT JOIN (
    SELECT s.queue, bool_or(s.part = 'history') AS has_history,
        encode(sha256(convert_to(string_agg(s.line || E'\n', '' ORDER BY s.line COLLATE "C"), 'UTF8')), 'hex') AS digest
    FROM host.shape() s GROUP BY s.queue) s ON s.queue = q.name
ORDER BY q.name
