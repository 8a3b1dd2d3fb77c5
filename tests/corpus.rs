//! The catalogue of differences, case by case, on two real databases.
//!
//! `tests/corpus/cases.sql` says in its head how it is read. `fix_query`, `diverged` and
//! `skip` mean `incompatible`, `data` and `skipped`; `match` allows an integer of another
//! width, since the target's keys are wider than the source's throughout.

// A fault of the runner is best seen where it happens.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;

use futures_util::{TryStreamExt, pin_mut};
use segue::compare::catalogue::ENTRIES;
use segue::compare::rules::Rules;
use segue::compare::{compare, rewrite, with_evidence};
use segue::domain::answer::{Answer, Observed, RowBatchBuilder};
use segue::domain::fault::{FaultKind, SqlFault};
use segue::domain::reason::Reason;
use segue::domain::verdict::{Comparison, Verdict};
use segue::postgres::session::cell::Raw;
use segue::postgres::session::types;
use segue::statement::{self, Analysis};
use support::{Pair, connect};
use tokio_postgres::Client;

/// Attempts after the first that a retryable fault gets.
const RETRIES_MAX: usize = 5;
/// Categories of the catalogue that no case here can show: what another setting of the session
/// causes is told by asking a running segue again (`tests/shadow_reads/verdicts.rs`).
const WITHOUT_CASE: &[&str] = &["session_setting"];
const OF_COCKROACHDB: &str = include_str!("corpus/cockroachdb_cases.sql");

/// One case of the corpus.
#[derive(Debug, Default)]
struct Case {
    fields: BTreeMap<String, String>,
    shadow: Option<String>,
    sql: String,
}

impl Case {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn rolls_back(&self) -> bool {
        self.field("txn") == "rollback"
    }
}

fn cases(text: &str) -> Vec<Case> {
    let mut found = Vec::new();
    let mut case = Case::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if let Some(fields) = line.strip_prefix("-- @id=") {
            for field in format!("id={fields}").split_whitespace() {
                let field = field.trim_start_matches('@');
                let (name, value) = field.split_once('=').unwrap_or((field, "yes"));
                case.fields.insert(name.to_owned(), value.to_owned());
            }
        } else if let Some((name, text)) = told(line) {
            case.fields.insert(name.to_owned(), text.to_owned());
        } else if let Some(sql) = line.strip_prefix("-- @shadow ") {
            case.shadow = Some(sql.to_owned());
        } else if !line.starts_with("--") {
            case.sql = line.trim_end_matches(';').to_owned();
            found.push(std::mem::take(&mut case));
        }
    }
    found
}

/// What the guide says of a case.
fn told(line: &str) -> Option<(&str, &str)> {
    let (name, text) = line.strip_prefix("-- @")?.split_once(' ')?;
    matches!(name, "sql" | "there" | "fix").then_some((name, text))
}

async fn observe(client: &Client, sql: &str) -> Observed {
    match answer(client, sql).await {
        Ok(answer) => Observed::Answer(answer),
        Err(error) => {
            let mut fault = SqlFault::new(FaultKind::Database, Reason::Database, error.to_string());
            if let Some(db) = error.as_db_error() {
                db.code().code().clone_into(&mut fault.sqlstate);
                db.message().clone_into(&mut fault.message);
            }
            Observed::Fault(fault)
        }
    }
}

