//! The status as a message.

use crate::domain::backfill::{TableProgress, WorkerProgress};
use crate::domain::status::{
    CallStatus, FoldedTable, OutboxStatus, StatusReport, TableProven, VerifyStatus,
};
use crate::grpc::words::{at, of_millis, of_seconds};
use crate::grpc::{phases, proto};

pub(super) fn report(report: StatusReport) -> proto::Status {
    let StatusReport { control, outbox, sampling, backfill, .. } = report;
    let verdicts = report.verdicts.into_iter().map(|(verdict, count)| proto::VerdictCount {
        verdict: proto::Verdict::from(verdict).into(),
        count,
    });
    proto::Status {
        version: crate::telemetry::VERSION.to_owned(),
        at: at(report.at),
        phase: proto::Phase::from(control.phase).into(),
        epoch: control.epoch,
        phase_since: report.phase_since.and_then(at),
        phase_reason: report.phase_reason,
        warnings: report.warnings,
        reads: Some(calls(report.reads)),
        writes: Some(calls(report.writes)),
        outbox: Some(outbox_status(&outbox)),
        backfill: backfill.tables.into_iter().map(backfill_table).collect(),
        backfill_workers: backfill.workers.into_iter().map(backfill_worker).collect(),
        verify: Some(verify(report.verify)),
        sampling: Some(proto::SamplingStatus {
            rate: sampling.rate,
            sampled_total: sampling.sampled_total,
            dropped: sampling.dropped.into_iter().collect(),
        }),
        verdicts: verdicts.collect(),
        fleet: report.fleet.map(phases::fleet),
    }
}

fn outbox_status(outbox: &OutboxStatus) -> proto::OutboxStatus {
    proto::OutboxStatus {
        pending: outbox.pending,
        stuck: outbox.stuck,
        oldest_age: of_seconds(outbox.oldest_age_s),
        bytes: outbox.bytes,
        pending_bytes: outbox.pending_bytes,
        max_bytes: outbox.bytes_max,
        reconciled_total: outbox.reconciled_total,
        failed_total: outbox.failed_total,
        folded: outbox.folded.iter().map(folded_table).collect(),
    }
}

fn folded_table(table: &FoldedTable) -> proto::FoldedTable {
    proto::FoldedTable {
        table: table.table.clone(),
        keys: table.keys,
        oldest_age: of_seconds(table.since_s),
        rows: table.rows,
        keys_seen: table.keys_seen,
        remaining: table.left_s().and_then(of_seconds),
        ranges: table.ranges,
        ranges_total: table.ranges_of,
    }
}

pub(super) fn backfill_table(table: TableProgress) -> proto::BackfillTable {
    proto::BackfillTable {
        rows_expected: table.rows_expected(),
        done: table.is_done(),
        table: table.table,
        rows: table.rows,
        bytes: table.bytes,
        chunks: table.chunks,
        chunks_done: table.chunks_done,
        chunks_claimed: table.chunks_claimed,
        reconciled: table.reconciled,
        failed: table.failed,
    }
}

fn backfill_worker(worker: WorkerProgress) -> proto::BackfillWorker {
    let WorkerProgress { host, workers, alive, throttled, share } = worker;
    proto::BackfillWorker { host, workers, alive, throttled, share }
}

fn verify(status: VerifyStatus) -> proto::VerifyStatus {
    proto::VerifyStatus {
        chunks: status.chunks,
        proven: status.proven,
        written: status.written,
        oldest_age: of_seconds(status.oldest_age_s),
        tables: status.tables.into_iter().map(table_proof).collect(),
    }
}

pub(super) fn table_proof(proven: TableProven) -> proto::TableProof {
    proto::TableProof {
        table: proven.table.to_string(),
        chunks: proven.chunks,
        proven: proven.proven,
        oldest: proven.oldest.and_then(at),
        oldest_age: of_seconds(proven.oldest_age_s),
        rows_under_fence: proven.rows_under_fence,
        void_reason: proven.void_reason,
    }
}

fn calls(calls: CallStatus) -> proto::CallStatus {
    let CallStatus { total, failed, p50_ms, p99_ms } = calls;
    proto::CallStatus { total, failed, p50: of_millis(p50_ms), p99: of_millis(p99_ms) }
}
