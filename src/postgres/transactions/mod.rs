//! Transactions that span calls.

mod held;

pub(super) use held::Held;
