-- Part: how many messages of lease l no settlement has, as its newest settlement says. NULL: it has
-- no settlement. One probe of one leaf, whose number is spelled out for that.
(SELECT t.rest FROM host.{q}__settlement t
    WHERE t.lease_id = l.id AND t.lease_id / {generation_size} % 3 = l.id / {generation_size} % 3
    ORDER BY t.seq DESC LIMIT 1)
