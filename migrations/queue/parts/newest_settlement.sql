-- Part: reads the newest settlement of lease p_lease into s.
SELECT * INTO s FROM host.{q}__settlement t WHERE t.lease_id = p_lease ORDER BY t.seq DESC LIMIT 1;
