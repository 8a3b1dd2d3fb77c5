//! The list itself, section by section.

use crate::config::keys::phases::{CONTROL, CUTOVER, GATES, READ_ROUTING, SHIFT};
use crate::config::keys::{Key, Kind, LOG_FORMATS, OTLP_PROTOCOLS, SSL_MODES};

pub(super) const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key { section: "", name, kind, default, meaning }
}

const POOL: Kind = Kind::Count(1, 1_000);
const ANY: Kind = Kind::Count(1, u32::MAX as u64);

const DATABASE: &[Key] = &[
    key(
        "dsn",
        Kind::Dsn,
        "",
        "connection string, as a URL or as `key=value` words; may name several hosts",
    ),
    key(
        "host",
        Kind::Text,
        "",
        "host, hosts separated by commas, or the directory of a unix socket; goes before the `dsn`",
    ),
    key("port", Kind::Text, "", "port or ports; goes before the `dsn`; 5432 where neither says it"),
    key("dbname", Kind::Text, "", "database; goes before the `dsn`"),
    key("user", Kind::Text, "", "role; goes before the `dsn`"),
    key("password", Kind::Secret, "", "password; better in a file"),
    key(
        "password_file",
        Kind::Path,
        "",
        "file whose first line is the password; read at each connect, so that it may be rotated",
    ),
    key(
        "application",
        Kind::Dsn,
        "",
        "login that callers' statements run as, `user=shop_app`, laid over the `dsn`, of which it takes all but the password; segue's own login where absent",
    ),
    key(
        "application_password_file",
        Kind::Path,
        "",
        "file whose first line is the password of `application`; read at each connect, so that it may be rotated",
    ),
    key("passfile", Kind::Path, "", "password file in the format of `.pgpass`"),
    key(
        "sslmode",
        Kind::Choice(SSL_MODES),
        "prefer",
        "as in libpq; never less than what is asked for",
    ),
    key(
        "sslrootcert",
        Kind::Path,
        "",
        "certificates of the authorities that are trusted (PEM), or `system`; `~/.postgresql/root.crt` where absent",
    ),
    key("sslcert", Kind::Path, "", "client certificate (PEM)"),
    key("sslkey", Kind::Path, "", "key of the client certificate (PEM)"),
    key(
        "connect_timeout",
        Kind::Duration,
        "5s",
        "time to open one connection, TLS and login included",
    ),
    key(
        "read_pool_max",
        POOL,
        "16",
        "connections for callers' reads; samples have their own, as many as `sampling.concurrency`, at most 8",
    ),
    key(
        "write_pool_max",
        Kind::Count(2, 1_000),
        "16",
        "connections for callers' writes and transactions; more than `transactions.open_max`",
    ),
    key(
        "own_pool_max",
        POOL,
        "6",
        "connections for reconcile, control and the outbox; no caller ever waits for one of these",
    ),
    key(
        "pool_wait_max",
        Kind::Duration,
        "5s",
        "time that a call waits for a connection before it fails",
    ),
];

const LISTEN: &[Key] = &[
    key("sql", Kind::Address, "127.0.0.1:7400", "where applications call the `Sql` service"),
    key(
        "admin",
        Kind::Address,
        "127.0.0.1:7401",
        "where operators call `Migration`, health and metrics",
    ),
    key(
        "admin_token_file",
        Kind::Path,
        "",
        "file with the bearer token that `Migration` asks for; none is asked for where absent",
    ),
    key("drain_timeout", Kind::Duration, "20s", "time that open calls are given after SIGTERM"),
];

const LIMITS: &[Key] = &[
    key(
        "result_rows_max",
        ANY,
        "1000000",
        "rows of one answer; what passes it fails, it is never cut",
    ),
    key("result_bytes_max", Kind::Size, "256MiB", "bytes of one answer's values"),
    key("request_bytes_max", Kind::Size, "16MiB", "bytes of one request"),
    key("answers_memory", Kind::Size, "256MiB", "bytes that writes return, of all calls together"),
    key("parameters_max", Kind::Count(1, 65_535), "32767", "parameters of one statement"),
    key("batch_statements_max", Kind::Count(1, 100_000), "1000", "statements of one `Batch`"),
    key("calls_max", ANY, "512", "calls at work at once; what is above fails at once and says so"),
    key("deadline_default", Kind::Duration, "30s", "time of a call that brings no deadline"),
    key("deadline_max", Kind::Duration, "10m", "longest deadline that a call may bring"),
    key("statement_cache", ANY, "2048", "analysed statements that are kept"),
    key(
        "memory",
        Kind::Size,
        "64MiB",
        "bytes of rows on their way between the databases and of answers that are kept, all together: reconcile, backfill and verify wait for their share, samples have half of it at most and are dropped where there is none",
    ),
    key(
        "row_bytes_max",
        Kind::Size,
        "1000MiB",
        "bytes of a row past which it is not carried, and its key is stuck; a row larger than `memory` goes alone and takes three times its size",
    ),
];

