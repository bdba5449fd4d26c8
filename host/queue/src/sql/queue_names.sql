-- Purpose: which queues to look at. Tables: host.queue.
SELECT name FROM host.queue ORDER BY name
