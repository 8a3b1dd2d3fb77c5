//! The command as its users run it: usage, exit codes, output.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, BoxStream};
use segue::grpc::proto;
use segue::grpc::proto::migration_server::{Migration, MigrationServer};
use segue::grpc::proto::{
    CallStatus, GetStatusRequest, ListMismatchesRequest, ListMismatchesResponse, ListOutboxRequest,
    ListOutboxResponse, Mismatch, OutboxEntry, OutboxStatus, ResolveMismatchRequest,
    ResolveMismatchResponse, RetryOutboxRequest, RetryOutboxResponse, SamplingStatus,
    SetSamplingRequest, SetSamplingResponse, Status as Report, VerdictCount, WatchStatusRequest,
};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A sidecar that answers the same always, to whoever has the token.
#[derive(Clone, Default)]
struct Sidecar {
    mismatches: Vec<Mismatch>,
    outbox: Vec<OutboxEntry>,
    operation: Arc<Mutex<Option<proto::Operation>>>,
}

fn check<T>(request: &Request<T>) -> Result<(), Status> {
    match request.metadata().get("authorization") {
        Some(token) if token == "Bearer t0ken" => Ok(()),
        _ => Err(Status::unauthenticated("the call brings no token, or a wrong one")),
    }
}

#[tonic::async_trait]
impl Migration for Sidecar {
    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        check(&request)?;
        Ok(Response::new(proto::GetStatusResponse { status: Some(report()) }))
    }

    async fn start_cutover(
        &self,
        request: Request<proto::StartCutoverRequest>,
    ) -> Result<Response<proto::StartCutoverResponse>, Status> {
        check(&request)?;
        let asked = request.into_inner();
        let pause_max = asked.pause_max.map(|it| it.nanos / 1_000_000);
        let to_target = asked.to() == proto::Side::Target;
        assert_eq!((asked.rehearse, pause_max), (to_target, Some(800)), "{asked:?}");
        // Its answer is lost once; the call comes again with the same id.
        let mut known = self.operation.lock().unwrap();
        if known.as_ref().is_none_or(|it| it.id != asked.operation_id) {
            *known = Some(operation(&asked));
            return Err(Status::unavailable("the connection is lost"));
        }
        Ok(Response::new(proto::StartCutoverResponse { operation: known.clone() }))
    }

    async fn start_backfill(
        &self,
        _: Request<proto::StartBackfillRequest>,
    ) -> Result<Response<proto::StartBackfillResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn start_verify(
        &self,
        _: Request<proto::StartVerifyRequest>,
    ) -> Result<Response<proto::StartVerifyResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn get_operation(
        &self,
        _: Request<proto::GetOperationRequest>,
    ) -> Result<Response<proto::GetOperationResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn list_operations(
        &self,
        _: Request<proto::ListOperationsRequest>,
    ) -> Result<Response<proto::ListOperationsResponse>, Status> {
        Ok(Response::new(proto::ListOperationsResponse::default()))
    }

    async fn cancel_operation(
        &self,
        request: Request<proto::CancelOperationRequest>,
    ) -> Result<Response<proto::CancelOperationResponse>, Status> {
        assert!(!request.get_ref().actor.is_empty(), "{request:?}");
        Err(Status::failed_precondition("the switch was made"))
    }

    type WatchOperationStream = BoxStream<'static, Result<proto::WatchOperationResponse, Status>>;

    /// The first stream breaks after its first event; the next one goes on after that.
    async fn watch_operation(
        &self,
        request: Request<proto::WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        let after = request.get_ref().after_event;
        let ended = self.operation.lock().unwrap().clone().unwrap();
        let answer = |step: proto::CutoverStepName, number| {
            let event = proto::operation_event::Event::CutoverStep(proto::CutoverStep {
                name: step.into(),
                state: proto::CutoverStepState::Done.into(),
                took: Some(prost_types::Duration { seconds: 0, nanos: 6_700_000 }),
                detail: "no writer is left".to_owned(),
            });
            let event = proto::OperationEvent { number, at: None, event: Some(event) };
            let mut operation = ended.clone();
            if number == 1 {
                operation.state = proto::OperationState::Running.into();
            }
            proto::WatchOperationResponse { events: vec![event], operation: Some(operation) }
        };
        let answers = match after {
            0 => vec![
                Ok(answer(proto::CutoverStepName::Pause, 1)),
                Err(Status::unavailable("the connection is lost")),
            ],
            1 => vec![Ok(answer(proto::CutoverStepName::Fence, 2))],
            other => panic!("an event after {other} was asked for"),
        };
        Ok(Response::new(Box::pin(stream::iter(answers))))
    }

    type WatchStatusStream = BoxStream<'static, Result<proto::WatchStatusResponse, Status>>;

    async fn watch_status(
        &self,
        request: Request<WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        check(&request)?;
        let status = || Ok(proto::WatchStatusResponse { status: Some(report()) });
        Ok(Response::new(Box::pin(stream::iter([status(), status()]))))
    }

    async fn list_mismatches(
        &self,
        request: Request<ListMismatchesRequest>,
    ) -> Result<Response<ListMismatchesResponse>, Status> {
        check(&request)?;
        Ok(Response::new(ListMismatchesResponse {
            mismatches: self.mismatches.clone(),
            ..Default::default()
        }))
    }

    async fn resolve_mismatch(
        &self,
        request: Request<ResolveMismatchRequest>,
    ) -> Result<Response<ResolveMismatchResponse>, Status> {
        check(&request)?;
        let asked = request.into_inner();
        assert!(!asked.reason.is_empty() && !asked.actor.is_empty(), "{asked:?}");
        match asked.fingerprint.as_str() {
            "ab12" => Ok(Response::new(ResolveMismatchResponse { resolved: 1 })),
            _ => Err(Status::not_found("no open entry of the list has that fingerprint")),
        }
    }

    async fn list_outbox(
        &self,
        request: Request<ListOutboxRequest>,
    ) -> Result<Response<ListOutboxResponse>, Status> {
        check(&request)?;
        Ok(Response::new(ListOutboxResponse { entries: self.outbox.clone(), ..Default::default() }))
    }

    async fn retry_outbox(
        &self,
        request: Request<RetryOutboxRequest>,
    ) -> Result<Response<RetryOutboxResponse>, Status> {
        check(&request)?;
        match request.get_ref().table.as_str() {
            "public.orders" => Ok(Response::new(RetryOutboxResponse { made_due: 1234 })),
            _ => Err(Status::failed_precondition("public.nothing is not migrated")),
        }
    }

    async fn set_sampling(
        &self,
        _: Request<SetSamplingRequest>,
    ) -> Result<Response<SetSamplingResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn get_phase(
        &self,
        _: Request<proto::GetPhaseRequest>,
    ) -> Result<Response<proto::GetPhaseResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    /// A step is judged by its reason.
    async fn change_phase(
        &self,
        request: Request<proto::ChangePhaseRequest>,
    ) -> Result<Response<proto::ChangePhaseResponse>, Status> {
        let mark = match request.into_inner().reason.as_str() {
            "pass" => proto::GateMark::Pass,
            "fail" => proto::GateMark::Fail,
            _ => proto::GateMark::Inconclusive,
        };
        let done = mark == proto::GateMark::Pass;
        let (mark, phase) = (mark.into(), proto::Phase::DualWrite.into());
        let answer =
            proto::ChangePhaseResponse { done, mark, phase, epoch: 2, ..Default::default() };
        Ok(Response::new(answer))
    }

    async fn list_foreign_writers(
        &self,
        _: Request<proto::ListForeignWritersRequest>,
    ) -> Result<Response<proto::ListForeignWritersResponse>, Status> {
        Ok(Response::new(proto::ListForeignWritersResponse::default()))
    }

    async fn resolve_foreign_writers(
        &self,
        _: Request<proto::ResolveForeignWritersRequest>,
    ) -> Result<Response<proto::ResolveForeignWritersResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn list_history(
        &self,
        _: Request<proto::ListHistoryRequest>,
    ) -> Result<Response<proto::ListHistoryResponse>, Status> {
        Ok(Response::new(proto::ListHistoryResponse::default()))
    }
}

