//! What operators see and do, with the real command: a target that is away too long, keys that are
//! stuck, and the calls of the admin listener.

// Helpers outside of test functions may fail as tests do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub
)]

mod ledger;
mod support;

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ledger::calls::{int, statement, text};
use ledger::{Ledger, Load, SOURCE_SCHEMA, TARGET_SCHEMA, holds};
use segue::grpc::proto;
use segue::grpc::proto::migration_client::MigrationClient;
use segue::grpc::proto::sql_client::SqlClient;
use serde_json::Value;
use support::{Durability, Major, Options, Pair, Segue, Server, eventually};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

const LIMIT: Duration = Duration::from_secs(120);

fn channel(address: String) -> Channel {
    Endpoint::from_shared(address).unwrap().connect_lazy()
}

fn status(segue: &Segue) -> Value {
    serde_json::from_str(&segue.succeed(&["status", "--json"])).unwrap()
}

async fn until(segue: &Segue, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    until_within(LIMIT, segue, what, holds).await
}

async fn until_within(
    limit: Duration,
    segue: &Segue,
    what: &str,
    holds: impl Fn(&Value) -> bool,
) -> Value {
    eventually(what, limit, || async {
        let now = status(segue);
        holds(&now).then_some(now)
    })
    .await
}

/// The target is away until what waits passes the limit several times over. Nothing ends: the tables
/// are pending as ranges, and when the target is back everything is equal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_away_too_long_ends_no_copy_and_callers_do_not_notice() {
    let options = || Options { durability: Durability::Fsync, ..Options::default() };
    let source = Server::start(Major::V15, &options());
    let target = Server::start(Major::V18, &options());
    let pair = Pair::within(&source, &target, SOURCE_SCHEMA, TARGET_SCHEMA).await;
    let segue = Segue::serving(&pair, "dual_write", "[outbox]\nmax_bytes = \"1MiB\"").await;
    let ledger = Arc::new(Ledger::default());
    let load = Load::statements(&ledger, &[segue.sql_address()]);
    load.acknowledged(200).await;
    let well = status(&segue);
    assert_eq!(well["phase"], "dual_write");

    target.stop_immediate();
    load.acknowledged(200).await;
    // Somebody else's rows as well, so that a slow machine comes to the limit, too.
    pair.source
        .run("INSERT INTO account (id, version) SELECT n, 0 FROM generate_series(10000, 24999) AS n; \
              DELETE FROM account WHERE id BETWEEN 20000 AND 24999")
        .await;
    let whole = until(&segue, "a table is pending as ranges, and the limit holds", |it| {
        it["outbox"]["folded"].as_array().is_some_and(|tables| !tables.is_empty())
            && it["outbox"]["pending_bytes"].as_u64().unwrap() < 1 << 20
    })
    .await;
    assert_eq!((&whole["phase"], &whole["epoch"]), (&well["phase"], &well["epoch"]));
    let warned = whole["warnings"].to_string();
    assert!(warned.contains("ranges of its key") && warned.contains("account"), "{warned}");
    load.acknowledged(300).await;

    target.restart();
    load.acknowledged(100).await;
    load.stop().await;
    until(&segue, "everything is reconciled", |it| {
        it["outbox"]["pending"] == 0 && it["outbox"]["folded"].as_array().is_some_and(Vec::is_empty)
    })
    .await;
    let (_, unknown, refused) = ledger.totals();
    assert_eq!((unknown, refused), (0, 0), "a caller noticed");
    let at_end = status(&segue);
    assert_eq!((&at_end["phase"], &at_end["epoch"]), (&well["phase"], &well["epoch"]));
    assert_eq!(at_end["writes"]["failed"].as_u64(), Some(0), "{at_end:#}");
    let rows = "SELECT count(*) FROM account WHERE id BETWEEN 10000 AND 24999";
    assert_eq!(pair.source.rows(rows).await, ["10000"]);
    assert_eq!(pair.target.rows(rows).await, ["10000"]);
    // The ledger knows only what went through segue.
    for database in [&pair.source, &pair.target] {
        let own = "SET session_replication_role = replica; \
            DELETE FROM account WHERE id BETWEEN 10000 AND 24999";
        database.run(own).await;
    }
    holds("source", &pair.source, &ledger).await;
    holds("target", &pair.target, &ledger).await;
}

