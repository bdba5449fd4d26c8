-- Purpose: all that hosts need to know of queues and handlers, as one JSON document. One statement,
--   so that it is one moment's picture.
-- Locks: none that another session waits for. Tables: host.catalog, host.catalog_change,
--   host.queue, host.handler, host.handler_version, host.cancellation.
SELECT jsonb_build_object(
    'version', host.catalog_version(),
    'sessions_ended', (SELECT count(*) FROM host.session s WHERE s.ended_at IS NOT NULL),
    'queues', coalesce((SELECT jsonb_agg(jsonb_build_object(
            'id', q.id,
            'name', q.name,
            'payload_type', q.payload_type,
            'payload_bytes_max', q.payload_bytes_max,
            'max_attempts', q.max_attempts,
            'backoff_base_ms', q.backoff_base_ms,
            'backoff_cap_ms', q.backoff_cap_ms,
            'delays_ms', q.delays_ms,
            'rotate_bytes', q.rotate_bytes,
            'rotate_age_ms', q.rotate_age_ms,
            'wake_up', q.wake_up,
            'priorities', q.priorities,
            'ordered_lanes', q.ordered_lanes,
            'keyed_lanes', q.keyed_lanes,
            'keep_ms', q.keep_ms,
            'paused', q.paused,
            'unique_ms', q.unique_ms,
            'on_duplicate', q.on_duplicate,
            'fleet_concurrency', q.fleet_concurrency,
            'rate_count', q.rate_count,
            'rate_ms', q.rate_ms,
            'rate_burst', q.rate_burst
        ) ORDER BY q.name) FROM host.queue q), '[]'),
    'deployments', coalesce((SELECT jsonb_agg(jsonb_build_object(
            'handler', h.id,
            'queue', h.queue_id,
            'name', h.name,
            'version', v.version,
            'sha256', v.sha256,
            'config', v.config,
            'isolation', v.isolation,
            'concurrency', v.concurrency,
            'memory_bytes', v.memory_bytes,
            'timeout_ms', v.timeout_ms,
            'cpu_ms', v.cpu_ms,
            'log_bytes', v.log_bytes,
            'follow_ups', v.follow_ups,
            'follow_up_bytes', v.follow_up_bytes,
            'http', v.http,
            'secrets', v.secrets,
            'http_requests', v.http_requests,
            'http_bytes', v.http_bytes,
            'batch_size', v.batch_size
        ) ORDER BY h.id)
        FROM host.handler h JOIN host.handler_version v ON v.handler_id = h.id AND v.version = h.version), '[]'),
    'told', coalesce((SELECT jsonb_agg(jsonb_build_object(
            'handler', h.id,
            'paused', h.paused,
            'cancelled', ARRAY(SELECT c.message_id FROM host.cancellation c WHERE c.handler_id = h.id)
        )) FROM host.handler h
        WHERE h.paused OR EXISTS (SELECT FROM host.cancellation c WHERE c.handler_id = h.id)), '[]')
)
