//! Which table was proven when, for the status and for the report of a cutover.

use serde_json::{Value, json};

use crate::cli::print::{count, counted, seconds, time};
use crate::cli::words;
use crate::grpc::proto::{TableProof, VerifyStatus};

/// Tables of a cutover's report that are named before the rest is counted.
const REPORTED_MAX: usize = 20;
/// The same of the status, which is one page.
const SHOWN_MAX: usize = 3;

/// What the status says of verify; `None` where nothing was ever verified.
pub(super) fn of_status(verify: &VerifyStatus) -> Option<String> {
    if verify.chunks == 0 {
        return None;
    }
    let share = verify.proven as f64 / verify.chunks as f64 * 100.0;
    let written = match verify.written {
        0 => String::new(),
        written => format!(", {} written since", count(written)),
    };
    let oldest = seconds(words::seconds(verify.oldest_age));
    let mut lines = vec![format!(
        "{share:.1} % of {} proven when last looked at{written}; the oldest proof is {oldest} old",
        counted(verify.chunks, "chunk")
    )];
    lines.extend(tables(&verify.tables, SHOWN_MAX));
    Some(lines.join("\n"))
}

/// Which table was proven when, for the end of a cutover; empty where it did not come so far.
pub(super) fn of_cutover(proofs: &[TableProof]) -> String {
    tables(proofs, REPORTED_MAX).iter().map(|line| format!("{line}\n")).collect()
}

/// Those with the oldest proof first.
fn tables(proofs: &[TableProof], max: usize) -> Vec<String> {
    let mut lines: Vec<String> = proofs.iter().take(max).map(line).collect();
    match proofs.len().saturating_sub(max) {
        0 => {}
        more => lines.push(format!("and {more} more, proven later: --json lists them")),
    }
    lines
}

fn line(table: &TableProof) -> String {
    let TableProof { table, chunks, proven, oldest, oldest_age, rows_under_fence, .. } = table;
    let proofs = match oldest {
        None => "never proven".to_owned(),
        Some(oldest) => format!(
            "{} of {} proven, the oldest proof is of {} ({} old)",
            count(*proven),
            counted(*chunks, "chunk"),
            time(Some(*oldest)),
            seconds(words::seconds(*oldest_age))
        ),
    };
    let whole = match rows_under_fence {
        Some(rows) => format!("; compared whole while writes were held: {}", counted(*rows, "row")),
        None => String::new(),
    };
    format!("{table}: {proofs}{whole}")
}

/// One object a table.
pub(super) fn document(proofs: &[TableProof]) -> Vec<Value> {
    let one = |it: &TableProof| {
        json!({
            "table": it.table, "chunks": it.chunks, "proven": it.proven,
            "oldest": it.oldest.map(|oldest| time(Some(oldest))), "oldest_age_s": words::seconds(it.oldest_age),
            "rows_under_fence": it.rows_under_fence, "void_reason": it.void_reason,
        })
    };
    proofs.iter().map(one).collect()
}