const BATCH_LIMIT: Duration = Duration::from_secs(3600);

/// Rows that one statement changes while the target is away: `make bench-batch` takes five million.
fn batch_rows() -> u64 {
    let rows = std::env::var("SEGUE_BATCH_ROWS").ok().and_then(|rows| rows.parse().ok());
    rows.unwrap_or(100_000)
}

/// One statement changes all rows of a large table while the target is away, many times more than
/// the limit has room for. Capture stands all the time, the other table is followed key by key, and
/// when the target is back everything is equal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_very_many_rows_in_one_statement_ends_nothing() {
    const TABLES: &str = "CREATE TABLE big (id int PRIMARY KEY, v int NOT NULL); \
        CREATE TABLE other (id int PRIMARY KEY, v int NOT NULL)";
    let rows = batch_rows();
    // The same rows on both sides, as after a backfill.
    let fill =
        format!("{TABLES}; INSERT INTO big SELECT n, 0 FROM generate_series(1, {rows}) AS n");
    let options = || Options { durability: Durability::Fsync, ..Options::default() };
    let (source, target) =
        (Server::start(Major::V15, &options()), Server::start(Major::V18, &options()));
    let pair = Pair::within(&source, &target, &fill, &fill).await;
    let begun = Instant::now();
    pair.source.run("UPDATE big SET v = 0").await;
    let plain = begun.elapsed();
    pair.source.run("VACUUM big").await;
    let segue = Segue::serving(&pair, "dual_write", "[outbox]\nmax_bytes = \"4MiB\"").await;
    let well = status(&segue);
    target.stop_immediate();
    let begun = Instant::now();
    pair.source.run("UPDATE big SET v = 1").await;
    let captured = begun.elapsed();
    println!("{rows} rows: UPDATE alone {plain:?}, captured {captured:?}");
    pair.source.run("DELETE FROM big WHERE id <= 1000").await;
    pair.source.run("INSERT INTO other SELECT n, 0 FROM generate_series(1, 100) AS n").await;
    let largest = AtomicU64::new(0);
    let whole = until_within(BATCH_LIMIT, &segue, "the table is pending as ranges", |it| {
        largest.fetch_max(it["outbox"]["bytes"].as_u64().unwrap_or(0), Ordering::Relaxed);
        // Both figures are of their own time.
        it["outbox"]["folded"][0]["keys"].as_u64().is_some_and(|keys| keys > rows)
            && it["outbox"]["pending_bytes"].as_u64().is_some_and(|bytes| bytes < 4 << 20)
    })
    .await;
    println!("{rows} rows: written and folded within {:?}", begun.elapsed());
    let outbox = &whole["outbox"];
    assert_eq!(outbox["folded"].as_array().unwrap().len(), 1, "{outbox:#}");
    assert_eq!(outbox["folded"][0]["table"], "public.big");
    assert!(outbox["pending"].as_u64().unwrap() >= 100, "the other table is followed by key");
    target.restart();
    let begun = Instant::now();
    until_within(BATCH_LIMIT, &segue, "everything is reconciled", |it| {
        it["outbox"]["pending"] == 0
    })
    .await;
    println!(
        "made equal within {:?}; the outbox had {} MiB at most, the sidecar took {} MiB at most",
        begun.elapsed(),
        largest.load(Ordering::Relaxed) >> 20,
        segue.memory_peak_kb() >> 10
    );
    let sum = "SELECT count(*), sum(v) FROM big UNION ALL SELECT count(*), sum(v) FROM other";
    assert_eq!(pair.target.rows(sum).await, pair.source.rows(sum).await);
    let at_end = status(&segue);
    assert_eq!((&at_end["phase"], &at_end["epoch"]), (&well["phase"], &well["epoch"]));
    assert_eq!(at_end["outbox"]["folded"].as_array().map(Vec::len), Some(0), "{at_end:#}");
    let gaps = "SELECT capture_gaps FROM segue.outbox_state";
    assert_eq!(pair.source.rows(gaps).await, ["0"]);
    let told: Vec<String> = pair
        .source
        .rows("SELECT reason FROM segue.history WHERE kind = 'outbox' ORDER BY at")
        .await;
    assert!(told[0].starts_with("public.big is pending as ranges of its key"), "{told:?}");
    assert!(told.last().unwrap().contains("is pending key by key again"), "{told:?}");
}

