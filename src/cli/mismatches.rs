//! `segue mismatches`: the list of things to fix.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::Ending;
use crate::cli::admin::Client;
use crate::cli::args::MismatchesCommand;
use crate::cli::print::{self, clipped, count, counted, indented, table, time, wrapped};
use crate::grpc::proto::{
    GetStatusRequest, ListMismatchesRequest, Mismatch, ResolveMismatchRequest,
};

/// Verdicts that somebody has to do something about.
const FINDINGS: [&str; 3] = ["data", "incompatible", "error"];

pub(super) async fn run(client: &mut Client, json: bool, limit: u32) -> Result<Ending> {
    let request = ListMismatchesRequest { limit };
    let mut found = client.list_mismatches(request).await?.into_inner().mismatches;
    found.sort_by_key(|it| (!is_finding(it), std::cmp::Reverse(it.count)));
    let findings = found.iter().filter(|it| is_finding(it)).count();
    if json {
        let documents: Vec<Value> = found.iter().map(document).collect();
        print::out(&format!("{}\n", Value::Array(documents)));
    } else {
        let samples = client.get_status(GetStatusRequest {}).await?.into_inner().sampling;
        print::out(&page(&found, samples.unwrap_or_default().sampled_total));
    }
    Ok(if findings == 0 { Ending::Done } else { Ending::Differences })
}

pub(super) async fn resolve(client: &mut Client, command: MismatchesCommand) -> Result<()> {
    let MismatchesCommand::Resolve { fingerprint, verdict, reason, by } = command;
    let request = ResolveMismatchRequest {
        fingerprint,
        verdict: verdict.map(|it| it.as_str().to_owned()).unwrap_or_default(),
        reason,
        resolved_by: by,
    };
    let resolved = client.resolve_mismatch(request).await?.into_inner().resolved;
    print::out(&format!("resolved: {resolved} of the list\n"));
    Ok(())
}

fn is_finding(mismatch: &Mismatch) -> bool {
    FINDINGS.contains(&mismatch.verdict.as_str())
}

fn page(found: &[Mismatch], samples: u64) -> String {
    let (findings, others): (Vec<_>, Vec<_>) = found.iter().partition(|it| is_finding(it));
    let mut page = match (findings.len(), samples) {
        (0, 0) => "no differences, but nothing was compared yet by this sidecar\n".to_owned(),
        (0, _) => format!("no differences in {} of this sidecar\n", counted(samples, "sample")),
        (number, _) => format!("{} to look at\n", counted(number as u64, "finding")),
    };
    for (index, mismatch) in findings.iter().enumerate() {
        page.push('\n');
        page += &finding(index + 1, mismatch);
    }
    if !others.is_empty() {
        let row = |it: &&Mismatch| {
            vec![it.verdict.clone(), it.category.clone(), count(it.count), name(it)]
        };
        let rows: Vec<_> = others.iter().map(row).collect();
        page += "\nnot to be fixed, but seen:\n";
        page += &indented(&table(&["verdict", "category", "count", "statement"], &rows), 2);
    }
    page
}

/// Beside the titles, within 80 columns.
const PART_WIDTH: usize = 66;

fn finding(number: usize, mismatch: &Mismatch) -> String {
    let suspected = if mismatch.suspected { ", suspected" } else { "" };
    let category = match mismatch.category.as_str() {
        category if category.is_empty() || category == mismatch.verdict => String::new(),
        category => format!(" ({category})"),
    };
    let mut text = format!(
        "{number}. {}{category}{suspected}: {}, last {}\n",
        mismatch.verdict,
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
        "verdict": mismatch.verdict,
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
        assert_eq!(page(&[], 1234), "no differences in 1,234 samples of this sidecar\n");
        assert!(page(&[], 0).contains("nothing was compared yet"));
    }

    #[test]
    fn a_finding_has_reason_example_and_rewrite() {
        let found = Mismatch {
            verdict: "incompatible".to_owned(),
            category: "null_order".to_owned(),
            statement: "SELECT id\nFROM orders ORDER BY note".to_owned(),
            count: 2,
            reason: "NULLs are sorted at the other end".to_owned(),
            rewrite: "ORDER BY note NULLS LAST".to_owned(),
            example: "row 1, column id: [redacted] / [redacted]".to_owned(),
            ..Mismatch::default()
        };
        let noise = Mismatch { verdict: "noise".to_owned(), count: 9, ..Mismatch::default() };
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
        assert_eq!(page(&[found, noise], 5), expected);
    }
}
