//! Chooses the side that answers a read while reads are shifted.
//!
//! One caller sees one side: the choice hangs on the `routing_key` where there is one, and on
//! the trace otherwise, so that a larger share only ever adds callers. A target that fails
//! costs the time until the primary is asked instead, as long as the caller has seen no row.
//! A read that must see a write goes to the primary until the write has settled. What touches
//! anything that is not migrated, or may run only once, is not shifted.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use sha2::{Digest, Sha256};
use tower::Service;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::side::Side;
use crate::ports::settled::SettledWrites;
use crate::ports::{AnswerStream, ControlView};
use crate::stack::breaker::{self, Breaker, Permit};
use crate::stack::call::{Read, ReadAnswer};
use crate::stack::consistency::Consistency;
use crate::telemetry::metrics::{Metrics, Purpose};

/// Batches that are held back before the first is handed over: with the end of the answer, or
/// a second batch, the first is safe from the target's death in most answers.
const HELD_BACK: usize = 2;

/// How the target is dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// How long the target is given for its first answer.
    pub target_timeout: Duration,
    /// When it is not asked any more.
    pub breaker: breaker::Params,
}

/// 64 random bits, for reads without key and trace.
pub type Dice = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Reads on the primary, and a share of them on the target.
#[derive(Clone)]
pub struct Shift<P, T> {
    primary: P,
    target: T,
    room: Arc<Room>,
}

struct Room {
    params: Params,
    control: Arc<dyn ControlView>,
    consistency: Consistency,
    breaker: Breaker,
    dice: Dice,
    metrics: Metrics,
}

// === impl Shift ===

impl<P, T> Shift<P, T> {
    /// Chooses between the two.
    pub fn new(
        primary: P,
        target: T,
        (control, settled): (Arc<dyn ControlView>, Arc<dyn SettledWrites>),
        params: Params,
        dice: Dice,
        metrics: Metrics,
    ) -> Self {
        let breaker = Breaker::new(params.breaker);
        let consistency = Consistency::new(settled);
        let room = Arc::new(Room { params, control, consistency, breaker, dice, metrics });
        Self { primary, target, room }
    }
}

impl<P, T> std::fmt::Debug for Shift<P, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shift").field("params", &self.room.params).finish_non_exhaustive()
    }
}

impl<P, T> Service<Read> for Shift<P, T>
where
    P: Service<Read, Response = ReadAnswer, Error = SqlFault> + Clone + Send + 'static,
    P::Future: Send + 'static,
    T: Service<Read, Response = ReadAnswer, Error = SqlFault> + Clone + Send + 'static,
    T::Future: Send + 'static,
{
    type Response = ReadAnswer;
    type Error = SqlFault;
    type Future = BoxFuture<'static, Result<ReadAnswer, SqlFault>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SqlFault>> {
        // Both must be: whichever is chosen, and the primary in its place.
        match self.target.poll_ready(cx) {
            Poll::Ready(Ok(())) => self.primary.poll_ready(cx),
            other => other,
        }
    }

    fn call(&mut self, read: Read) -> Self::Future {
        if !self.room.chooses_target(&read) {
            return Box::pin(self.primary.call(read));
        }
        let (primary, target) = (self.primary.clone(), self.target.clone());
        let mut primary = std::mem::replace(&mut self.primary, primary);
        let mut target = std::mem::replace(&mut self.target, target);
        let room = Arc::clone(&self.room);
        Box::pin(async move {
            if !room.may_ask(&read).await {
                return primary.call(read).await;
            }
            // Held until the target answers: what is applied there afterwards it cannot see.
            let Some(pass) = room.control.admit_target_read(read.control) else {
                room.metrics.shift_fallback("reads_off");
                return primary.call(read).await;
            };
            let limit = room.limit(&read);
            let asked = async { peek(target.call(read.clone()).await?).await };
            let asked = tokio::time::timeout(limit, asked).await;
            drop(pass);
            let fault = match asked {
                Ok(Ok(answer)) => {
                    room.breaker.succeeded();
                    return Ok(ReadAnswer { settled: true, ..answer });
                }
                Ok(Err(fault)) if is_callers_own(&fault, &read) => return Err(fault),
                Ok(Err(fault)) => Some(fault),
                Err(_) => None,
            };
            let answer = primary.call(read).await;
            room.fell_back(fault.as_ref(), answer.is_ok());
            answer
        })
    }
}

