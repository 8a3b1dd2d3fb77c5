//! The protocol's enums as the words that people and JSON know.

use crate::grpc::proto;
use crate::grpc::words::word;

pub(super) use crate::grpc::words::{
    elapsed, lasting, millis, seconds, side as of_side, side_word as side,
};

pub(super) fn phase(value: i32) -> String {
    word::<proto::Phase>(value)
}

pub(super) fn mark(value: i32) -> String {
    word::<proto::GateMark>(value)
}

pub(super) fn verdict(value: i32) -> String {
    word::<proto::Verdict>(value)
}

pub(super) fn job(value: i32) -> String {
    word::<proto::JobState>(value)
}

pub(super) fn event_kind(value: i32) -> String {
    word::<proto::HistoryEventKind>(value)
}

pub(super) fn step(value: i32) -> String {
    word::<proto::CutoverStepName>(value)
}

pub(super) fn step_state(value: i32) -> String {
    word::<proto::CutoverStepState>(value)
}

pub(super) fn operation_kind(value: i32) -> String {
    word::<proto::OperationKind>(value)
}

pub(super) fn operation_state(value: i32) -> String {
    word::<proto::OperationState>(value)
}

pub(super) fn outcome(value: i32) -> String {
    word::<proto::CutoverOutcome>(value)
}
