//! `segue check`.

use anyhow::Result;
use serde_json::{Value, json};

use crate::app::databases::Databases;
use crate::app::operations::check::{self, Params};
use crate::cli::args::CheckArgs;
use crate::cli::print::{self, counted};
use crate::cli::{Refused, args};
use crate::config::{Config, Sources};
use crate::preflight::{Code, Finding, Pace, Report, Severity, codes};

const MIB: f64 = 1024.0 * 1024.0;

/// Looks for what stands in the migration's way; refuses where something blocks it.
pub(super) async fn run(sources: &Sources, args: CheckArgs) -> Result<()> {
    let CheckArgs { tables, databases, chunk_rows, rows_per_s, mb_per_s, json, list } = args;
    if list {
        print::out(codes::markdown().trim_start());
        return Ok(());
    }
    let config = Config::load(&args::with_databases(sources, &databases))?;
    let pace =
        Pace { chunk_rows, rows_per_s: rows_per_s as f64, bytes_per_s: mb_per_s as f64 * MIB };
    let databases = Databases::open(&config)?;
    let report = check::check(&config, &databases, &Params { tables, pace }).await?;
    print::out(&if json { format!("{}\n", document(&report)) } else { page(&report) });
    if !report.refuses() {
        return Ok(());
    }
    let blocking = report.count(Severity::Blocks) as u64;
    let verb = if blocking == 1 { "blocks" } else { "block" };
    Err(Refused(format!("{} {verb} the migration", counted(blocking, "finding"))).into())
}

// === for machines ===

/// The report, for machines.
pub(super) fn document(report: &Report) -> Value {
    let tables: Vec<Value> = report
        .tables
        .iter()
        .map(|it| {
            json!({
                "source": it.mapping.source.to_string(),
                "target": it.mapping.target.to_string(),
                "rows": it.rows,
                "bytes": it.bytes,
                "chunks": it.estimate.map(|estimate| estimate.chunks),
                "seconds": it.estimate.map(|estimate| estimate.seconds),
            })
        })
        .collect();
    json!({
        "refused": report.refuses(),
        "blocks": report.count(Severity::Blocks),
        "warnings": report.count(Severity::Warning),
        "notes": report.count(Severity::Note),
        "looked_at": {
            "tables": report.tables.len(),
            "columns": report.columns,
            "constraints": report.constraints,
            "triggers": report.triggers,
            "sequences": report.sequences,
        },
        "pace": {
            "chunk_rows": report.pace.chunk_rows,
            "rows_per_s": report.pace.rows_per_s,
            "bytes_per_s": report.pace.bytes_per_s,
        },
        "tables": tables,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn finding(it: &Finding) -> Value {
    json!({
        "severity": it.severity().as_str(),
        "code": it.code.as_str(),
        "side": it.side.as_str(),
        "table": it.table.as_ref().map(ToString::to_string),
        "object": (!it.object.is_empty()).then_some(&it.object),
        "found": it.found,
        "why": it.code.why(),
        "way_out": it.code.way_out(),
        "sql": it.sql,
    })
}

// === for people ===

/// The findings of these severities; nothing where there are none.
pub(super) fn found(report: &Report, severities: &[Severity]) -> String {
    let mut page = String::new();
    for severity in severities {
        let count = report.count(*severity);
        if count == 0 {
            continue;
        }
        page += &format!("{} ({count})\n", heading(*severity));
        let of_severity = |code: &&Code| code.severity() == *severity;
        for code in Code::ALL.iter().filter(of_severity) {
            let found: Vec<&Finding> =
                report.findings.iter().filter(|finding| finding.code == *code).collect();
            if !found.is_empty() {
                page += &group(*code, &found);
            }
        }
        page.push('\n');
    }
    page
}

/// The whole report.
pub(super) fn page(report: &Report) -> String {
    let mut page = found(report, &[Severity::Blocks, Severity::Warning, Severity::Note]);
    page += &sizes(report);
    let looked = [
        counted(report.tables.len() as u64, "table"),
        counted(report.columns as u64, "column"),
        format!("{} and indexes", counted(report.constraints as u64, "constraint")),
        format!("{} and rules", counted(report.triggers as u64, "trigger")),
        counted(report.sequences as u64, "sequence"),
    ];
    page += &format!("looked at {}\n", looked.join(", "));
    page + &verdict(report)
}

fn heading(severity: Severity) -> &'static str {
    match severity {
        Severity::Blocks => "blocks the migration",
        Severity::Warning => "to be decided on",
        Severity::Note => "to know",
    }
}

/// All findings of one kind: where and what, then why and the way out, then the statements.
fn group(code: Code, found: &[&Finding]) -> String {
    let rows: Vec<Vec<String>> =
        found.iter().map(|it| vec![it.side.to_string(), it.place(), it.found.clone()]).collect();
    let table = print::table(&["side", "where", "what"], &rows);
    // The heads would stand there once a group.
    let table = table.split_once('\n').map_or("", |(_, rows)| rows);
    let told = |text: String| print::indented(&print::wrapped(&text, WIDTH), 4);
    let mut group = format!("\n  {code}\n{}", print::indented(table, 4));
    group += &told(format!("why: {}", code.why()));
    group += &told(format!("way out: {}", code.way_out()));
    for sql in found.iter().flat_map(|it| it.sql.iter().map(|sql| (it.side, sql))) {
        group += &format!("      {} -- on the {}\n", with_semicolon(sql.1), sql.0);
    }
    group
}

const WIDTH: usize = 96;

fn with_semicolon(sql: &str) -> String {
    format!("{};", sql.trim_end_matches(';'))
}

fn sizes(report: &Report) -> String {
    if report.tables.is_empty() {
        return String::new();
    }
    let unknown = || "?".to_owned();
    let rows: Vec<Vec<String>> = report
        .tables
        .iter()
        .map(|it| {
            vec![
                it.mapping.source.to_string(),
                it.rows.map_or_else(unknown, print::count),
                it.bytes.map_or_else(unknown, print::bytes),
                it.estimate.map_or_else(unknown, |estimate| print::count(estimate.chunks)),
                it.estimate.map_or_else(unknown, |estimate| print::seconds(estimate.seconds)),
            ]
        })
        .collect();
    let heads = ["table, parents first", "rows (estimate)", "size", "chunks", "time"];
    let mut page = print::table(&heads, &rows);
    let pace = report.pace;
    page += &format!(
        "time at {} rows/s or {} MiB/s, whichever is slower; chunks of {} rows\n",
        print::count(pace.rows_per_s as u64),
        print::count((pace.bytes_per_s / MIB) as u64),
        print::count(pace.chunk_rows)
    );
    let total: f64 = report.tables.iter().filter_map(|it| it.estimate).map(|it| it.seconds).sum();
    if report.tables.iter().any(|it| it.rows.is_none()) {
        page += "rows are not known (?) of tables that were never analysed; run ANALYZE there\n";
    } else {
        page += &format!("all of it by one stream: {}\n", print::seconds(total));
    }
    page + "\n"
}

fn verdict(report: &Report) -> String {
    let said = |severity, one: &str, many: &str| {
        let count = report.count(severity);
        format!("{count} {}", if count == 1 { one } else { many })
    };
    format!(
        "{}, {}, {}\n",
        said(Severity::Blocks, "blocks", "block"),
        said(Severity::Warning, "warning", "warnings"),
        said(Severity::Note, "note", "notes")
    )
}