/// One that has ended.
fn operation(asked: &proto::StartCutoverRequest) -> proto::Operation {
    let (outcome, state) = match asked.rehearse {
        true => (proto::CutoverOutcome::Rehearsed, proto::OperationState::Succeeded),
        false => (proto::CutoverOutcome::CalledOff, proto::OperationState::Failed),
    };
    let failure = if asked.rehearse { "" } else { "a transaction stays open" };
    let result = proto::CutoverResult {
        outcome: outcome.into(),
        reason: failure.to_owned(),
        phase: proto::Phase::Shift.into(),
        epoch: 3,
        paused: Some(prost_types::Duration { seconds: 0, nanos: 219_600_000 }),
        ..proto::CutoverResult::default()
    };
    proto::Operation {
        id: asked.operation_id.clone(),
        state: state.into(),
        failure: failure.to_owned(),
        result: Some(proto::operation::Result::CutoverResult(result)),
        ..proto::Operation::default()
    }
}

fn report() -> Report {
    Report {
        version: "0.1.0".to_owned(),
        phase: proto::Phase::ShadowRead.into(),
        epoch: 3,
        phase_reason: "init".to_owned(),
        outbox: Some(OutboxStatus {
            pending: 1500,
            stuck: 2,
            oldest_age: Some(prost_types::Duration { seconds: 12, nanos: 0 }),
            bytes: 131_072,
            pending_bytes: 65_536,
            max_bytes: 1 << 30,
            ..OutboxStatus::default()
        }),
        sampling: Some(SamplingStatus {
            rate: 0.1,
            sampled_total: 1234,
            dropped: [("concurrency".to_owned(), 7)].into(),
        }),
        verdicts: vec![VerdictCount { verdict: proto::Verdict::Match.into(), count: 1234 }],
        reads: Some(CallStatus {
            total: 20_000,
            failed: 1,
            p50: Some(prost_types::Duration { seconds: 0, nanos: 500_000 }),
            p99: Some(prost_types::Duration { seconds: 0, nanos: 2_250_000 }),
        }),
        warnings: vec!["2 keys are stuck; see `segue outbox --stuck`".to_owned()],
        ..Report::default()
    }
}

