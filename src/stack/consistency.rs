//! What an answer's token covers: the writes that the call brought, but those that have settled,
//! and the call's own.
//!
//! A client keeps one token, whatever it does. *If we crash here*, it has the tokens that it had
//! before, and of the write in flight it knows what a lost answer tells.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::domain::consistency::Token;
use crate::domain::control::ControlState;
use crate::domain::fault::SqlFault;
use crate::domain::key::WriteId;
use crate::ports::settled::{SettledWrites, Standing};

/// For a look at the outbox that an answer waits for: what cannot be told by then stays in the token.
pub(super) const GLANCE: Duration = Duration::from_millis(25);

/// Makes tokens. Cloning shares what it asks.
#[derive(Clone)]
pub struct Consistency {
    settled: Arc<dyn SettledWrites>,
}

// === impl Consistency ===

impl Consistency {
    /// Asks this whether writes have settled.
    pub fn new(settled: Arc<dyn SettledWrites>) -> Self {
        Self { settled }
    }

    /// Whether all that the token covers has settled.
    pub(super) async fn is_settled(&self, token: &Token, control: ControlState) -> bool {
        token.is_empty() || self.unsettled(token.clone(), control.epoch).await.is_empty()
    }

    /// The token of an answer. Where no read is shifted, every read sees everything.
    pub(super) async fn after(
        &self,
        control: ControlState,
        brought: Token,
        own: Token,
        deadline: Option<Instant>,
    ) -> Token {
        if !control.phase.shifts() {
            return Token::default();
        }
        let mut token = brought.clone();
        if !brought.is_empty() {
            // Half of what is left: the answer has to get to the caller as well.
            let left = deadline.map(|it| it.saturating_duration_since(Instant::now()) / 2);
            let limit = left.map_or(GLANCE, |left| left.min(GLANCE));
            let asked = self.unsettled(brought, control.epoch);
            if let Ok(unsettled) = tokio::time::timeout(limit, asked).await {
                token = unsettled;
            }
        }
        token.absorb(own);
        self.bounded(token, control).await
    }

    /// The token of an answer to a call that wrote nothing: what it brought.
    pub(super) async fn carried(&self, control: ControlState, brought: Token) -> Token {
        if !control.phase.shifts() {
            return Token::default();
        }
        self.bounded(brought, control).await
    }

    /// A fault that names a write, with what its call brought.
    pub(super) async fn with(
        &self,
        mut fault: SqlFault,
        control: ControlState,
        brought: Token,
    ) -> SqlFault {
        if let Some(own) = &mut fault.must_see {
            own.absorb(brought);
            **own = self.bounded(std::mem::take(own), control).await;
        }
        fault
    }

    async fn unsettled(&self, mut token: Token, epoch: u64) -> Token {
        let writes: Vec<WriteId> = token.writes().collect();
        let looks = writes.iter().map(|write| self.settled.standing(*write, epoch));
        let before = async {
            match token.before() {
                Some(mark) => self.settled.standing_before(mark, epoch).await,
                None => Standing::Settled,
            }
        };
        let (found, before) = tokio::join!(join_all(looks), before);
        for (write, standing) in writes.into_iter().zip(found) {
            if standing == Standing::Settled {
                token.forget(write);
            }
        }
        if before == Standing::Settled {
            token.forget_before();
        }
        token
    }

    /// Too many writes become one moment, which stands for all writes before it: the token settles
    /// later than each of them, and stays small.
    async fn bounded(&self, token: Token, control: ControlState) -> Token {
        if !token.is_too_long() && token.before() != Some(Token::EVERYTHING) {
            return token;
        }
        let present = tokio::time::timeout(GLANCE, self.settled.present(control.epoch)).await;
        Token::of_all_before(present.ok().flatten().unwrap_or(Token::EVERYTHING))
    }
}

