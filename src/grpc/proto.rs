//! The generated protocol: messages, servers and clients of `proto/segue/v1`.

#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::all,
    clippy::pedantic,
    clippy::needless_pass_by_value,
    clippy::semicolon_if_nothing_returned,
    clippy::uninlined_format_args,
    clippy::large_futures
)]

tonic::include_proto!("segue.v1");

/// The compiled descriptors, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/segue_descriptor.bin"));

// For clients and tests; the server writes these messages field by field.

impl TransactionSelector {
    /// In an open transaction, which stays open; nothing where the id is empty.
    pub fn open(id: impl Into<String>) -> Option<Self> {
        let id = id.into();
        (!id.is_empty())
            .then(|| Self { selector: Some(transaction_selector::Selector::Id(id)), commit: false })
    }

    /// In a new transaction, which stays open.
    pub fn begin(options: TransactionOptions) -> Self {
        let selector = Some(transaction_selector::Selector::Begin(options));
        Self { selector, commit: false }
    }

    /// The same, and the transaction is committed.
    #[must_use]
    pub fn and_commit(self) -> Self {
        Self { commit: true, ..self }
    }
}

impl QueryResponse {
    /// Its typed rows.
    pub fn typed_rows(&self) -> Vec<Row> {
        self.rows.as_ref().map(Rows::typed_rows).unwrap_or_default()
    }

    /// Its packed rows, where there are any.
    pub fn packed_rows(&self) -> Option<&PackedRows> {
        self.rows.as_ref().and_then(Rows::packed_rows)
    }
}

impl Rows {
    /// The rows, where they are typed. What is malformed has none.
    pub fn typed_rows(&self) -> Vec<Row> {
        match &self.encoding {
            Some(rows::Encoding::Typed(rows)) => rows.rows().unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// The rows, where they are packed.
    pub fn packed_rows(&self) -> Option<&PackedRows> {
        match &self.encoding {
            Some(rows::Encoding::Packed(rows)) => Some(rows),
            _ => None,
        }
    }
}

impl ExecuteResponse {
    /// Rows inserted, updated or deleted.
    pub fn affected_rows(&self) -> u64 {
        self.result.as_ref().map_or(0, |result| result.affected_rows)
    }

    /// The typed rows of RETURNING.
    pub fn typed_rows(&self) -> Vec<Row> {
        let rows = self.result.as_ref().and_then(|result| result.rows.as_ref());
        rows.map(Rows::typed_rows).unwrap_or_default()
    }
}