// === impl Room ===

impl Room {
    fn chooses_target(&self, read: &Read) -> bool {
        let may = read.control.phase.shifts() && read.route.shifts;
        may && read.shifted.holds(self.position(read))
    }

    /// Evenly spread over 64 bits, and the same for the same caller on every member.
    fn position(&self, read: &Read) -> u64 {
        match (&read.context.routing_key, read.trace_id) {
            (Some(key), _) => hashed(b"key", key.as_bytes()),
            (None, Some(trace)) => hashed(b"trace", &trace.to_be_bytes()),
            (None, None) => (self.dice)(),
        }
    }

    /// Whether the target has what the read must see, and is not known to be sick.
    async fn may_ask(&self, read: &Read) -> bool {
        if !self.consistency.is_settled(&read.must_see, read.control).await {
            self.metrics.shift_fallback("token");
            return false;
        }
        let permit = self.breaker.permit();
        if permit == Permit::Go {
            return true;
        }
        // The reads that it should have answered count against it all the same, unless it may
        // be well again.
        if permit == Permit::Stop {
            self.metrics.statement_ended(Side::Target, Purpose::Read, Duration::ZERO, true);
        }
        self.metrics.shift_fallback("breaker");
        false
    }

    /// Half of the caller's time at most: the other half is the primary's.
    fn limit(&self, read: &Read) -> Duration {
        let left = read.context.deadline.map(|it| it.saturating_duration_since(Instant::now()) / 2);
        left.map_or(self.params.target_timeout, |left| left.min(self.params.target_timeout))
    }

    /// A statement that fails on both sides is the caller's; one that fails on the target alone
    /// is the target's, which nobody but this room can tell. What is wrong with a side itself
    /// is counted where its statements are watched.
    fn fell_back(&self, fault: Option<&SqlFault>, primary_answered: bool) {
        let of_side = fault.is_none_or(SqlFault::is_of_side);
        if of_side {
            self.breaker.failed();
        }
        if fault.is_none() || (!of_side && primary_answered) {
            self.metrics.side_failed(Side::Target, Purpose::Read);
        }
        let reason = fault.map_or("timeout", reason);
        self.metrics.shift_fallback(reason);
        let why = fault.map_or_else(|| "it was too slow".to_owned(), ToString::to_string);
        tracing::debug!(reason, why, "the target did not answer a read, the source was asked");
    }
}

fn reason(fault: &SqlFault) -> &'static str {
    match fault.kind {
        FaultKind::Unavailable => "unavailable",
        FaultKind::ConnectionLost => "lost",
        FaultKind::DeadlineExceeded => "timeout",
        _ if fault.is_of_side() => "unwell",
        _ => "refused",
    }
}

/// What the primary would say as well, or nobody waits for.
fn is_callers_own(fault: &SqlFault, read: &Read) -> bool {
    let over = read.context.deadline.is_some_and(|deadline| deadline <= Instant::now());
    let own = matches!(fault.kind, FaultKind::Cancelled | FaultKind::LimitExceeded);
    own || over || read.context.cancelled.is_cancelled()
}

fn hashed(kind: &[u8], bytes: &[u8]) -> u64 {
    let digest = Sha256::new().chain_update(kind).chain_update(bytes).finalize();
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(digest) {
        *to = from;
    }
    u64::from_be_bytes(first)
}

/// Takes the beginning of an answer, or all of it where it is short: a fault in there is found
/// before the caller has seen a row.
async fn peek(answer: ReadAnswer) -> Result<ReadAnswer, SqlFault> {
    let ReadAnswer { stream: AnswerStream { columns, mut batches }, .. } = answer;
    let mut held = Vec::with_capacity(HELD_BACK);
    while held.len() < HELD_BACK {
        match batches.next().await {
            Some(batch) => held.push(batch?),
            None => {
                let batches = stream::iter(held.into_iter().map(Ok)).boxed();
                return Ok(ReadAnswer { stream: AnswerStream { columns, batches }, ..answer });
            }
        }
    }
    let batches = stream::iter(held.into_iter().map(Ok)).chain(batches).boxed();
    Ok(ReadAnswer { stream: AnswerStream { columns, batches }, ..answer })
}
