-- A host reports all that it has loaded in one statement: the function has arrays now.
DROP FUNCTION IF EXISTS host.report_loaded(int, int, int, text);
