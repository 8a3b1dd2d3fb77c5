//! A backfill in a sidecar: the same copy as of `segue backfill`, with the workers and limits of the
//! sidecar's configuration, and sessions of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::operations::backfill::{self, Options, Prepared, Told, Waits};
use crate::app::runs::Parts;
use crate::app::runs::live::Live;
use crate::domain::backfill::TableProgress;
use crate::domain::fault::SqlFault;
use crate::grpc::operations as messages;
use crate::grpc::proto::operation::Result as Outcome;
use crate::grpc::proto::operation_event::Event;
use crate::grpc::proto::{BackfillResult, OperationState};
use crate::jobs::backfill as jobs;
use crate::ports::backfill::ChunkStore;
use crate::preflight::Code;

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn run(
    parts: &Parts,
    live: &Arc<Live>,
    (tables, empty_target, accept): (Vec<String>, bool, Vec<String>),
) {
    let of = |name: &String| Code::ALL.iter().find(|code| code.as_str() == name).copied();
    let accepted = accept.iter().filter_map(of).collect();
    let options = Options { tables, empty_target, accepted, ..Options::default() };
    // Ended where it is cancelled, and where the sidecar stops.
    let stop = live.halt.token().child_token();
    let stopping = tokio::spawn({
        let (stop, sidecar) = (stop.clone(), parts.stop.clone());
        async move {
            tokio::select! {
                () = sidecar.cancelled() => stop.cancel(),
                () = stop.cancelled() => {}
            }
        }
    });
    let (state, failure, outcome) = match copied(parts, live, &options, &stop).await {
        Ok((jobs::Ending::Complete, tables)) => (OperationState::Succeeded, String::new(), tables),
        Ok((jobs::Ending::Stopped, tables)) => {
            let (state, failure) = stopped(live);
            (state, failure, tables)
        }
        Err(Failed::Refused(why)) => (OperationState::Refused, why, None),
        Err(Failed::Stopped) => {
            let (state, failure) = stopped(live);
            (state, failure, None)
        }
        Err(Failed::Other(why)) => (OperationState::Failed, why, None),
    };
    stop.cancel();
    let _ = stopping.await;
    let outcome = outcome.map(|tables| {
        let tables = tables.into_iter().map(messages::backfill_table).collect();
        Outcome::BackfillResult(BackfillResult { tables })
    });
    live.end(state, failure, outcome);
}

/// Cancelled, or ended with its sidecar.
pub(super) fn stopped(live: &Live) -> (OperationState, String) {
    match live.halt.asked() {
        Some(_) => (OperationState::Cancelled, String::new()),
        None => (OperationState::Failed, "the sidecar was stopped; start it again".to_owned()),
    }
}

enum Failed {
    Refused(String),
    Stopped,
    Other(String),
}

type Tables = Option<Vec<TableProgress>>;

async fn copied(
    parts: &Parts,
    live: &Arc<Live>,
    options: &Options,
    stop: &CancellationToken,
) -> Result<(jobs::Ending, Tables), Failed> {
    let telling = Arc::clone(live);
    let told = move |told: Told<'_>| match told {
        Told::Checked { report, refuses } if refuses => {
            let found =
                report.findings.iter().map(|it| format!("{}: {}", it.code.as_str(), it.found));
            telling.event(Event::Note(found.collect::<Vec<_>>().join("\n")));
        }
        Told::Checked { .. } => {}
        Told::WaitsFor(Waits::Members(who)) => {
            telling.event(Event::Note(format!("waits for members: {}", who.join("; "))));
        }
        Told::WaitsFor(Waits::Transaction(who)) => {
            telling.event(Event::Note(format!("waits for a transaction to end: {who}")));
        }
    };
    let prepared = Box::pin(backfill::prepare(&parts.config, options, stop, told)).await;
    let prepared = match prepared {
        Ok(Prepared::Ready(prepared)) => prepared,
        Ok(Prepared::Refused) => {
            let why = "the preflight refuses, and nothing was begun; see `segue check`";
            return Err(Failed::Refused(why.to_owned()));
        }
        Ok(Prepared::Stopped) => return Err(Failed::Stopped),
        Err(error) if error.is_refusal() => return Err(Failed::Refused(error.to_string())),
        Err(error) => return Err(Failed::Other(error.to_string())),
    };
    let store = Arc::clone(&prepared.store);
    let shown = CancellationToken::new();
    let showing = tokio::spawn(show(Arc::clone(live), Arc::clone(&store), shown.clone()));
    let telling = Arc::clone(live);
    let observer = Arc::new(move |event: &jobs::Event| match event {
        jobs::Event::Again { id, reason } => {
            telling.event(Event::Note(format!("chunk {id} is tried again: {reason}")));
        }
        jobs::Event::Away(fault) => telling.event(Event::Note(format!("waits: {fault}"))),
        jobs::Event::Done { .. } | jobs::Event::Lost { .. } | jobs::Event::Pace(_) => {}
    });
    let ended = prepared.run(observer, stop.clone()).await;
    shown.cancel();
    let _ = showing.await;
    let tables = store.progress().await;
    let ending = ended.map_err(|error| Failed::Other(error.to_string()))?;
    Ok((ending, tables.ok()))
}

/// Tells how far it is, and each table once it is done.
async fn show(live: Arc<Live>, store: Arc<dyn ChunkStore>, stop: CancellationToken) {
    let mut done = std::collections::BTreeSet::new();
    loop {
        // The last look is after the end.
        let is_last = tokio::time::timeout(LOOK, stop.cancelled()).await.is_ok();
        if let Err(fault) = look(&live, store.as_ref(), &mut done).await {
            tracing::debug!(%fault, "the progress of a backfill cannot be read");
        }
        if is_last {
            return;
        }
    }
}

async fn look(
    live: &Live,
    store: &dyn ChunkStore,
    done: &mut std::collections::BTreeSet<i32>,
) -> Result<(), SqlFault> {
    let tables = store.progress().await?;
    let rows: u64 = tables.iter().map(|it| it.rows).sum();
    let expected: u64 = tables.iter().map(TableProgress::rows_expected).sum();
    let ended = tables.iter().filter(|it| it.is_done()).count();
    let text = format!("{ended} of {} tables, {rows} of about {expected} rows", tables.len());
    let share = (expected > 0).then(|| rows as f64 / expected as f64);
    live.progress(text, share);
    for table in tables {
        if table.is_done() && done.insert(table.table_id) {
            live.event(Event::BackfillTable(messages::backfill_table(table)));
        }
    }
    Ok(())
}
