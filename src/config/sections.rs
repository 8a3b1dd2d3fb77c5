//! The checked form of each section.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::compare::{CompareRule, table_name};
use crate::config::fault::nearest;
use crate::config::keys::{LOG_FORMATS, OTLP_PROTOCOLS};
use crate::config::layers::unknown;
use crate::config::reader::Reader;
use crate::domain::reach::{Declared, Owner, Pattern};
use crate::domain::secret::Secret;
use crate::domain::table::{TableMapping, TableName};

/// Where segue listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// For applications.
    pub sql: String,
    /// For operators.
    pub admin: String,
    /// The file with the token that operators must bring.
    pub admin_token_file: Option<PathBuf>,
    /// Time that open calls are given after SIGTERM.
    pub drain_timeout: Duration,
}

/// What one call may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Rows of one answer.
    pub result_rows_max: u64,
    /// Bytes of one answer.
    pub result_bytes_max: u64,
    /// Bytes of the answers of writes, of all calls together.
    pub answers_memory: u64,
    /// Bytes of one request.
    pub request_bytes_max: usize,
    /// Parameters of one statement.
    pub parameters_max: usize,
    /// Statements of one batch.
    pub batch_statements_max: usize,
    /// Calls at work at once.
    pub calls_max: usize,
    /// Time of a call that brings no deadline.
    pub deadline_default: Duration,
    /// Longest deadline.
    pub deadline_max: Duration,
    /// Statements kept analysed.
    pub statement_cache: usize,
    /// Bytes of rows on their way and of kept answers.
    pub memory: u64,
    /// Bytes of a row past which it is not carried.
    pub row_bytes_max: u64,
}

/// Limits of transactions that span calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transactions {
    /// Open at once.
    pub open_max: usize,
    /// Without a call.
    pub idle_max: Duration,
    /// Since the begin.
    pub total_max: Duration,
}

/// What is migrated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tables {
    /// By name; empty for all with a primary key.
    pub mapped: Vec<TableMapping>,
    /// Left out of 'all'.
    pub excluded: Vec<Excluded>,
    /// Left out as well, and the side that their statements go to.
    pub stay: BTreeMap<Pattern, Owner>,
    /// What functions touch that segue cannot look into.
    pub functions: BTreeMap<TableName, Declared>,
}

/// What is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Excluded {
    /// One table.
    Table(TableName),
    /// All of a schema.
    Schema(String),
}

/// Statements by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queries {
    /// Files, or directories of `*.sql`.
    pub paths: Vec<PathBuf>,
    /// Nothing else is run.
    pub named_only: bool,
}

/// How answers are compared and what is kept of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Compare {
    /// Examples keep their values.
    pub show_values: bool,
    /// Kept in memory.
    pub findings_max: usize,
    /// How often they are added to the fleet's list.
    pub flush_interval: Duration,
    /// In the order of the file.
    pub rules: Vec<CompareRule>,
}

/// How keys are reconciled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbox {
    /// Bytes of pending keys past which they are folded into their tables.
    pub max_bytes: u64,
    /// Of one batch.
    pub deadline: Duration,
    /// Batches at once.
    pub concurrency: usize,
    /// Keys of one batch.
    pub batch_keys_max: usize,
    /// How often due rows are looked for.
    pub poll_interval: Duration,
    /// After the first failure.
    pub backoff_min: Duration,
    /// At most.
    pub backoff_max: Duration,
    /// Failed attempts after which a key counts as stuck.
    pub stuck_after: u32,
    /// How long reconciled rows are kept.
    pub forgotten_window: Duration,
    /// How often it is looked whether capture still stands.
    pub capture_check_interval: Duration,
}

/// What is told, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// Where traces go; nowhere where absent.
    pub otlp_endpoint: Option<String>,
    /// By protobuf over HTTP, rather than gRPC.
    pub otlp_http: bool,
    /// Sent along.
    pub otlp_headers: Vec<(String, Secret)>,
    /// Of one export.
    pub otlp_timeout: Duration,
    /// Of the traces begun here.
    pub sample_ratio: f64,
    /// Name in traces.
    pub service_name: String,
    /// JSON rather than text.
    pub log_json: bool,
    /// Directives of the log filter.
    pub log_level: String,
}

