-- Template: headers may be JSON's null, which is no headers: what mappers write for a field that is
-- left out. Nothing is rewritten or scanned. Locks: ACCESS EXCLUSIVE on the messages. Tables:
-- these. NOT VALID: the rows that are there were let in by a stricter rule.
ALTER TABLE queue.{q} DROP CONSTRAINT headers_is_an_object, ADD CONSTRAINT headers_is_an_object
    CHECK (jsonb_typeof(headers) IN ('object', 'null')) NOT VALID;
