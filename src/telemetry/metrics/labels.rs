//! The words by which numbers are told apart.

use prometheus_client::encoding::EncodeLabelSet;

/// Longest label that is taken from outside; what is longer would be no label but a message.
const LABEL_LEN_MAX: usize = 64;

/// A call of the `Sql` service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// `Query`.
    Query,
    /// `Execute`.
    Execute,
    /// `Batch`.
    Batch,
    /// `Begin`.
    Begin,
    /// `Commit`.
    Commit,
    /// `Rollback`.
    Rollback,
    /// `Describe`.
    Describe,
    /// `Info`.
    Info,
}

/// What a statement was run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// A caller's read.
    Read,
    /// A caller's write.
    Write,
    /// A sampled read on the shadow.
    Shadow,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct CallLabels {
    pub(super) method: &'static str,
    pub(super) code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct MethodLabels {
    pub(super) method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct StatementLabels {
    pub(super) side: &'static str,
    pub(super) purpose: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct VerdictLabels {
    pub(super) verdict: &'static str,
    pub(super) category: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct ReasonLabels {
    pub(super) reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct TableLabels {
    pub(super) table: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct WriterLabels {
    pub(super) role: String,
    pub(super) application: String,
    pub(super) address: String,
    pub(super) table: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct ChunkLabels {
    pub(super) table: String,
    pub(super) state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
pub(super) struct PhaseLabels {
    pub(super) phase: &'static str,
}

// === impl Method ===

impl Method {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Query,
        Self::Execute,
        Self::Batch,
        Self::Begin,
        Self::Commit,
        Self::Rollback,
        Self::Describe,
        Self::Info,
    ];

    /// The method's name in the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Query => "Query",
            Self::Execute => "Execute",
            Self::Batch => "Batch",
            Self::Begin => "Begin",
            Self::Commit => "Commit",
            Self::Rollback => "Rollback",
            Self::Describe => "Describe",
            Self::Info => "Info",
        }
    }
}

// === impl Purpose ===

impl Purpose {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Shadow];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Shadow => "shadow",
        }
    }
}

// === impl ReasonLabels ===

impl ReasonLabels {
    pub(super) fn new(reason: &str) -> Self {
        Self { reason: label(reason) }
    }
}

/// A name from outside as a label, as much of it as one may have. Whoever uses it bounds the number
/// of series.
pub(super) fn named(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).take(LABEL_LEN_MAX).collect()
}

/// A reason as a label. Messages of a database must not become series, one for each value in
/// them, so whatever does not look like a name counts as `other`.
pub(super) fn label(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if text.len() <= LABEL_LEN_MAX && text.bytes().all(plain) {
        text.to_owned()
    } else {
        "other".to_owned()
    }
}