/// What a batch of small rows takes, and as much for samples.
const MEMORY_MIN: u64 = 16 << 20;
/// Smaller rows go with others.
const ROW_BYTES_LEAST: u64 = 16 << 20;
/// A message of the protocol has 1 GiB at most, and a row is not alone in it.
const ROW_BYTES_MAX: u64 = 1000 << 20;

// === impl sections ===

impl Listen {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            sql: reader.address("listen.sql"),
            admin: reader.address("listen.admin"),
            admin_token_file: reader.readable("listen.admin_token_file"),
            drain_timeout: reader.duration("listen.drain_timeout"),
        }
    }
}

impl Limits {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let request_bytes = reader.size("limits.request_bytes_max");
        let limits = Self {
            result_rows_max: reader.count("limits.result_rows_max") as u64,
            result_bytes_max: reader.size("limits.result_bytes_max"),
            answers_memory: reader.size("limits.answers_memory"),
            request_bytes_max: usize::try_from(request_bytes).unwrap_or(usize::MAX),
            parameters_max: reader.count("limits.parameters_max"),
            batch_statements_max: reader.count("limits.batch_statements_max"),
            calls_max: reader.count("limits.calls_max"),
            deadline_default: reader.duration("limits.deadline_default"),
            deadline_max: reader.duration("limits.deadline_max"),
            statement_cache: reader.count("limits.statement_cache"),
            memory: reader.size("limits.memory"),
            row_bytes_max: reader.size("limits.row_bytes_max"),
        };
        if limits.answers_memory < request_bytes {
            reader.fault("limits.answers_memory", "is less than limits.request_bytes_max");
        }
        if limits.memory < MEMORY_MIN {
            reader.fault("limits.memory", "is less than 16MiB, which a batch of small rows takes");
        }
        if limits.row_bytes_max < ROW_BYTES_LEAST {
            let message =
                "is less than 16MiB: rows up to there go with others, and are not measured";
            reader.fault("limits.row_bytes_max", message);
        }
        if limits.row_bytes_max > ROW_BYTES_MAX {
            let message = "is more than 1000MiB, and no message of the protocol has more than 1GiB";
            reader.fault("limits.row_bytes_max", message);
        }
        if limits.deadline_default > limits.deadline_max {
            reader.fault("limits.deadline_default", "is longer than limits.deadline_max");
        }
        limits
    }
}

impl Transactions {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let transactions = Self {
            open_max: reader.count("transactions.open_max"),
            idle_max: reader.duration("transactions.idle_max"),
            total_max: reader.duration("transactions.total_max"),
        };
        if transactions.idle_max > transactions.total_max {
            reader.fault("transactions.idle_max", "is longer than transactions.total_max");
        }
        transactions
    }
}

impl Tables {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut tables = Self::default();
        for text in reader.list("tables.exclude") {
            let excluded = match text.strip_suffix(".*") {
                Some(schema) if !schema.is_empty() => Ok(Excluded::Schema(schema.to_owned())),
                _ => table_name(&text).map(Excluded::Table),
            };
            match excluded {
                Ok(excluded) => tables.excluded.push(excluded),
                Err(message) => reader.fault("tables.exclude", format!("{text:?} {message}")),
            }
        }
        tables.read_owners(reader);
        for raw in reader.tables("tables.map") {
            let mut names = BTreeMap::new();
            for (field, (value, origin)) in &raw.fields {
                let known = ["source", "target"];
                let path = format!("tables.map.{field}");
                if !known.contains(&field.as_str()) {
                    let meant = nearest(field, known.into_iter());
                    reader.fault_at(origin, &path, value, unknown("key", meant));
                }
                match table_name(value) {
                    Ok(name) => drop(names.insert(field.as_str(), name)),
                    Err(message) => reader.fault_at(origin, &path, value, message),
                }
            }
            let present = |field| raw.fields.contains_key(field);
            match (names.remove("source"), names.remove("target")) {
                (Some(source), Some(target)) => tables.mapped.push(TableMapping { source, target }),
                (Some(source), None) if !present("target") => {
                    // The common case: the same place on both sides.
                    tables.mapped.push(TableMapping { target: source.clone(), source });
                }
                _ if !present("source") => {
                    let message = "names no source; write source = \"public.orders\"".to_owned();
                    reader.fault_at(&raw.origin, "tables.map", "", message);
                }
                _ => {}
            }
        }
        tables.refuse_twice(reader);
        tables
    }

    /// Two source tables in one target table would overwrite each other's rows.
    fn refuse_twice(&self, reader: &mut Reader) {
        let mut sources = std::collections::BTreeSet::new();
        let mut targets = std::collections::BTreeSet::new();
        for mapping in &self.mapped {
            if !sources.insert(&mapping.source) {
                reader.fault("tables.map", format!("source {} stands there twice", mapping.source));
            }
            if !targets.insert(&mapping.target) {
                reader.fault("tables.map", format!("target {} stands there twice", mapping.target));
            }
        }
    }
}