impl std::fmt::Debug for Consistency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Consistency")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Mutex;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::domain::control::Phase;
    use crate::domain::fault::{FaultKind, Outcome};
    use crate::domain::key::OutboxMark;
    use crate::domain::reason::Reason;

    const SHIFT: ControlState = ControlState { epoch: 1, phase: Phase::Shift };

    /// An outbox in which the write of each number is as old as its number.
    #[derive(Default)]
    struct Outbox {
        waiting: Mutex<HashSet<u128>>,
        away: Mutex<bool>,
    }

    impl Outbox {
        fn told(&self, waits: impl Fn(&HashSet<u128>) -> bool) -> Standing {
            match (*self.away.lock().unwrap(), waits(&self.waiting.lock().unwrap())) {
                (true, _) => Standing::Unknown,
                (false, true) => Standing::Waiting,
                (false, false) => Standing::Settled,
            }
        }
    }

    impl SettledWrites for Outbox {
        fn standing(&self, write: WriteId, _: u64) -> BoxFuture<'_, Standing> {
            let told = self.told(|waiting| waiting.contains(&write.0));
            Box::pin(async move { told })
        }

        fn until_settled(&self, _: WriteId, _: u64) -> BoxFuture<'_, bool> {
            Box::pin(async { false })
        }

        fn present(&self, _: u64) -> BoxFuture<'_, Option<OutboxMark>> {
            let newest = self.waiting.lock().unwrap().iter().max().copied().unwrap_or_default();
            let known = !*self.away.lock().unwrap();
            Box::pin(async move { known.then_some(OutboxMark(newest as i64)) })
        }

        fn standing_before(&self, mark: OutboxMark, _: u64) -> BoxFuture<'_, Standing> {
            let told = self.told(|waiting| waiting.iter().any(|it| *it as i64 <= mark.0));
            Box::pin(async move { told })
        }
    }

    fn world() -> (Arc<Outbox>, Consistency) {
        let outbox = Arc::new(Outbox::default());
        (Arc::clone(&outbox), Consistency::new(outbox))
    }

    async fn write(outbox: &Outbox, consistency: &Consistency, token: Token, id: u128) -> Token {
        outbox.waiting.lock().unwrap().insert(id);
        consistency.after(SHIFT, token, Token::of(WriteId(id)), None).await
    }

    #[tokio::test]
    async fn a_token_of_ten_thousand_unsettled_writes_covers_all_of_them_and_stays_small() {
        let (outbox, consistency) = world();
        let mut token = Token::default();
        for id in 1..=10_000 {
            token = write(&outbox, &consistency, token, id).await;
            assert!(token.to_string().len() < 600, "{token}");
        }
        // Whichever of them waits alone, a read that brings the token does not go to the shadow.
        for id in [1, 2, 5_000, 9_983, 9_999, 10_000] {
            *outbox.waiting.lock().unwrap() = HashSet::from([id]);
            assert!(!consistency.is_settled(&token, SHIFT).await, "{id} was forgotten");
        }
        outbox.waiting.lock().unwrap().clear();
        assert!(consistency.is_settled(&token, SHIFT).await);
        // And the next write's token covers nothing but that one.
        let token = write(&outbox, &consistency, token, 10_001).await;
        assert_eq!(token, Token::of(WriteId(10_001)));
    }

    #[tokio::test]
    async fn settled_writes_are_dropped_one_by_one() {
        let (outbox, consistency) = world();
        let mut token = Token::default();
        for id in 1..=3 {
            token = write(&outbox, &consistency, token, id).await;
        }
        outbox.waiting.lock().unwrap().remove(&2);
        let token = consistency.after(SHIFT, token, Token::default(), None).await;
        assert_eq!(token.writes().collect::<Vec<_>>(), [WriteId(1), WriteId(3)]);
        let off = ControlState { phase: Phase::DualWrite, ..SHIFT };
        assert!(consistency.after(off, token.clone(), Token::default(), None).await.is_empty());
        assert!(consistency.carried(off, token).await.is_empty(), "every read sees everything");
    }

    #[tokio::test]
    async fn a_token_stays_small_and_true_while_the_outbox_cannot_be_asked() {
        let (outbox, consistency) = world();
        *outbox.away.lock().unwrap() = true;
        let mut token = Token::default();
        for id in 1..=100 {
            token = write(&outbox, &consistency, token, id).await;
            assert!(token.to_string().len() < 600, "{token}");
        }
        *outbox.away.lock().unwrap() = false;
        *outbox.waiting.lock().unwrap() = HashSet::from([3]);
        assert!(!consistency.is_settled(&token, SHIFT).await);
        // Once it can, what is newer than the token no longer keeps it.
        let token = consistency.carried(SHIFT, token).await;
        *outbox.waiting.lock().unwrap() = HashSet::from([1_000]);
        assert!(consistency.is_settled(&token, SHIFT).await, "{token:?}");
    }

    #[tokio::test]
    async fn a_fault_that_names_a_write_covers_what_its_call_brought() {
        let (_, consistency) = world();
        let lost = SqlFault::new(FaultKind::ConnectionLost, Reason::ConnectionLost, "lost")
            .with_outcome(Outcome::Unknown);
        let brought = Token::of(WriteId(1));
        let named = SqlFault { must_see: Some(Box::new(Token::of(WriteId(2)))), ..lost.clone() };
        let found = consistency.with(named, SHIFT, brought.clone()).await.must_see.unwrap();
        assert_eq!(found.writes().collect::<Vec<_>>(), [WriteId(1), WriteId(2)]);
        assert_eq!(consistency.with(lost, SHIFT, brought).await.must_see, None);
    }
}
