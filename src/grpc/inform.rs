//! What callers can ask about statements and about the sidecar itself.

use std::time::Duration;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::grpc::call::Call;
use crate::grpc::sql::SqlService;
use crate::grpc::{answer, pipeline, proto, request, status};

/// What this sidecar can do.
const FEATURES: [proto::Feature; 6] = [
    proto::Feature::Pipeline,
    proto::Feature::PackedRows,
    proto::Feature::InlineTransactions,
    proto::Feature::CumulativeTokens,
    proto::Feature::IdempotencyKeys,
    proto::Feature::NamedStatements,
];

impl SqlService {
    pub(super) async fn run_describe(
        &self,
        call: &Call,
        given: proto::DescribeRequest,
    ) -> Result<proto::DescribeResponse, SqlFault> {
        let statement = request::statement(given.statement)?;
        let described = self.stack().describe(statement);
        let described = tokio::time::timeout_at(call.deadline().into(), described)
            .await
            .map_err(|_| deadline_passed())??;
        let sides = described.sides.into_iter().map(|(side, result)| {
            let side = status::side(side).into();
            match result {
                Ok(description) => proto::SideDescription {
                    side,
                    parameter_types: description
                        .parameters
                        .iter()
                        .map(|ty| ty.name.clone())
                        .collect(),
                    columns: answer::columns(&description.columns),
                    error: None,
                },
                Err(fault) => proto::SideDescription {
                    side,
                    error: Some(status::of_fault(&fault, None).1),
                    ..proto::SideDescription::default()
                },
            }
        });
        Ok(proto::DescribeResponse { sides: sides.collect() })
    }

    pub(super) fn run_info(&self) -> proto::InfoResponse {
        let control = self.stack().control();
        let params = self.params();
        proto::InfoResponse {
            version: crate::telemetry::VERSION.to_owned(),
            phase: proto::Phase::from(control.phase).into(),
            epoch: control.epoch,
            limits: Some(proto::Limits {
                max_result_rows: params.result.rows_max,
                max_result_bytes: params.result.bytes_max,
                max_request_bytes: params.message_bytes_max as u64,
                max_parameters: params.parameters_max,
                max_batch_statements: params.batch_statements_max,
                max_transaction_idle: Some(duration(params.transaction_idle_max)),
                max_transaction_total: Some(duration(params.transaction_total_max)),
                max_open_transactions: params.transactions_max,
                named_statements_only: params.named_only,
                max_pipeline_calls: pipeline::CALLS_MAX as u32,
            }),
            features: FEATURES.map(i32::from).to_vec(),
        }
    }
}

/// The longest that the message holds stands for what is longer.
fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration)
        .unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}

fn deadline_passed() -> SqlFault {
    SqlFault::new(FaultKind::DeadlineExceeded, Reason::Deadline, "the deadline passed")
}
