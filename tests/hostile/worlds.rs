//! The rows of the matrix. None asks for more than an administrator may set.

/// What somebody may have set.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    /// In which of the worlds it takes part: settings of one name exclude one another.
    pub world: usize,
    /// SQL of a superuser before anything of the product is there. `{owner}` owns the database
    /// `{db}`.
    pub before: &'static str,
    /// As in ALTER DATABASE … SET.
    pub settings: &'static [&'static str],
}

const fn row(name: &'static str, world: usize, settings: &'static [&'static str]) -> Row {
    Row { name, world, before: "", settings }
}

/// The rows of a world.
pub fn world(number: usize) -> Vec<&'static Row> {
    ROWS.iter().filter(|row| row.world == number).collect()
}

pub const ROWS: &[Row] = &[
    row("strings with backslashes", 0, &["standard_conforming_strings = off", "backslash_quote = off", "escape_string_warning = on"]),
    row("dates as in Germany", 0, &["DateStyle = 'German, DMY'", "IntervalStyle = 'sql_standard'"]),
    row("dates as in SQL", 1, &["DateStyle = 'SQL, DMY'", "IntervalStyle = 'postgres_verbose'"]),
    row("dates as in old Postgres", 2, &["DateStyle = 'Postgres, MDY'", "IntervalStyle = 'iso_8601'"]),
    row("a time zone with quarters", 0, &["TimeZone = 'Pacific/Chatham'"]),
    row("a time zone behind UTC", 1, &["TimeZone = 'America/St_Johns'"]),
    row("bytes and floats as text", 0, &["bytea_output = 'escape'", "extra_float_digits = -15", "xmlbinary = 'hex'"]),
    row("an encoding for clients", 1, &["client_encoding = 'LATIN1'", "client_min_messages = 'error'"]),
    row("chatty", 2, &["client_min_messages = 'debug1'", "log_statement = 'none'"]),
    row("repeatable read", 0, &["default_transaction_isolation = 'repeatable read'"]),
    row("serializable", 1, &["default_transaction_isolation = 'serializable'", "default_transaction_deferrable = on"]),
    row("impatient", 2, &["statement_timeout = '20s'", "lock_timeout = '2s'", "idle_in_transaction_session_timeout = '500ms'", "idle_session_timeout = '1s'"]),
    row("no search path", 0, &["search_path = ''"]),
    Row {
        name: "a search path that leads astray",
        world: 1,
        before: "CREATE SCHEMA astray;
            CREATE FUNCTION astray.lost() RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''astray''; END';
            CREATE FUNCTION astray.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT astray.lost()::timestamptz';
            CREATE FUNCTION astray.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql AS 'SELECT astray.lost()';
            CREATE FUNCTION astray.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT astray.lost()::timestamptz';
            CREATE FUNCTION astray.txid_current() RETURNS bigint LANGUAGE sql AS 'SELECT astray.lost()::bigint';
            CREATE FUNCTION astray.to_regclass(text) RETURNS regclass LANGUAGE sql AS 'SELECT astray.lost()::regclass';
            CREATE FUNCTION astray.octet_length(text) RETURNS int LANGUAGE sql AS 'SELECT astray.lost()::int';
            CREATE FUNCTION astray.jsonb_typeof(jsonb) RETURNS text LANGUAGE sql AS 'SELECT astray.lost()';
            CREATE FUNCTION astray.pg_backend_pid() RETURNS int LANGUAGE sql AS 'SELECT astray.lost()::int';
            CREATE FUNCTION astray.equal(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT astray.lost()::boolean';
            CREATE OPERATOR astray.= (LEFTARG = text, RIGHTARG = text, FUNCTION = astray.equal);
            CREATE FUNCTION astray.equal(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT astray.lost()::boolean';
            CREATE OPERATOR astray.= (LEFTARG = int, RIGHTARG = int, FUNCTION = astray.equal);
            CREATE TABLE astray.pg_class ();
            CREATE TABLE astray.pg_roles ();
            GRANT USAGE ON SCHEMA astray TO PUBLIC",
        settings: &["search_path = astray, pg_catalog, public"],
    },
    Row {
        name: "functions that are not for everybody",
        world: 0,
        before: "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} REVOKE ALL ON FUNCTIONS FROM PUBLIC;
            ALTER DEFAULT PRIVILEGES FOR ROLE {owner} REVOKE ALL ON TYPES FROM PUBLIC;
            REVOKE ALL ON DATABASE {db} FROM PUBLIC; GRANT CONNECT ON DATABASE {db} TO PUBLIC;
            REVOKE ALL ON SCHEMA public FROM PUBLIC",
        settings: &[],
    },
    Row {
        name: "everything for everybody",
        world: 1,
        before: "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT ALL ON TABLES TO PUBLIC;
            ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT ALL ON SEQUENCES TO PUBLIC;
            ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT ALL ON SCHEMAS TO PUBLIC",
        settings: &[],
    },
    row("triggers for replicas", 2, &["session_replication_role = 'replica'"]),
    row("no row security", 0, &["row_security = off"]),
    row("a planner without tools", 0, &[
        "enable_indexscan = off", "enable_indexonlyscan = off", "enable_bitmapscan = off", "enable_hashjoin = off", "enable_sort = off",
        "enable_partition_pruning = off", "plan_cache_mode = 'force_generic_plan'", "work_mem = '64kB'",
    ]),
    row("a planner that is eager", 1, &[
        "jit_above_cost = 0", "jit_inline_above_cost = 0", "jit_optimize_above_cost = 0", "force_parallel_mode = on",
        "parallel_setup_cost = 0", "min_parallel_table_scan_size = 0", "enable_nestloop = off", "plan_cache_mode = 'force_custom_plan'",
    ]),
    row("a strict PL/pgSQL", 2, &[
        "plpgsql.extra_errors = 'all'", "plpgsql.extra_warnings = 'all'", "plpgsql.variable_conflict = 'error'", "plpgsql.print_strict_params = on",
    ]),
    row("a PL/pgSQL that prefers columns", 0, &["plpgsql.variable_conflict = 'use_column'"]),
    row("nulls and names", 1, &["transform_null_equals = on", "array_nulls = off", "quote_all_identifiers = on", "check_function_bodies = off"]),
    row("little durability, no statistics", 2, &["synchronous_commit = off", "track_activities = off", "track_counts = off", "stats_fetch_consistency = 'snapshot'"]),
    Row {
        name: "tables of another kind",
        world: 2,
        before: "CREATE ACCESS METHOD heap_too TYPE TABLE HANDLER heap_tableam_handler",
        settings: &["default_table_access_method = 'heap_too'", "default_toast_compression = 'pglz'", "default_statistics_target = 1"],
    },
];
