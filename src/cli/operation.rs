//! `segue operation`: operations that were started by a call, followed across lost connections and
//! restarts.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use crate::cli::Ending;
use crate::cli::admin::Client;
use crate::cli::operation_text::{
    document, event_document, is_shown, result_document, told, told_end,
};
use crate::cli::phase_args::{AskedArgs, ReachArgs};
use crate::cli::print::{self, table, time};
use crate::cli::words;
use crate::grpc::proto::operation::Result as Outcome;
use crate::grpc::proto::{
    CancelOperationRequest, GateMark, ListOperationsRequest, Operation, OperationState,
    StartBackfillRequest, StartVerifyRequest, WatchOperationRequest,
};

/// Between two attempts to reach the sidecar again.
const AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(super) enum OperationCommand {
    /// List operations, latest first
    List {
        /// How many to show
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the events of an operation until it ends; whichever sidecar runs it
    Watch {
        /// The id that was printed when it was started; see `segue operation list`
        id: String,
        /// Only events with a higher number
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Each event as a line of JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: ReachArgs,
    },
    /// Cancel an operation: a cutover until its switch, a backfill or verify at any time
    ///
    /// What was copied or proven stands. A cutover that is cancelled has changed nothing.
    Cancel {
        /// The id that was printed when it was started; see `segue operation list`
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// Copy tables in the sidecar instead of in this command, with its workers and limits
    Backfill {
        /// Only this table of the source; may be given several times
        #[arg(long = "table", value_name = "SCHEMA.TABLE")]
        tables: Vec<String>,
        /// Empty the target's tables of this copy first, and forget what was copied before
        #[arg(long)]
        empty_target: bool,
        /// Each event as a line of JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: ReachArgs,
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// Compare rows in the sidecar instead of in this command
    Verify {
        /// Only this table; may be given several times
        #[arg(long = "table", value_name = "SCHEMA.TABLE")]
        tables: Vec<String>,
        /// Reconcile rows that differ, and verify them again
        #[arg(long)]
        repair: bool,
        /// Each event as a line of JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: ReachArgs,
        #[command(flatten)]
        asked: AskedArgs,
    },
}

pub(super) async fn run(client: &mut Client, command: OperationCommand) -> Result<Ending> {
    match command {
        OperationCommand::List { limit, json } => list(client, limit, json).await,
        OperationCommand::Watch { id, after, json, reach } => {
            follow(client, &id, after, (json, reach)).await
        }
        OperationCommand::Cancel { id, json, asked } => cancel(client, id, json, asked).await,
        OperationCommand::Backfill { tables, empty_target, json, reach, asked } => {
            let AskedArgs { actor, reason } = asked;
            let (operation_id, accept) = (new_id(), Vec::new());
            let request =
                StartBackfillRequest { operation_id, tables, empty_target, accept, actor, reason };
            let id = started((json, reach), &mut *client, async |client: &mut Client| {
                Ok(client.start_backfill(request.clone()).await?.into_inner().operation)
            })
            .await?;
            follow(client, &id, 0, (json, reach)).await
        }
        OperationCommand::Verify { tables, repair, json, reach, asked } => {
            let AskedArgs { actor, reason } = asked;
            let (operation_id, sample) = (new_id(), 0.0);
            let request =
                StartVerifyRequest { operation_id, tables, sample, repair, actor, reason };
            let id = started((json, reach), &mut *client, async |client: &mut Client| {
                Ok(client.start_verify(request.clone()).await?.into_inner().operation)
            })
            .await?;
            follow(client, &id, 0, (json, reach)).await
        }
    }
}

/// An id for a new operation. Chosen here, a call whose answer was lost can be sent again.
pub(super) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Starts an operation, again where the answer was lost, and says its id.
pub(super) async fn started(
    (json, reach): (bool, ReachArgs),
    client: &mut Client,
    start: impl AsyncFn(&mut Client) -> Result<Option<Operation>, Status>,
) -> Result<String> {
    let until = Instant::now() + reach.reconnect;
    let operation = loop {
        match start(client).await {
            Ok(operation) => break operation.unwrap_or_default(),
            Err(status) if is_lost(&status) && Instant::now() < until => sleep(AGAIN).await,
            Err(status) => return Err(status.into()),
        }
    };
    let id = operation.id;
    print::out(&match json {
        true => format!("{}\n", json!({ "event": "started", "operation": id })),
        false => format!("operation {id}\n"),
    });
    Ok(id)
}

/// The connection was lost, or the sidecar stops: the operation does not end by that.
fn is_lost(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal)
}

/// Shows the events of an operation until it ends, through lost connections.
pub(super) async fn follow(
    client: &mut Client,
    id: &str,
    after: u64,
    (json, reach): (bool, ReachArgs),
) -> Result<Ending> {
    let (mut last, mut heard) = (after, Instant::now());
    loop {
        match follow_once(client, id, &mut last, json, &mut heard).await {
            Ok(Some(operation)) => return ended(&operation, json),
            Ok(None) => {}
            Err(status) if is_lost(&status) => {
                if heard.elapsed() > reach.reconnect {
                    bail!(
                        "no sidecar was reached for {:?}: {}; the operation does not end by \
                         that, see `segue operation watch {id}`",
                        reach.reconnect,
                        status.message()
                    );
                }
            }
            Err(status) => return Err(status.into()),
        }
        sleep(AGAIN).await;
    }
}

/// Answers the operation where it has ended, and nothing where only the stream has.
async fn follow_once(
    client: &mut Client,
    id: &str,
    last: &mut u64,
    json: bool,
    heard: &mut Instant,
) -> Result<Option<Operation>, Status> {
    let request = WatchOperationRequest { id: id.to_owned(), after_event: *last };
    let mut stream = client.watch_operation(request).await?.into_inner();
    let mut now = None;
    while let Some(answer) = stream.message().await? {
        *heard = Instant::now();
        for event in answer.events {
            *last = event.number;
            match json {
                true => print::out(&format!("{}\n", event_document(&event))),
                false if is_shown(&event) => print::out(&told(&event)),
                false => {}
            }
        }
        now = answer.operation;
    }
    Ok(now.filter(|it| it.state() != OperationState::Running))
}

fn ended(operation: &Operation, json: bool) -> Result<Ending> {
    print::out(&match json {
        true => format!("{}\n", result_document(operation)),
        false => told_end(operation),
    });
    let failure = &operation.failure;
    Ok(match (operation.state(), &operation.result) {
        (OperationState::Succeeded, Some(Outcome::VerifyResult(result))) if !result.equal => {
            Ending::Differences
        }
        (OperationState::Succeeded, Some(Outcome::BackfillResult(result)))
            if result.tables.iter().any(|it| it.failed > 0) =>
        {
            Ending::Differences
        }
        (OperationState::Succeeded, _) => Ending::Done,
        (OperationState::Refused, Some(Outcome::CutoverResult(result)))
            if result.mark() == GateMark::Inconclusive =>
        {
            Ending::Inconclusive
        }
        (OperationState::Refused, Some(Outcome::CutoverResult(_))) => Ending::Refused,
        (OperationState::Refused, _) => return Err(crate::cli::Refused(failure.clone()).into()),
        (OperationState::Failed, Some(Outcome::CutoverResult(_))) => {
            bail!("called off: {failure}")
        }
        (OperationState::Cancelled, _) => bail!("{}", cancelled(operation)),
        _ => bail!("{failure}"),
    })
}

fn cancelled(operation: &Operation) -> String {
    let asked = operation.cancellation.clone().unwrap_or_default();
    let why = if asked.reason.is_empty() { String::new() } else { format!(": {}", asked.reason) };
    format!("cancelled by {}{why}", asked.actor)
}

async fn cancel(client: &mut Client, id: String, json: bool, asked: AskedArgs) -> Result<Ending> {
    let AskedArgs { actor, reason } = asked;
    let request = CancelOperationRequest { id, actor, reason };
    let answer = client.cancel_operation(request).await?.into_inner();
    let operation = answer.operation.unwrap_or_default();
    let is_over = operation.state() == OperationState::Cancelled;
    print::out(&match (json, is_over) {
        (true, _) => format!("{}\n", document(&operation)),
        (false, true) => format!("operation {} is cancelled\n", operation.id),
        (false, false) => {
            format!("operation {} is to be cancelled and has not ended yet\n", operation.id)
        }
    });
    Ok(if is_over { Ending::Done } else { Ending::Incomplete })
}

async fn list(client: &mut Client, limit: u32, json: bool) -> Result<Ending> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    while let Some(page_size) = print::left_of(limit, found.len()) {
        let request = ListOperationsRequest { page_size, page_token };
        let page = client.list_operations(request).await?.into_inner();
        found.extend(page.operations);
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    if json {
        let documents: Vec<Value> = found.iter().map(document).collect();
        print::out(&format!("{}\n", Value::Array(documents)));
    } else if found.is_empty() {
        print::out("no operation was started yet\n");
    } else {
        let row = |it: &Operation| {
            let (kind, state) = (words::operation_kind(it.kind), words::operation_state(it.state));
            vec![it.id.clone(), kind, state, time(it.created_at), it.actor.clone()]
        };
        let rows: Vec<_> = found.iter().map(row).collect();
        print::out(&table(&["id", "kind", "state", "started", "actor"], &rows));
    }
    Ok(Ending::Done)
}
