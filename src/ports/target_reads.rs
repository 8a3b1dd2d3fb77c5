//! Reads on the target, put off while it is between two states that the primary had.

use futures_util::future::BoxFuture;

use crate::domain::control::{ControlRow, Version};
use crate::domain::fault::SqlFault;

/// Puts reads of the whole fleet off and lets them on again.
pub trait TargetReads: Send + Sync + 'static {
    /// Puts them off in this member's name, if the control row is still this one, and waits until
    /// every member that may act has taken that: no read that is sent to the target from then on
    /// was let in before. Answers the row's version; nothing where the row was changed, or a
    /// member that is heard of has them off and sees to it.
    ///
    /// *If we crash after it*, another member takes over when our lease has ended.
    fn put_off<'a>(
        &'a self,
        row: &'a ControlRow,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<Option<Version>, SqlFault>>;

    /// Lets them on, if the control row is still this one; answers whether it was.
    fn let_on<'a>(&'a self, row: &'a ControlRow) -> BoxFuture<'a, Result<bool, SqlFault>>;
}