async fn answer(client: &Client, sql: &str) -> Result<Answer, tokio_postgres::Error> {
    let statement = client.prepare(sql).await?;
    let columns = types::columns(statement.columns());
    let no_params: [i32; 0] = [];
    let rows = client.query_raw(&statement, no_params).await?;
    pin_mut!(rows);
    let mut builder = RowBatchBuilder::default();
    while let Some(row) = rows.try_next().await? {
        for at in 0..row.len() {
            builder.push_cell(row.get::<_, Raw<'_>>(at).0);
        }
        builder.end_row();
    }
    let affected_rows = rows.rows_affected().unwrap_or_default();
    Ok(Answer { columns, batches: vec![builder.take()], affected_rows })
}

/// Runs a statement as its case asks for.
async fn run(client: &Client, case: &Case, sql: &str) -> Observed {
    if !case.rolls_back() {
        return observe(client, sql).await;
    }
    for _ in 0..RETRIES_MAX {
        client.batch_execute("BEGIN").await.unwrap();
        let seen = observe(client, sql).await;
        client.batch_execute("ROLLBACK").await.unwrap();
        let retry = matches!(&seen, Observed::Fault(fault) if fault.sqlstate == "40001");
        if !retry {
            return seen;
        }
    }
    panic!("{sql} was to be tried again for ever");
}

fn sqlstate(observed: &Observed) -> &str {
    match observed {
        Observed::Answer(_) => "ok",
        Observed::Fault(fault) => &fault.sqlstate,
    }
}

struct Sides {
    primary: Client,
    shadow: Client,
}

impl Sides {
    async fn judge(&self, case: &Case) -> Comparison {
        let analysis = statement::analyse(&case.sql).unwrap();
        let primary = run(&self.primary, case, &case.sql).await;
        let shadow_sql = case.shadow.as_deref().map_or(&*case.sql, |sql| sql.trim_end_matches(';'));
        let shadow = run(&self.shadow, case, shadow_sql).await;
        for (side, wanted, seen) in
            [("primary", case.field("p"), &primary), ("shadow", case.field("s"), &shadow)]
        {
            let wanted = if wanted.is_empty() { "ok" } else { wanted };
            let wanted = wanted.strip_prefix("40001_then_").unwrap_or(wanted);
            assert_eq!(sqlstate(seen), wanted, "{} on the {side}", case.field("id"));
        }
        let first = compare(&analysis, &primary, &shadow, &Rules::default());
        self.prove(&analysis, first).await
    }

    /// As the sampling of reads does: rewrites run on both sides.
    async fn prove(&self, analysis: &Analysis, mut judged: Comparison) -> Comparison {
        if !judged.verdict.is_finding() {
            return judged;
        }
        for rewrite in rewrite::machine(analysis) {
            let rewritten = statement::analyse(&rewrite.sql).unwrap();
            let primary = observe(&self.primary, &rewrite.sql).await;
            let shadow = observe(&self.shadow, &rewrite.sql).await;
            let second = compare(&rewritten, &primary, &shadow, &Rules::default());
            judged = with_evidence(judged, &rewrite, second);
        }
        judged
    }
}

fn is_expected(case: &Case, wanted: &str, judged: &Comparison) -> bool {
    let category = judged.category == case.field("category");
    match wanted {
        "match" => {
            judged.verdict == Verdict::Match
                || (judged.verdict == Verdict::Normalized
                    && judged.rules.iter().eq(["int_width"].iter()))
        }
        "normalized" => judged.verdict == Verdict::Normalized && category,
        "fix_query" => judged.verdict == Verdict::Incompatible && category,
        "error" => judged.verdict == Verdict::Error && category,
        "diverged" => judged.verdict == Verdict::Data && category,
        "noise" => judged.verdict == Verdict::Noise && category,
        "skip" => judged.verdict == Verdict::Skipped && category,
        other => panic!("unknown verdict {other}"),
    }
}

#[tokio::test]
async fn every_case_of_the_corpus_gets_its_verdict() {
    let pair = Pair::fresh(
        include_str!("corpus/schema_source.sql"),
        include_str!("corpus/schema_target.sql"),
    )
    .await;
    // New connections, since the target's search path is a setting of the database.
    let sides = Sides {
        primary: connect(pair.source.dsn()).await,
        shadow: connect(pair.target.dsn()).await,
    };
    for client in [&sides.primary, &sides.shadow] {
        client.batch_execute("SET TIME ZONE 'UTC'").await.unwrap();
    }
    let collation = pair
        .source
        .rows(
            "SELECT col_description('customers'::regclass, attnum) FROM pg_attribute \
               WHERE attrelid = 'customers'::regclass AND attname = 'name'",
        )
        .await;
    let has_icu = !collation.concat().starts_with("collation C ");

    let mut table = String::new();
    let mut wrong = Vec::new();
    let mut shown = BTreeSet::new();
    let all =
        [include_str!("corpus/cases.sql"), include_str!("corpus/more_cases.sql"), OF_COCKROACHDB];
    for case in all.iter().flat_map(|text| cases(text)) {
        if case.field("verdict") == "refused" {
            let refusal = statement::analyse(&case.sql).unwrap().refusal;
            let reason = refusal.as_ref().map(|it| it.reason.as_str());
            assert_eq!(reason, Some(case.field("category")), "{}", case.field("id"));
            continue;
        }
        let judged = sides.judge(&case).await;
        let same_order = case.fields.contains_key("icu") && !has_icu;
        let wanted = if same_order { "match" } else { case.field("verdict") };
        let right = is_expected(&case, wanted, &judged);
        let example = judged.example.as_ref();
        let _ = writeln!(
            table,
            "{:5} {:24} {:11} {:13}{} {:24} {} {}",
            case.field("id"),
            case.field("category"),
            wanted,
            judged.verdict.to_string(),
            if judged.suspected { "?" } else { " " },
            judged.category,
            if right { "" } else { "<-- WRONG" },
            if right { String::new() } else { format!("{example:?} {:?}", judged.rules) },
        );
        if !right {
            wrong.push(case.field("id").to_owned());
        }
        if case.field("verdict") == "diverged" {
            let hidden = matches!(judged.verdict, Verdict::Match | Verdict::Normalized);
            assert!(!hidden, "{} hides a real difference", case.field("id"));
        }
        if judged.verdict == Verdict::Incompatible {
            assert!(!judged.rewrite.is_empty(), "{} has no way out", case.field("id"));
        }
        if judged.verdict != Verdict::Match {
            assert!(!judged.reason.is_empty(), "{} has no reason", case.field("id"));
        }
        // Where both sides sort alike, the case cannot show what it is for.
        let category = if same_order { case.field("category") } else { judged.category };
        shown.insert(category.to_owned());
    }
    // Written past the capture of the test's output: the table is to be seen when all is well.
    let _ = writeln!(std::io::stderr(), "\n{table}");
    assert!(wrong.is_empty(), "wrong verdicts for {wrong:?}");
    let missing: Vec<_> = ENTRIES
        .iter()
        .map(|entry| entry.category)
        .filter(|category| !shown.contains(*category) && !WITHOUT_CASE.contains(category))
        .collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
}

/// What it says is what the cases say.
#[test]
fn the_guide_lists_what_statements_may_meet_on_cockroachdb() {
    let guide = include_str!("../docs/guides/cockroachdb.md");
    let rows: Vec<String> = cases(OF_COCKROACHDB)
        .iter()
        .map(|it| format!("| {} | {} | {} |", it.field("sql"), it.field("there"), it.field("fix")))
        .collect();
    assert!(!rows.is_empty() && rows.iter().all(|it| !it.contains("|  |")), "{rows:#?}");
    let missing: Vec<_> = rows.iter().filter(|row| !guide.contains(&***row)).collect();
    assert!(missing.is_empty(), "put into docs/guides/cockroachdb.md: {missing:#?}");
}