struct Running {
    address: SocketAddr,
    folder: tempfile::TempDir,
}

async fn running(sidecar: Sidecar) -> Running {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let service = MigrationServer::new(sidecar);
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "t0ken\n").unwrap();
    Running { address, folder }
}

impl Running {
    async fn run(&self, arguments: &[&str]) -> Output {
        let token = self.folder.path().join("token");
        let set = format!("listen.admin_token_file={}", token.display());
        let address = self.address.to_string();
        let common = ["--admin", &address, "--set", &set];
        self.run_plain(&[&common, arguments].concat()).await
    }

    async fn run_plain(&self, arguments: &[&str]) -> Output {
        let folder = self.folder.path().to_owned();
        let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
        let run = move || segue_in(&folder, &arguments);
        tokio::task::spawn_blocking(run).await.unwrap()
    }
}

/// Without the environment of whoever runs the tests.
fn segue_in(folder: &Path, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_segue"))
        .env_clear()
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn mismatch(verdict: proto::Verdict, count: u64) -> Mismatch {
    Mismatch {
        verdict: verdict.into(),
        count,
        statement: "SELECT 1".to_owned(),
        ..Mismatch::default()
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["serv"][..],
        &[],
        &["status", "--jsn"],
        &["--set", "no-value", "status"],
        &["init", "--phase", "source_only"],
        &["init", "--phase=dual"],
        &["init", "--phase"],
        &["mismatches", "--limit", "0"],
    ] {
        let output = segue_in(folder.path(), arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {}", err(&output));
    }
    let output = segue_in(folder.path(), &["phase", "advance", "--to", "dual"]);
    assert!(err(&output).contains("the phases are source_only, dual_write"), "{}", err(&output));
    for former in [&["init", "--phase", "dual_write"][..], &["init", "--phase"]] {
        let told = err(&segue_in(folder.path(), former));
        for part in ["leaves the phase as it is", "`segue phase advance`", "`segue phase back`"] {
            assert!(told.contains(part), "{former:?}: {told}");
        }
    }
    assert!(!out(&segue_in(folder.path(), &["init", "--help"])).contains("--phase"));
    assert_eq!(code(&segue_in(folder.path(), &["--help"])), 0);
    assert!(out(&segue_in(folder.path(), &["--version"])).starts_with("segue "));
}

#[test]
fn faults_of_the_configuration_come_all_at_once_and_end_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let file =
        "[source]\ndsn = \"postgres://a:hunter2@h/d\"\n[outbox]\nmax_byte = 1\ndeadline = 5\n";
    std::fs::write(folder.path().join("segue.toml"), file).unwrap();
    for command in [&["config", "check"][..], &["serve"], &["init"], &["capture", "install"]] {
        let output = segue_in(folder.path(), command);
        assert_eq!(code(&output), 1, "{command:?}");
        let told = err(&output);
        assert!(told.contains("the configuration has 4 faults"), "{told}");
        assert!(told.contains("\n  segue.toml:4: outbox.max_byte: unknown key"), "{told}");
        assert!(told.contains("\n  segue.toml:5: outbox.deadline = \"5\": a duration"), "{told}");
        assert!(told.contains("\n  target.host: nothing says where"), "{told}");
    }
    let output = segue_in(folder.path(), &["--config", "none.toml", "config", "check"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("none.toml:1: the file cannot be read"), "{}", err(&output));
}

#[test]
fn the_effective_configuration_is_printed_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = "[source]\ndsn = \"postgres://a:hunter2@h/d\"\n[target]\ndsn = \"postgres://a@i/d\"\npassword = \"hunter3\"\n";
    std::fs::write(folder.path().join("segue.toml"), file).unwrap();
    let output = segue_in(folder.path(), &["config", "check", "--set", "sampling.rate=0.5"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let text = out(&output);
    assert!(!text.contains("hunter"), "{text}");
    let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert!(line("sampling.rate").ends_with("--set sampling.rate"), "{text}");
    assert!(line("source.dsn").contains("password=[redacted]"), "{text}");
    assert!(line("source.dsn").ends_with("segue.toml:2"), "{text}");
    assert!(line("outbox.max_bytes").contains("= \"1GiB\""), "{text}");
}

#[test]
fn nobody_listening_ends_with_1_and_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let output = segue_in(folder.path(), &["--admin", "127.0.0.1:1", "status"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("no segue answers at 127.0.0.1:1; start it"), "{}", err(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_for_people_and_for_programs() {
    let sidecar = running(Sidecar::default()).await;
    let output = sidecar.run(&["status"]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    let expected = "\
phase     shadow_read (epoch 3): init
calls     20,000 reads, 1 failed, p50 0.50 ms, p99 2.25 ms
          no writes yet
outbox    1,500 rows waiting, the oldest for 12 s, 2 stuck; 64.0 KiB of 1.0 GiB
          no keys reconciled by this sidecar; 128.0 KiB on disk
backfill  none yet
verified  never
samples   10 % of reads; 1,234 samples, dropped: 7 concurrency
verdicts  1,234 match
! 2 keys are stuck; see `segue outbox --stuck`
segue 0.1.0 at -

";
    assert_eq!(out(&output), expected);
    let output = sidecar.run(&["status", "--json", "--watch"]).await;
    let lines: Vec<serde_json::Value> =
        out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["outbox"]["pending"], 1500);
    assert_eq!(lines[0]["verdicts"]["match"], 1234);
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_end_with_3_and_noise_does_not() {
    let quiet =
        Sidecar { mismatches: vec![mismatch(proto::Verdict::Noise, 5)], ..Sidecar::default() };
    let output = running(quiet).await.run(&["mismatches"]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).starts_with("no differences in 1,234 samples"), "{}", out(&output));

    let mismatches = vec![
        mismatch(proto::Verdict::Noise, 50),
        mismatch(proto::Verdict::Data, 1),
        mismatch(proto::Verdict::Incompatible, 7),
    ];
    let found = running(Sidecar { mismatches, ..Sidecar::default() }).await;
    let output = found.run(&["mismatches"]).await;
    assert_eq!(code(&output), 3);
    let text = out(&output);
    assert!(text.starts_with("2 findings to look at"), "{text}");
    assert!(
        text.contains("\n1. incompatible: 7 times") && text.contains("\n2. data: 1 time"),
        "{text}"
    );
    let output = found.run(&["mismatches", "--json"]).await;
    assert_eq!(code(&output), 3);
    let documents: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(documents[0]["verdict"], "incompatible");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_and_its_retry() {
    let entry = OutboxEntry {
        table: "public.orders".to_owned(),
        key: vec!["7".to_owned()],
        ..OutboxEntry::default()
    };
    let sidecar = running(Sidecar { outbox: vec![entry], ..Sidecar::default() }).await;
    let output = sidecar.run(&["outbox"]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("public.orders"), "{}", out(&output));
    let output = sidecar.run(&["outbox", "retry", "--table", "public.orders"]).await;
    assert_eq!(out(&output), "1,234 rows made due now\n");
    let output = sidecar.run(&["outbox", "retry", "--table", "public.nothing"]).await;
    assert_eq!(
        (code(&output), err(&output)),
        (4, "segue: public.nothing is not migrated\n".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_token_is_refused_with_4() {
    let sidecar = running(Sidecar::default()).await;
    let output = sidecar.run_plain(&["--admin", &sidecar.address.to_string(), "status"]).await;
    assert_eq!(code(&output), 4);
    assert!(err(&output).contains("listen.admin_token_file"), "{}", err(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_are_resolved_with_a_reason() {
    let sidecar = running(Sidecar::default()).await;
    let output = sidecar.run(&["mismatches", "resolve", "ab12", "--reason", "as agreed"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "resolved: 1 of the list\n");
    let output = sidecar.run(&["mismatches", "resolve", "cd34", "--reason", "no"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for wrong in [
        &["mismatches", "resolve", "ab12"][..],
        &["mismatches", "resolve", "ab12", "--reason", "x", "--verdict", "wrong"],
    ] {
        assert_eq!(sidecar.run(wrong).await.status.code(), Some(2), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gates_say_is_told_by_the_exit_code() {
    let sidecar = running(Sidecar::default()).await;
    for (mark, expected) in [("pass", 0), ("fail", 4), ("inconclusive", 5)] {
        let output = sidecar.run(&["phase", "advance", "--reason", mark]).await;
        assert_eq!(code(&output), expected, "{mark}: {}{}", out(&output), err(&output));
    }
    let output = sidecar.run(&["phase", "advance", "--to", "nowhere"]).await;
    assert_eq!(code(&output), 2, "{}", err(&output));
    let output = sidecar.run(&["history"]).await;
    assert_eq!(out(&output), "nothing was changed yet\n");
}

#[tokio::test]
async fn a_cutover_is_told_step_by_step_and_ends_as_it_ended_through_a_lost_connection() {
    let running = running(Sidecar::default()).await;
    let rehearsed = running.run(&["cutover", "--rehearse", "--max-pause", "800ms"]).await;
    let told = String::from_utf8_lossy(&rehearsed.stdout).into_owned();
    assert_eq!(rehearsed.status.code(), Some(0), "{told}");
    assert!(told.starts_with("operation ") && told.contains("\npause "), "{told}");
    assert_eq!(told.matches("6.7 ms").count(), 2, "each event once: {told}");
    assert!(told.contains("fence        6.7 ms\n    no writer is left\n"), "{told}");
    assert!(told.contains("rehearsed: phase shift, epoch 3") && told.contains("220 ms"), "{told}");
    let off = running.run(&["rollback", "--yes", "--json", "--max-pause", "800ms"]).await;
    assert_eq!(off.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&off.stderr).contains("a transaction stays open"));
    let lines: Vec<serde_json::Value> =
        out(&off).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<&str> = lines.iter().map(|it| it["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["started", "step", "step", "end"], "{lines:?}");
    assert_eq!((&lines[1]["number"], &lines[2]["number"]), (&1.into(), &2.into()));
    assert_eq!(lines[3]["operation"], lines[0]["operation"], "the id is told first");
    // Without a word nothing is done where nobody can be asked.
    let unasked = running.run(&["cutover", "--max-pause", "800ms"]).await;
    assert_eq!(unasked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unasked.stderr).contains("--yes"));
    let cancel = ["operation", "cancel", "0b2f0f53-6a4e-4c11-9d4b-5e7a3f1c2d00", "--actor", "me"];
    let late = running.run(&cancel).await;
    assert_eq!((code(&late), err(&late)), (4, "segue: the switch was made\n".to_owned()));
    let listed = running.run(&["operation", "list"]).await;
    assert_eq!(out(&listed), "no operation was started yet\n");
}