const NOTES: &str = "CREATE TABLE note (id int PRIMARY KEY, body text NOT NULL)";
/// Too narrow for what the source takes.
const NARROW_NOTES: &str = "CREATE TABLE note (id int8 PRIMARY KEY, body varchar(10) NOT NULL)";
const TOO_LONG: &str = "26 characters are too many for character varying(10)";
/// A key that failed is not tried again by itself while a test runs.
const ONE_TRY: &str =
    "[outbox]\nstuck_after = 1\nbackoff_min = \"1h\"\nbackoff_max = \"1h\"\n[sampling]\nrate = 0.5";

/// One key is stuck, the others have gone.
async fn with_a_stuck_key() -> (Pair, Segue) {
    let pair = Pair::fresh(NOTES, NARROW_NOTES).await;
    let segue = Segue::serving(&pair, "dual_write", ONE_TRY).await;
    note(&segue, 1, "longer than ten characters").await;
    until(&segue, "a key is stuck", |it| it["outbox"]["stuck"] == 1).await;
    for id in 2..=30 {
        note(&segue, id, "short").await;
    }
    until(&segue, "the others have gone", |it| it["outbox"]["pending"] == 1).await;
    (pair, segue)
}

async fn note(segue: &Segue, id: i64, body: &str) {
    const INSERT: &str = "INSERT INTO note (id, body) VALUES ($1, $2)";
    let mut sql = SqlClient::new(channel(segue.sql_address()));
    let statement = Some(statement(INSERT, vec![int(id), text(body)]));
    let request = proto::ExecuteRequest { statement, ..proto::ExecuteRequest::default() };
    sql.execute(request).await.unwrap();
}

