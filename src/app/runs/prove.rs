//! A verify in a sidecar: the same comparison as of `segue verify`, with sessions of its own.

use std::sync::Arc;
use std::time::Duration;

use crate::app::operations::verify::{self, Event as Verifying, Options, Totals};
use crate::app::runs::Parts;
use crate::app::runs::copy::stopped;
use crate::app::runs::live::Live;
use crate::domain::table::TableName;
use crate::grpc::proto::operation::Result as Outcome;
use crate::grpc::proto::operation_event::Event;
use crate::grpc::proto::{OperationState, VerifyResult, VerifyTable};

/// Rows of a chunk, chunks at once, and how long a pending row is looked at again: what
/// `segue verify` does where nothing else is asked for.
const CHUNK_ROWS: u64 = 10_000;
const WORKERS: usize = 2;
const PENDING_MAX: Duration = Duration::from_secs(30);

pub(super) async fn run(
    parts: &Parts,
    live: &Arc<Live>,
    (tables, sample, repair): (Vec<String>, f64, bool),
) {
    let options = Options {
        tables,
        sample,
        repair,
        chunk_rows: CHUNK_ROWS,
        workers: WORKERS,
        pending_max: PENDING_MAX,
    };
    let stop = live.halt.token().child_token();
    let mut compared: Vec<VerifyTable> = Vec::new();
    let mut tell = |event: Verifying<'_>| match event {
        Verifying::Begun { table, .. } => live.progress(format!("{table}"), None),
        Verifying::Chunk { table, totals, .. } => {
            live.progress(format!("{table}: {} rows", totals.rows), None);
        }
        Verifying::Ended { table, totals, failed } => {
            let table = message(table, totals, failed);
            compared.push(table.clone());
            live.event(Event::VerifyTable(table));
        }
    };
    let verified = {
        let verifying = Box::pin(verify::run(&parts.config, &options, &stop, &mut tell));
        tokio::pin!(verifying);
        tokio::select! {
            verified = &mut verifying => verified,
            () = parts.stop.cancelled() => {
                stop.cancel();
                verifying.await
            }
        }
    };
    let (state, failure, equal) = match verified {
        Ok(_) if stop.is_cancelled() => {
            let (state, failure) = stopped(live);
            (state, failure, false)
        }
        Ok(totals) if totals.failed > 0 => {
            let failure = format!("{} tables could not be compared; see the tables", totals.failed);
            (OperationState::Failed, failure, false)
        }
        Ok(totals) => (OperationState::Succeeded, String::new(), totals.is_equal()),
        Err(error) if error.is_refusal() => (OperationState::Refused, error.to_string(), false),
        Err(error) => (OperationState::Failed, error.to_string(), false),
    };
    let result = VerifyResult { tables: compared, equal };
    live.end(state, failure, Some(Outcome::VerifyResult(result)));
}

fn message(table: &TableName, totals: &Totals, failed: Option<String>) -> VerifyTable {
    VerifyTable {
        table: table.to_string(),
        chunks: totals.chunks,
        chunks_differing: totals.differing,
        rows: totals.rows,
        differences: totals.data,
        uncopied: totals.uncopied,
        pending: totals.pending,
        unread: totals.unread,
        repaired: totals.repaired,
        failure: failed.unwrap_or_default(),
    }
}
