-- Purpose: the counters of the server and of the product's tables that a benchmark reports as
--   differences. `log`: the tables of which no row is ever updated or deleted; `control`: all
--   others of the product, which are written when somebody changes something or a host starts or
--   stops. A benchmark's own tables are neither.
-- Locks: none that another session waits for. Tables: the system's statistics.
SELECT clock_timestamp() AS now,
    (pg_current_wal_insert_lsn() - '0/0')::bigint AS wal_bytes,
    (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS commits,
    coalesce(sum(n_tup_upd) FILTER (WHERE is_log), 0)::bigint AS log_updates,
    coalesce(sum(n_tup_del) FILTER (WHERE is_log), 0)::bigint AS log_deletes,
    coalesce(sum(n_dead_tup) FILTER (WHERE is_log), 0)::bigint AS log_dead,
    coalesce(sum(n_tup_upd + n_tup_del) FILTER (WHERE NOT is_log), 0)::bigint AS control_changes,
    coalesce(sum(n_dead_tup) FILTER (WHERE NOT is_log), 0)::bigint AS control_dead,
    coalesce((SELECT n_dead_tup FROM pg_stat_sys_tables WHERE relid = 'pg_class'::regclass), 0)::bigint AS catalog_dead
FROM (
    SELECT *, relname ~ '__(message|lease|settlement|promotion|schedule)_\d+$' OR relname ~ '^heartbeat_\d$' AS is_log
    FROM pg_stat_user_tables WHERE schemaname IN ('host', 'queue') AND relname !~ '__(account|floor|bare)$'
) t