/// The target's tables are not looked at again within a second: a replay that comes as quickly
/// after their repair as a test's may find them as they were, and is asked for again.
async fn nothing_waits_after_replay(pair: &Pair, segue: &Segue) {
    let now = eventually("nothing waits", LIMIT, || async {
        let now = status(segue);
        if now["outbox"]["pending"] != 0 {
            segue.succeed(&["outbox", "retry"]);
            return None;
        }
        Some(now)
    })
    .await;
    assert_eq!(now["outbox"]["stuck"], 0, "{now:#}");
    assert_eq!(now["warnings"], serde_json::json!([]), "{now:#}");
    let notes = "SELECT id::int8, body FROM note ORDER BY id";
    assert_eq!(pair.target.rows(notes).await, pair.source.rows(notes).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_key_is_shown_with_its_reason_and_goes_when_it_is_replayed() {
    let (pair, segue) = with_a_stuck_key().await;
    let copied = "SELECT count(*), min(id) FROM note";
    assert_eq!(pair.target.rows(copied).await, ["29|2"], "the others were to go on");

    let now = status(&segue);
    assert_eq!(now["outbox"]["stuck"], 1, "{now:#}");
    let warnings = now["warnings"].to_string();
    assert!(warnings.contains("1 keys are stuck: see `segue outbox --stuck`"), "{warnings}");
    let page = segue.succeed(&["outbox", "--stuck"]);
    assert!(page.contains("public.note"), "{page}");
    assert!(page.contains("stuck: ") && page.contains(TOO_LONG), "{page}");
    let listed: Value =
        serde_json::from_str(&segue.succeed(&["outbox", "--stuck", "--json"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed:#}");
    assert_eq!(listed[0]["key"], serde_json::json!(["1"]));

    pair.target.run("ALTER TABLE note ALTER body TYPE text").await;
    assert_eq!(segue.succeed(&["outbox", "retry"]), "1 row made due now\n");
    nothing_waits_after_replay(&pair, &segue).await;
    assert_eq!(segue.succeed(&["outbox", "--stuck"]), "nothing has failed\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_calls_are_answered_by_the_real_command() {
    let (pair, segue) = with_a_stuck_key().await;
    let mut operators = MigrationClient::new(channel(segue.admin_address()));

    let request = proto::ListOutboxRequest { failed_only: true, ..Default::default() };
    let entries = operators.list_outbox(request).await.unwrap().into_inner().entries;
    assert_eq!(entries.len(), 1, "{entries:?}");
    let entry = &entries[0];
    assert_eq!((entry.table.as_str(), entry.stuck, entry.attempts), ("public.note", true, 1));
    assert_eq!(entry.key, ["1"]);
    assert!(entry.last_error.contains(TOO_LONG), "{entry:?}");
    assert!(entry.created_at.is_some() && entry.next_attempt_at.is_some(), "{entry:?}");

    for (table, code) in [("note", Code::InvalidArgument), ("public.nothing", Code::NotFound)] {
        let request = proto::RetryOutboxRequest { table: table.to_owned() };
        assert_eq!(operators.retry_outbox(request).await.unwrap_err().code(), code, "{table}");
    }
    pair.target.run("ALTER TABLE note ALTER body TYPE text").await;
    let request = proto::RetryOutboxRequest { table: "public.note".to_owned() };
    assert_eq!(operators.retry_outbox(request).await.unwrap().into_inner().made_due, 1);
    nothing_waits_after_replay(&pair, &segue).await;

    let request = proto::SetSamplingRequest { rate: 1.5 };
    let refused = operators.set_sampling(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    for (rate, previous) in [(0.25, 0.5), (0.0, 0.25)] {
        let request = proto::SetSamplingRequest { rate };
        let answer = operators.set_sampling(request).await.unwrap().into_inner();
        assert!((answer.previous_rate - previous).abs() < 1e-9, "{answer:?}");
        let now = operators.get_status(proto::GetStatusRequest {}).await.unwrap().into_inner();
        let now = now.status.unwrap();
        assert!((now.sampling.unwrap().rate - rate).abs() < 1e-9);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watching_goes_on_until_sigterm_ends_it() {
    let pair = Pair::fresh(NOTES, NOTES).await;
    let mut segue = Segue::serving(&pair, "dual_write", "").await;
    let mut operators = MigrationClient::new(channel(segue.admin_address()));
    let request = proto::WatchStatusRequest {
        interval: Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 }),
    };
    let mut watched = operators.watch_status(request).await.unwrap().into_inner();
    let mut look = async || watched.message().await.unwrap().unwrap().status.unwrap();
    let first = look().await;
    note(&segue, 1, "short").await;
    // What was done meanwhile is in a later answer.
    let mut next = look().await;
    while next.writes.unwrap().total == 0 {
        next = look().await;
    }
    assert_eq!((first.phase(), next.phase()), (proto::Phase::DualWrite, proto::Phase::DualWrite));
    let at = |status: &proto::Status| status.at.map(|at| (at.seconds, at.nanos));
    assert!(at(&first) < at(&next), "{first:?} {next:?}");

    let rest = async {
        // It ends as a stream that is over does, not with an error.
        while watched.message().await.unwrap().is_some() {}
    };
    let (ended_well, ()) = tokio::join!(segue.terminate(), rest);
    assert!(ended_well, "{}", segue.logs());
}

/// A command that goes on, and the lines that it prints.
fn started(segue: &Segue, arguments: &[&str]) -> (Child, UnboundedReceiver<String>) {
    let mut command = segue.start_piped(arguments);
    let output = BufReader::new(command.stdout.take().unwrap());
    let (told, lines) = unbounded_channel();
    std::thread::spawn(move || {
        output.lines().map_while(Result::ok).try_for_each(|line| told.send(line))
    });
    (command, lines)
}

async fn line(lines: &mut UnboundedReceiver<String>) -> String {
    tokio::time::timeout(LIMIT, lines.recv()).await.unwrap().expect("the command goes on")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_that_watches_shows_what_happens_until_the_sidecar_ends() {
    let pair = Pair::fresh(NOTES, NOTES).await;
    let mut segue = Segue::serving(&pair, "dual_write", "").await;
    let (mut pages, mut page_lines) = started(&segue, &["status", "--watch"]);
    let (mut documents, mut lines) = started(&segue, &["status", "--watch", "--json"]);
    let first: Value = serde_json::from_str(&line(&mut lines).await).unwrap();
    assert_eq!(first["phase"], "dual_write");
    assert_eq!(first["writes"]["total"], 0);
    while line(&mut page_lines).await != "          no writes yet" {}
    note(&segue, 1, "short").await;
    let written =
        |document: &str| serde_json::from_str::<Value>(document).unwrap()["writes"]["total"] == 1;
    while !written(&line(&mut lines).await) {}
    while !line(&mut page_lines).await.starts_with("          1 write, none failed") {}
    assert!(segue.terminate().await, "{}", segue.logs());
    // The stream is over, and that is no failure.
    for command in [&mut pages, &mut documents] {
        let command = std::cell::RefCell::new(command);
        let ended = async || command.borrow_mut().try_wait().unwrap();
        assert!(eventually("the command ends", LIMIT, ended).await.success());
    }
}

async fn reflected(address: String) -> Vec<String> {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel(address));
    let asked = futures_util::stream::iter([ask]);
    let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    list.service.into_iter().map(|service| service.name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_listeners_tell_their_health_and_their_services() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;

    let pair = Pair::fresh(NOTES, NOTES).await;
    let segue = Segue::serving(&pair, "source_only", "").await;
    for (address, service) in
        [(segue.sql_address(), "segue.v1.Sql"), (segue.admin_address(), "segue.v1.Migration")]
    {
        let mut health = HealthClient::new(channel(address.clone()));
        eventually(&format!("{address} serves"), LIMIT, || {
            let mut health = health.clone();
            async move {
                let answer = health.check(HealthCheckRequest::default()).await.ok()?;
                (answer.into_inner().status() == ServingStatus::Serving).then_some(())
            }
        })
        .await;
        let request = HealthCheckRequest { service: "segue.v1.Nothing".to_owned() };
        assert_eq!(health.check(request).await.unwrap_err().code(), Code::NotFound, "{address}");
        let services = reflected(address).await;
        assert!(services.iter().any(|it| it == service), "{services:?}");
        assert!(services.iter().any(|it| it == "grpc.health.v1.Health"), "{services:?}");
    }
}

/// All pages of a list, two entries each; `between` runs after the first of them.
async fn all_pages<T>(
    mut page: impl AsyncFnMut(String) -> (Vec<T>, String),
    between: impl Future<Output = ()>,
) -> Vec<T> {
    let (mut found, mut token) = page(String::new()).await;
    between.await;
    while !token.is_empty() {
        let (more, next) = page(token).await;
        assert!(more.len() <= 2, "a page is no longer than asked for");
        found.extend(more);
        token = next;
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_have_what_stays_in_a_list_once_whatever_comes_and_goes_meanwhile() {
    let (pair, segue) = with_a_stuck_key().await;
    let operators = MigrationClient::new(channel(segue.admin_address()));
    let source = &pair.source;

    // Rows of one moment, of which one goes and others come, older and younger.
    source.run("UPDATE segue.outbox SET next_attempt_at = now() + interval '1 hour'").await;
    let add = "INSERT INTO segue.outbox (slot, table_id, key, attempts, created_at, next_attempt_at) \
        SELECT 0, table_id, ARRAY[n::text], 1, \
            '2020-01-01 00:00:00.000007+00'::timestamptz + at * interval '1 day', \
            now() + interval '1 hour' \
        FROM segue.migrated_table, (VALUES %) AS v (n, at) WHERE source_name = 'note'";
    source.run(&add.replace('%', "(10, 0), (11, 0), (12, 0), (13, 0), (14, 1), (15, 1)")).await;
    let page = async |page_token: String| {
        let request = proto::ListOutboxRequest { page_size: 2, page_token, failed_only: true };
        let page = operators.clone().list_outbox(request).await.unwrap().into_inner();
        (page.entries, page.next_page_token)
    };
    let between = async {
        source.run("DELETE FROM segue.outbox WHERE key = ARRAY['14']").await;
        source.run(&add.replace('%', "(16, -1), (17, 2)")).await;
    };
    let listed = all_pages(page, between).await;
    let mut keys: Vec<&str> = listed.iter().map(|it| it.key[0].as_str()).collect();
    // Rows of one moment are in the order of their keys' digests.
    keys[..4].sort_unstable();
    assert_eq!(keys, ["10", "11", "12", "13", "15", "17", "1"]);

    // Events of one moment, and newer ones meanwhile.
    let event = |moment: &str, range: &str| {
        format!(
            "INSERT INTO segue.history (event_id, at, kind, epoch, from_phase, to_phase, \
                 from_percentage, to_percentage, changed_by, reason) \
             SELECT gen_random_uuid(), {moment}, 'drift', 1, 'dual_write', 'dual_write', 0, 0, \
                 'test', n::text FROM generate_series({range}) AS n"
        )
    };
    source.run(&event("now() + interval '1 hour'", "1, 7")).await;
    let page = async |page_token: String| {
        let request = proto::ListHistoryRequest { page_size: 2, page_token };
        let page = operators.clone().list_history(request).await.unwrap().into_inner();
        (page.events, page.next_page_token)
    };
    let between = async { source.run(&event("now() + interval '2 hours'", "8, 9")).await };
    let listed = all_pages(page, between).await;
    let mut planted: Vec<&str> =
        listed.iter().filter(|it| it.actor == "test").map(|it| it.reason.as_str()).collect();
    planted.sort_unstable();
    assert_eq!(planted, ["1", "2", "3", "4", "5", "6", "7"]);
    assert!(listed.iter().any(|it| it.kind() == proto::HistoryEventKind::Phase), "{listed:?}");

    // The last becomes the most frequent, one is resolved, one is new.
    let found = |rows: &str| {
        format!(
            "INSERT INTO segue.mismatch (fingerprint, verdict, category, statement, count, \
                 first_seen, last_seen) \
             SELECT f, 'data', '', 'SELECT 1', c, now(), now() FROM (VALUES {rows}) AS v (f, c)"
        )
    };
    source.run(&found("('a', 9), ('b', 8), ('c', 7), ('d', 6), ('e', 5)")).await;
    let page = async |page_token: String| {
        let request = proto::ListMismatchesRequest { page_size: 2, page_token };
        let page = operators.clone().list_mismatches(request).await.unwrap().into_inner();
        (page.mismatches, page.next_page_token)
    };
    let between = async {
        source.run("UPDATE segue.mismatch SET count = 99 WHERE fingerprint IN ('a', 'e')").await;
        source.run("UPDATE segue.mismatch SET resolved_at = now() WHERE fingerprint = 'c'").await;
        source.run(&found("('f', 100)")).await;
    };
    let listed = all_pages(page, between).await;
    let ids: Vec<&str> = listed.iter().map(|it| it.fingerprint.as_str()).collect();
    assert_eq!(ids, ["a", "b", "f", "e", "d"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_token_that_is_not_of_the_list_is_an_invalid_argument() {
    let (pair, segue) = with_a_stuck_key().await;
    let mut operators = MigrationClient::new(channel(segue.admin_address()));
    let resolved = "INSERT INTO segue.history (event_id, kind, epoch, from_phase, to_phase, \
            from_percentage, to_percentage, changed_by, reason) \
        SELECT gen_random_uuid(), 'drift', 1, 'dual_write', 'dual_write', 0, 0, 'test', '' \
        FROM generate_series(1, 2)";
    pair.source.run(resolved).await;
    let request = proto::ListHistoryRequest { page_size: 1, page_token: String::new() };
    let history = operators.list_history(request).await.unwrap().into_inner().next_page_token;
    assert!(!history.is_empty());
    for page_token in [history.clone(), "no token".to_owned(), history[2..].to_owned()] {
        let (token, page_size) = (page_token.clone(), 1);
        let request = proto::ListOutboxRequest { page_size, page_token, failed_only: false };
        let refused = operators.list_outbox(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{token}: {refused:?}");
        let request = proto::ListMismatchesRequest { page_size, page_token: token.clone() };
        let refused = operators.list_mismatches(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{token}: {refused:?}");
        let request = proto::ListForeignWritersRequest { page_size, page_token: token.clone() };
        let refused = operators.list_foreign_writers(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{token}: {refused:?}");
    }
    // Of another filter.
    for (made, asked) in [(true, false), (false, true)] {
        let request = proto::ListOutboxRequest { failed_only: made, ..Default::default() };
        let page = operators.list_outbox(request).await.unwrap().into_inner();
        assert_eq!((page.entries.len(), page.next_page_token.as_str()), (1, ""));
        let page_token = history.clone();
        let request = proto::ListOutboxRequest { page_size: 1, page_token, failed_only: asked };
        assert_eq!(operators.list_outbox(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_and_a_verify_run_in_the_sidecar_and_can_be_followed() {
    let notes = format!(
        "{NOTES}; INSERT INTO note (id, body) SELECT n, 'old' FROM generate_series(1, 50) AS n;"
    );
    let pair = Pair::fresh(&notes, NOTES).await;
    let segue = Segue::serving(&pair, "dual_write", "").await;
    let lines = |output: std::process::Output| -> Vec<Value> {
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // The phase settles first; until then the operation waits, and says so.
    let copied = segue.run(&["operation", "backfill", "--json", "--actor", "alice"]);
    assert_eq!(copied.status.code(), Some(0), "{copied:?}\n{}", segue.logs());
    let events = lines(copied);
    let (first, last) = (&events[0], events.last().unwrap());
    assert_eq!((&first["event"], &last["event"]), (&"started".into(), &"end".into()));
    assert_eq!(last["operation_state"], "succeeded", "{events:#?}");
    let tables: Vec<&Value> = events.iter().filter(|it| it["event"] == "backfill_table").collect();
    assert!(tables.iter().any(|it| it["table"]["rows"] == 50), "{events:#?}");
    let rows = "SELECT id::int8, body FROM note ORDER BY id";
    assert_eq!(pair.target.rows(rows).await, pair.source.rows(rows).await);

    let verified = segue.run(&["operation", "verify"]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    assert!(String::from_utf8_lossy(&verified.stdout).ends_with("equal\n"), "{verified:?}");
    // Past capture, which would have it repaired before the verify reads it.
    let unseen = "BEGIN; ALTER TABLE note DISABLE TRIGGER ALL; \
        UPDATE note SET body = 'wrong' WHERE id = 7; ALTER TABLE note ENABLE TRIGGER ALL; COMMIT";
    pair.target.run(unseen).await;
    let differs = segue.run(&["operation", "verify", "--table", "public.note", "--json"]);
    assert_eq!(differs.status.code(), Some(3), "{differs:?}");
    let id = lines(differs).pop().unwrap()["operation"].as_str().unwrap().to_owned();
    // Once more by its id, when it is over.
    let again = segue.run(&["operation", "watch", &id, "--json"]);
    assert_eq!(again.status.code(), Some(3), "{again:?}");
    let found = lines(again);
    let table = found.iter().find(|it| it["event"] == "verify_table").unwrap();
    assert_eq!((&table["number"], &table["table"]["differences"]), (&1.into(), &1.into()));

    let refused = segue.run(&["operation", "backfill"]);
    assert_eq!(refused.status.code(), Some(0), "all of it is copied: {refused:?}");
    let listed: Value =
        serde_json::from_str(&segue.succeed(&["operation", "list", "--json"])).unwrap();
    let kinds: Vec<&str> =
        listed.as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["backfill", "verify", "verify", "backfill"], "{listed:#}");
    assert_eq!(listed[3]["actor"], "alice");
    let unknown = segue.run(&["operation", "watch", "no-id"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
}
