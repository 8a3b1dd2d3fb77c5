//! `segue mismatches`: the list of things to fix.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::Ending;
use crate::cli::admin::Client;
use crate::cli::args::MismatchesCommand;
use crate::cli::print::{self, clipped, count, counted, indented, table, time, wrapped};
use crate::cli::words;
use crate::grpc::proto::{
    GetStatusRequest, ListMismatchesRequest, Mismatch, ResolveMismatchRequest, Verdict,
};

/// Reasons for leaving a sample out that say something of the statement.
const LEFT_OUT: [(&str, &str); 5] = [
    ("not_migrated", "touches what is not migrated"),
    ("of_primary", "touches a sequence or a declared table"),
    ("volatile_function", "may have effects: see sampling.functions_allowed"),
    ("unknown_function", "calls a function that is not known"),
    ("catalogue_stale", "a catalogue could not be read"),
];

/// A difference that is pending for longer is shown as one.
const PENDING_MAX: Duration = Duration::from_secs(300);
/// One that was not seen for so long is not pending any more.
const PENDING_SEEN: Duration = Duration::from_secs(600);

/// Verdicts that somebody has to do something about.
const FINDINGS: [Verdict; 3] = [Verdict::Data, Verdict::Incompatible, Verdict::Error];

pub(super) async fn run(client: &mut Client, json: bool, limit: u32) -> Result<Ending> {
    let mut found = all(client, limit).await?;
    found.sort_by_key(|it| (!is_finding(it), std::cmp::Reverse(it.count)));
    let now = SystemTime::now();
    let open = found.iter().filter(|it| is_finding(it) || pending_for(it, now).is_some()).count();
    if json {
        let documents: Vec<Value> = found.iter().map(document).collect();
        print::out(&format!("{}\n", Value::Array(documents)));
    } else {
        let samples = client.get_status(GetStatusRequest {}).await?.into_inner().status;
        let samples = samples.and_then(|it| it.sampling).unwrap_or_default();
        print::out(&(page(&found, samples.sampled_total, now) + &left_out(&samples.dropped)));
    }
    Ok(if open == 0 { Ending::Done } else { Ending::Differences })
}

/// As many as are asked for, page by page.
async fn all(client: &mut Client, limit: u32) -> Result<Vec<Mismatch>> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    while let Some(page_size) = print::left_of(limit, found.len()) {
        let request = ListMismatchesRequest { page_size, page_token };
        let page = client.list_mismatches(request).await?.into_inner();
        found.extend(page.mismatches);
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    Ok(found)
}

pub(super) async fn resolve(
    client: &mut Client,
    command: MismatchesCommand,
    json: bool,
) -> Result<()> {
    let MismatchesCommand::Resolve { fingerprint, verdict, reason, actor } = command;
    let request = ResolveMismatchRequest {
        fingerprint,
        verdict: verdict.map(Verdict::from).unwrap_or_default().into(),
        actor,
        reason,
    };
    let resolved = client.resolve_mismatch(request).await?.into_inner().resolved;
    print::out(&if json {
        format!("{}\n", json!({ "resolved": resolved }))
    } else {
        format!("resolved: {resolved} of the list\n")
    });
    Ok(())
}

fn is_finding(mismatch: &Mismatch) -> bool {
    FINDINGS.contains(&mismatch.verdict())
}

/// How long a difference has been pending, where it still is and for longer than it should.
fn pending_for(mismatch: &Mismatch, now: SystemTime) -> Option<Duration> {
    let at = |time: Option<prost_types::Timestamp>| SystemTime::try_from(time?).ok();
    let (first, last) = (at(mismatch.first_seen)?, at(mismatch.last_seen)?);
    let lasted = last.duration_since(first).unwrap_or_default();
    let is_seen = now.duration_since(last).unwrap_or_default() < PENDING_SEEN;
    (mismatch.verdict() == Verdict::Pending && is_seen && lasted >= PENDING_MAX).then_some(lasted)
}

fn page(found: &[Mismatch], samples: u64, now: SystemTime) -> String {
    let (findings, others): (Vec<_>, Vec<_>) = found.iter().partition(|it| is_finding(it));
    let pending: Vec<_> =
        others.iter().filter_map(|it| Some((*it, pending_for(it, now)?))).collect();
    let mut page = match (findings.len() + pending.len(), samples) {
        _ if findings.is_empty() && !pending.is_empty() => {
            format!("{} pending for long\n", counted(pending.len() as u64, "difference"))
        }
        (0, 0) => "no differences, but nothing was compared yet by this sidecar\n".to_owned(),
        (0, _) => format!("no differences in {} of this sidecar\n", counted(samples, "sample")),
        (number, _) => format!("{} to look at\n", counted(number as u64, "finding")),
    };
    for (index, mismatch) in findings.iter().enumerate() {
        page.push('\n');
        page += &finding(index + 1, mismatch);
    }
    for (mismatch, lasted) in &pending {
        let lasted = humantime::format_duration(Duration::from_secs(lasted.as_secs()));
        page += &format!("\npending for {lasted}, see `segue outbox --stuck`:\n");
        page += &indented(
            &wrapped(&format!("{}\n{}", mismatch.statement, mismatch.reason), PART_WIDTH),
            3,
        );
    }
    if !others.is_empty() {
        let row = |it: &&Mismatch| {
            vec![words::verdict(it.verdict), it.category.clone(), count(it.count), name(it)]
        };
        let rows: Vec<_> = others.iter().map(row).collect();
        page += "\nnot to be fixed, but seen:\n";
        page += &indented(&table(&["verdict", "category", "count", "statement"], &rows), 2);
    }
    page
}