const TRANSACTIONS: &[Key] = &[
    key(
        "open_max",
        POOL,
        "12",
        "transactions open at once; each has a connection of the write pool, and the rest of the pool is for other writes; further ones wait `pool_wait_max`",
    ),
    key(
        "idle_max",
        Kind::Duration,
        "30s",
        "time without a call after which a transaction is rolled back",
    ),
    key(
        "total_max",
        Kind::Duration,
        "5m",
        "time since its begin after which a transaction is rolled back",
    ),
];

const TABLES: &[Key] = &[
    key("exclude", Kind::List, "", "tables that are not migrated, `schema.table` or `schema.*`"),
    key(
        "stay",
        Kind::Map,
        "",
        "tables that are not migrated, and where their statements go in every phase: `schema.table` or `schema.*` = `source`, `target` or `primary`",
    ),
    key(
        "functions",
        Kind::Map,
        "",
        "what functions touch that segue cannot look into: `schema.function` = `migrated`, `source`, `target` or `primary`",
    ),
    key(
        "map",
        Kind::Tables,
        "",
        "tables by name, each with `source` and `target` as `schema.table`; all with a primary key where absent",
    ),
];

const QUERIES: &[Key] = &[
    key("paths", Kind::List, "", "files of named statements, or directories of `*.sql`"),
    key("named_only", Kind::Bool, "false", "run named statements only"),
];

const SAMPLING: &[Key] = &[
    key("rate", Kind::Ratio, "0.1", "share of the reads that is compared, by trace"),
    key("statements", Kind::Map, "", "shares of statements by name or fingerprint, `name = 0.5`"),
    key(
        "functions_allowed",
        Kind::List,
        "clock_timestamp,gen_random_uuid,pg_sleep,random,random_normal,timeofday,uuidv4,uuidv7",
        "functions that samples and shifted reads may call more than once for one call, though a catalogue calls them volatile: built-in ones by name, others as `schema.name`",
    ),
    key(
        "concurrency",
        POOL,
        "4",
        "samples compared at once; what comes on top is dropped and counted",
    ),
    key("deadline", Kind::Duration, "5s", "time of one sample on the shadow"),
    key("answer_bytes_max", Kind::Size, "4MiB", "larger answers are not compared"),
    key(
        "memory_bytes_max",
        Kind::Size,
        "64MiB",
        "bytes of all answers that are kept for comparing; what does not fit is dropped and counted",
    ),
    key("look_again_after", Kind::Duration, "1s", "pause before a difference is compared again"),
    key(
        "pending_wait_max",
        Kind::Duration,
        "30s",
        "time that a difference may wait for the outbox before it is `pending`",
    ),
];

const COMPARE: &[Key] = &[
    key(
        "show_values",
        Kind::Bool,
        "false",
        "keep values in the examples of `segue mismatches`; they are redacted otherwise",
    ),
    key(
        "findings_max",
        ANY,
        "1000",
        "findings kept in memory; further ones are counted as dropped",
    ),
    key("flush_interval", Kind::Duration, "2s", "how often findings are added to the fleet's list"),
    key("rules", Kind::Tables, "", "rules for statements, tables or columns; see below"),
];

