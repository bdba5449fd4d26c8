-- Purpose: whether the handler `default` of a benchmark's queue has anything left: waiting, in
--   flight, or on the schedule and due within the hour. Counted as far as 1000.
-- Locks: none that another session waits for. Tables: the queue's.
SELECT b.waiting + b.in_flight + (
    SELECT count(*) FROM (
        SELECT FROM host.{q}__schedule s CROSS JOIN (SELECT * FROM host.{q}__promotion ORDER BY id DESC LIMIT 1) c
        WHERE ((s.due, s.id) > (c.due, c.schedule_id) OR NOT txid_visible_in_snapshot(s.txid, c.hi))
            AND s.due < clock_timestamp() + interval '1 hour' LIMIT 1000) s)
FROM host.{q}__backlog(
    (SELECT id FROM host.handler WHERE queue_id = {queue_id} AND name = 'default'), 1000) b
