-- Part: whether lane n has committed messages that its cursor c has not seen. `done` is what is
-- committed in the snapshot `present`, as ranges.
EXISTS (SELECT FROM unnest(done) part CROSS JOIN LATERAL (
        SELECT FROM queue.{q} m
        WHERE m.lane = n.lane AND (m.txid, m.id) > (greatest(lower(part), txid_snapshot_xmax(c.hi)), 0)
            AND m.txid < upper(part) LIMIT 1) m
    WHERE upper(part) > txid_snapshot_xmax(c.hi))
OR EXISTS (SELECT FROM txid_snapshot_xip(c.hi) late CROSS JOIN LATERAL (
        SELECT FROM queue.{q} m WHERE m.lane = n.lane AND m.txid = late LIMIT 1) m
    WHERE txid_visible_in_snapshot(late, present))