const OUTBOX: &[Key] = &[
    key(
        "max_bytes",
        Kind::Size,
        "1GiB",
        "bytes of pending keys past which tables are tracked by ranges, or as a whole",
    ),
    key("deadline", Kind::Duration, "5s", "time of one batch of keys"),
    key(
        "concurrency",
        Kind::Count(1, 64),
        "2",
        "batches at work at once; each takes one connection of the own pool on both sides",
    ),
    key("batch_keys_max", Kind::Count(1, 10_000), "500", "keys of one batch"),
    key(
        "poll_interval",
        Kind::Duration,
        "1s",
        "how often due rows are looked for when nothing wakes the reconciler",
    ),
    key("backoff_min", Kind::Duration, "200ms", "pause after the first failure of a key"),
    key("backoff_max", Kind::Duration, "1m", "longest pause between two attempts"),
    key(
        "stuck_after",
        Kind::Count(1, 1_000),
        "8",
        "failed attempts after which a key counts as stuck",
    ),
    key(
        "forgotten_window",
        Kind::Duration,
        "1h",
        "time that reconciled rows are kept, for a side that loses commits in a failover",
    ),
    key(
        "capture_check_interval",
        Kind::Duration,
        "30s",
        "how often it is looked whether every table and partition is captured, and mended",
    ),
];

const TELEMETRY: &[Key] = &[
    key(
        "otlp_endpoint",
        Kind::Text,
        "",
        "where traces are sent, `http://host:4317` (gRPC) or `http://host:4318/v1/traces` (HTTP); none where absent",
    ),
    key("otlp_protocol", Kind::Choice(OTLP_PROTOCOLS), "grpc", "how traces are sent"),
    key(
        "otlp_headers",
        Kind::SecretMap,
        "",
        "headers sent along, for collectors that ask for a token",
    ),
    key(
        "otlp_timeout",
        Kind::Duration,
        "5s",
        "time of one export, and of the last one at shutdown",
    ),
    key(
        "sample_ratio",
        Kind::Ratio,
        "1",
        "share of the traces begun here that is recorded; a caller's decision goes before it",
    ),
    key("service_name", Kind::Text, "segue", "name in traces"),
    key("log_format", Kind::Choice(LOG_FORMATS), "text", "form of the log lines"),
    key(
        "log_level",
        Kind::Text,
        "info",
        "`error` to `trace`, or directives such as `info,segue::jobs=debug`",
    ),
];

const BACKFILL: &[Key] = &[
    key(
        "chunk_rows",
        Kind::Count(1, 10_000_000),
        "10000",
        "rows of one chunk; fewer where rows are wide, so that its stream stays below about 64 MiB",
    ),
    key("workers", Kind::Count(1, 256), "4", "chunks that one process copies at once"),
    key(
        "max_rows_per_s",
        Kind::Count(0, u32::MAX as u64),
        "0",
        "ceiling of one process in rows a second; 0 for none",
    ),
    key(
        "max_mb_per_s",
        Kind::Count(0, 1_000_000),
        "0",
        "ceiling of one process in megabytes a second; 0 for none",
    ),
    key(
        "source_latency_max",
        Kind::Duration,
        "100ms",
        "time of a small statement on the source above which the copy slows down",
    ),
    key(
        "outbox_age_max",
        Kind::Duration,
        "30s",
        "age of the oldest key that is due in the outbox above which the copy slows down",
    ),
    key(
        "target_latency_max",
        Kind::Duration,
        "500ms",
        "time of a small commit on the target above which the copy slows down",
    ),
    key(
        "lease",
        Kind::Duration,
        "30s",
        "how long a process may be silent before others take over its chunks",
    ),
];

const VERIFY: &[Key] = &[
    key(
        "sweep",
        Kind::Bool,
        "true",
        "the sidecar that leads verifies in the background, as `segue verify --continuous` does",
    ),
    key("load", Kind::Ratio, "0.1", "share of the time in which the sweep reads and looks"),
    key("again_after", Kind::Duration, "1d", "when a chunk that no one wrote to is read again"),
];

/// The sections, in the order of the documentation.
pub(super) const SECTIONS: &[(&str, &[Key])] = &[
    ("source", DATABASE),
    ("target", DATABASE),
    ("listen", LISTEN),
    ("limits", LIMITS),
    ("transactions", TRANSACTIONS),
    ("tables", TABLES),
    ("queries", QUERIES),
    ("sampling", SAMPLING),
    ("compare", COMPARE),
    ("outbox", OUTBOX),
    ("telemetry", TELEMETRY),
    ("control", CONTROL),
    ("backfill", BACKFILL),
    ("read_routing", READ_ROUTING),
    ("shift", SHIFT),
    ("gates", GATES),
    ("cutover", CUTOVER),
    ("verify", VERIFY),
];