impl Queries {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let paths: Vec<PathBuf> = reader.list("queries.paths").iter().map(PathBuf::from).collect();
        for path in &paths {
            if let Err(error) = std::fs::metadata(path) {
                let message = format!("{} cannot be read: {error}", path.display());
                reader.fault("queries.paths", message);
            }
        }
        let named_only = reader.flag("queries.named_only");
        if named_only && paths.is_empty() {
            let message = "nothing could be run: queries.paths names no file";
            reader.fault("queries.named_only", message);
        }
        Self { paths, named_only }
    }
}

impl Compare {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let tables = reader.tables("compare.rules");
        Self {
            show_values: reader.flag("compare.show_values"),
            findings_max: reader.count("compare.findings_max"),
            flush_interval: reader.duration("compare.flush_interval"),
            rules: tables.iter().map(|table| CompareRule::read(reader, table)).collect(),
        }
    }
}

impl Outbox {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let outbox = Self {
            max_bytes: reader.size("outbox.max_bytes"),
            deadline: reader.duration("outbox.deadline"),
            concurrency: reader.count("outbox.concurrency"),
            batch_keys_max: reader.count("outbox.batch_keys_max"),
            poll_interval: reader.duration("outbox.poll_interval"),
            backoff_min: reader.duration("outbox.backoff_min"),
            backoff_max: reader.duration("outbox.backoff_max"),
            stuck_after: u32::try_from(reader.count("outbox.stuck_after")).unwrap_or(u32::MAX),
            forgotten_window: reader.duration("outbox.forgotten_window"),
            capture_check_interval: reader.duration("outbox.capture_check_interval"),
        };
        if outbox.backoff_min > outbox.backoff_max {
            reader.fault("outbox.backoff_min", "is longer than outbox.backoff_max");
        }
        outbox
    }
}

impl Telemetry {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let otlp_endpoint = reader.text("telemetry.otlp_endpoint");
        if let Some(endpoint) = &otlp_endpoint
            && !endpoint.starts_with("http://")
        {
            let message = "is not a URL of plain http; write \"http://localhost:4317\", the \
                           address of a collector beside segue, which may speak TLS to the next";
            reader.fault("telemetry.otlp_endpoint", message);
        }
        let headers = reader.map("telemetry.otlp_headers");
        Self {
            otlp_endpoint,
            otlp_http: reader.choice("telemetry.otlp_protocol", OTLP_PROTOCOLS) == 1,
            otlp_headers: headers.into_iter().map(|(k, v)| (k, Secret::new(v))).collect(),
            otlp_timeout: reader.duration("telemetry.otlp_timeout"),
            sample_ratio: reader.ratio("telemetry.sample_ratio"),
            service_name: reader.text("telemetry.service_name").unwrap_or_default(),
            log_json: reader.choice("telemetry.log_format", LOG_FORMATS) == 1,
            log_level: reader.text("telemetry.log_level").unwrap_or_default(),
        }
    }
}