/// Reads that were chosen as samples and not compared, and why, most frequent first.
fn left_out(dropped: &HashMap<String, u64>) -> String {
    let mut dropped: Vec<_> = dropped.iter().filter(|(_, count)| **count > 0).collect();
    if dropped.is_empty() {
        return String::new();
    }
    dropped.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), reason.as_str()));
    let row = |(reason, number): &(&String, &u64)| {
        let why = LEFT_OUT.iter().find(|(name, _)| name == reason).map_or("", |(_, why)| why);
        vec![(*reason).clone(), count(**number), why.to_owned()]
    };
    let rows: Vec<_> = dropped.iter().map(row).collect();
    let shown = indented(&table(&["reason", "count", "meaning"], &rows), 2);
    format!("\nleft out by this sidecar, and not compared:\n{shown}")
}

/// Beside the titles, within 80 columns.
const PART_WIDTH: usize = 66;

fn finding(number: usize, mismatch: &Mismatch) -> String {
    let suspected = if mismatch.suspected { ", suspected" } else { "" };
    let verdict = words::verdict(mismatch.verdict);
    let category = match mismatch.category.as_str() {
        category if category.is_empty() || category == verdict => String::new(),
        category => format!(" ({category})"),
    };
    let mut text = format!(
        "{number}. {verdict}{category}{suspected}: {}, last {}\n",
        counted(mismatch.count, "time"),
        time(mismatch.last_seen),
    );
    let mut part = |title: &str, content: &str| {
        if !content.is_empty() {
            let moved = indented(&wrapped(content, PART_WIDTH), 13);
            text += &format!("   {title:9} {}", moved.trim_start());
        }
    };
    part("name", &mismatch.statement_name);
    part("statement", &mismatch.statement);
    part("why", &mismatch.reason);
    part("example", &mismatch.example);
    part("rewrite", &mismatch.rewrite);
    part("rules", &mismatch.rules.join(", "));
    part("id", &mismatch.fingerprint);
    text
}

/// A statement by its name, or so much of it as fits a line.
fn name(mismatch: &Mismatch) -> String {
    const WIDTH: usize = 36;
    if !mismatch.statement_name.is_empty() {
        return clipped(&mismatch.statement_name, WIDTH);
    }
    let line = mismatch.statement.split_whitespace().collect::<Vec<_>>().join(" ");
    clipped(&line, WIDTH)
}

fn document(mismatch: &Mismatch) -> Value {
    json!({
        "fingerprint": mismatch.fingerprint,
        "verdict": words::verdict(mismatch.verdict),
        "category": mismatch.category,
        "statement": mismatch.statement,
        "statement_name": mismatch.statement_name,
        "count": mismatch.count,
        "first_seen": time(mismatch.first_seen),
        "last_seen": time(mismatch.last_seen),
        "reason": mismatch.reason,
        "rewrite": mismatch.rewrite,
        "example": mismatch.example,
        "rules": mismatch.rules,
        "suspected": mismatch.suspected,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_says_of_what() {
        let now = SystemTime::now();
        assert_eq!(page(&[], 1234, now), "no differences in 1,234 samples of this sidecar\n");
        assert!(page(&[], 0, now).contains("nothing was compared yet"));
    }

    #[test]
    fn what_stays_pending_for_long_is_no_absence_of_differences() {
        let now = SystemTime::now();
        let ago = |seconds| Some(prost_types::Timestamp::from(now - Duration::from_secs(seconds)));
        let pending = |first, last| Mismatch {
            verdict: Verdict::Pending.into(),
            statement: "SELECT v FROM t".to_owned(),
            count: 7,
            first_seen: ago(first),
            last_seen: ago(last),
            ..Mismatch::default()
        };
        let shown = page(&[pending(900, 5)], 50, now);
        assert!(shown.starts_with("1 difference pending for long\n"), "{shown}");
        assert!(shown.contains("pending for 14m 55s") && shown.contains("SELECT v"), "{shown}");
        for short in [pending(60, 5), pending(9_000, 3_000)] {
            assert!(page(&[short], 50, now).starts_with("no differences"));
        }
    }

    #[test]
    fn a_finding_has_reason_example_and_rewrite() {
        let found = Mismatch {
            verdict: Verdict::Incompatible.into(),
            category: "null_order".to_owned(),
            statement: "SELECT id\nFROM orders ORDER BY note".to_owned(),
            count: 2,
            reason: "NULLs are sorted at the other end".to_owned(),
            rewrite: "ORDER BY note NULLS LAST".to_owned(),
            example: "row 1, column id: [redacted] / [redacted]".to_owned(),
            ..Mismatch::default()
        };
        let noise = Mismatch { verdict: Verdict::Noise.into(), count: 9, ..Mismatch::default() };
        let expected = "1 finding to look at

1. incompatible (null_order): 2 times, last -
   statement SELECT id
             FROM orders ORDER BY note
   why       NULLs are sorted at the other end
   example   row 1, column id: [redacted] / [redacted]
   rewrite   ORDER BY note NULLS LAST

not to be fixed, but seen:
  verdict  category  count  statement
  noise                  9
";
        assert_eq!(page(&[found, noise], 5, SystemTime::now()), expected);
    }
}
