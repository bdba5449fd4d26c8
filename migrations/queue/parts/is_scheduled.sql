-- Part: whether row s of the schedule is still to be promoted. c is the newest promotion: s is
-- beyond its cursor, or came late behind it, and no cursor before the clock was set back has passed
-- it.
(NOT ((s.due, s.id) <= (c.due, c.schedule_id) AND txid_visible_in_snapshot(s.txid, c.hi)
        OR c.passed_due IS NOT NULL
            AND host.was_passed(s.due, s.id, s.txid, c.passed_due, c.passed_id, c.passed_hi))
    OR s.txid <@ c.late_txids AND (s.txid, s.id) > (c.late_txid, c.late_id))
