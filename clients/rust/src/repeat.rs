//! Which call is made again by itself, and when.

use std::future::Future;
use std::time::Duration;

use rand::Rng;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use crate::client::Client;
use crate::error::{CLIENT, CONNECTION, Error, Failure, Outcome};
use crate::link::Stub;
use crate::trace::{Named, Span};

const REPEAT_MIN: Duration = Duration::from_millis(20);
const REPEAT_MAX: Duration = Duration::from_secs(1);

/// When a call may be made again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeating {
    /// Never: it is part of a transaction that is under way.
    Never,
    /// Where the sidecar says that it had no effect.
    Unapplied,
    /// Also where no one knows, since a repeat has the same idempotency key.
    Keyed,
    /// The same for what changes nothing, or nothing that stays.
    Safe,
}

/// One attempt of a call.
pub(crate) struct Attempt {
    pub(crate) stub: Stub,
    deadline: Option<Instant>,
    traceparent: Option<String>,
    user_agent: String,
}

impl Attempt {
    /// The request with what stands beside it.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        let metadata = request.metadata_mut();
        let traceparent =
            self.traceparent.as_deref().and_then(|it| MetadataValue::try_from(it).ok());
        if let Some(value) = traceparent {
            metadata.insert("traceparent", value);
        }
        if let Ok(value) = MetadataValue::try_from(self.user_agent.as_str()) {
            metadata.insert("user-agent", value);
        }
        request
    }
}

impl Client {
    /// Makes a call, and makes it again as far as it may be.
    pub(crate) async fn repeat<T, F, A>(
        &self,
        named: Named<'_>,
        when: Repeating,
        deadline: Option<Instant>,
        mut attempt: F,
    ) -> Result<T, Failure>
    where
        F: FnMut(Attempt) -> A,
        A: Future<Output = Result<T, Failure>>,
    {
        let span = Span::start(named, &self.core.options);
        let traceparent = self.settings.traceparent.clone().or_else(|| span.traceparent());
        let made = self.repeated(when, deadline, traceparent.as_ref(), &mut attempt).await;
        span.end(made.as_ref().err());
        made
    }

    async fn repeated<T, F, A>(
        &self,
        when: Repeating,
        deadline: Option<Instant>,
        traceparent: Option<&String>,
        attempt: &mut F,
    ) -> Result<T, Failure>
    where
        F: FnMut(Attempt) -> A,
        A: Future<Output = Result<T, Failure>>,
    {
        let until = Instant::now() + self.core.options.retry_timeout;
        let mut pause = REPEAT_MIN;
        // No one knows what an earlier attempt came to.
        let mut unknown = false;
        loop {
            let stub = match self.core.link.ready(deadline).await {
                Ok(stub) => stub,
                // It has waited for as long as it may.
                Err(failure) => return Err(after(failure, unknown)),
            };
            let made = attempt(Attempt {
                stub,
                deadline,
                traceparent: traceparent.cloned(),
                user_agent: self.core.user_agent.clone(),
            });
            let failure = match within(deadline, made).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            // Asked before what earlier attempts came to is put into it: a repeat that is refused for good is the
            // last one.
            let again = may_repeat(&failure, when);
            let failure = after(failure, unknown);
            let now = Instant::now();
            let wait = jittered(pause.max(failure.retry_delay.unwrap_or_default()));
            if !again || now >= until || deadline.is_some_and(|it| it <= now + wait) {
                return Err(failure);
            }
            unknown |= when == Repeating::Keyed && failure.outcome == Outcome::Unknown;
            sleep_until(now + wait).await;
            pause = (pause * 2).min(REPEAT_MAX);
        }
    }
}

async fn within<T>(
    deadline: Option<Instant>,
    made: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(deadline) = deadline else { return made.await };
    match timeout_at(deadline, made).await {
        Ok(made) => made,
        Err(_) => Err(late()),
    }
}

/// The caller's deadline has passed.
pub(crate) fn late() -> Failure {
    let message = "the call was not answered within its deadline";
    let mut failure = Failure::new(Code::DeadlineExceeded, CONNECTION, message);
    failure.outcome = Outcome::Unknown;
    failure.lost = true;
    failure
}

/// Whether a call that failed so may be made again.
fn may_repeat(failure: &Failure, when: Repeating) -> bool {
    if when == Repeating::Never || failure.reason == CLIENT {
        return false;
    }
    if failure.repeatable() {
        return true;
    }
    if when == Repeating::Unapplied || failure.outcome != Outcome::Unknown {
        return false;
    }
    if failure.lost {
        // The transport's own codes; others, such as a message that is too large, come again.
        return matches!(
            failure.code,
            Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted
        );
    }
    failure.retryable || failure.code == Code::Unknown
}

/// The failure of a repeat: where no one knows what an earlier attempt came to, what the last one says of itself is
/// not true of the whole call, unless it settles that.
fn after(mut failure: Failure, unknown: bool) -> Failure {
    if unknown && !settles(&failure) {
        failure.outcome = Outcome::Unknown;
    }
    failure
}

/// Whether the failure of a repeat tells what the attempts before it came to: the database has run the statement
/// and refused it, which it does not do to one whose key it has seen. What may pass, and what stopped the repeat
/// before its end, tells nothing of them.
fn settles(failure: &Failure) -> bool {
    if failure.lost || failure.outcome == Outcome::Unknown {
        return false;
    }
    let stopped = matches!(failure.code, Code::Cancelled | Code::DeadlineExceeded);
    failure.outcome == Outcome::Applied
        || (!failure.sqlstate.is_empty() && !failure.retryable && !stopped)
}

/// Between half of the pause and all of it, so that those who failed together do not come back together.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// A read that came to nothing changed nothing, whatever is known of it.
pub(crate) fn unwritten(mut failure: Failure) -> Error {
    if failure.lost {
        failure.outcome = Outcome::NotApplied;
        failure.retryable = failure.code != Code::DeadlineExceeded;
    }
    failure.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: Code, outcome: Outcome, sqlstate: &str, retryable: bool) -> Failure {
        let mut failure = Failure::new(code, "", "failed");
        failure.outcome = outcome;
        failure.retryable = retryable;
        sqlstate.clone_into(&mut failure.sqlstate);
        failure
    }

    fn lost(code: Code) -> Failure {
        let mut failure = answered(code, Outcome::Unknown, "", false);
        failure.lost = true;
        failure
    }

    #[test]
    fn only_what_had_no_effect_or_has_a_key_is_repeated() {
        let answered = |outcome, retryable| answered(Code::Aborted, outcome, "", retryable);
        for (what, failure, expected) in [
            (
                "not applied, retryable",
                answered(Outcome::NotApplied, true),
                [false, true, true, true],
            ),
            ("not applied, not retryable", answered(Outcome::NotApplied, false), [false; 4]),
            ("unknown, retryable", answered(Outcome::Unknown, true), [false, false, true, true]),
            ("unknown, not retryable", answered(Outcome::Unknown, false), [false; 4]),
            ("applied", answered(Outcome::Applied, true), [false; 4]),
            ("lost", lost(Code::Unavailable), [false, false, true, true]),
            ("too large", lost(Code::OutOfRange), [false; 4]),
            ("late", late(), [false; 4]),
        ] {
            let all = [Repeating::Never, Repeating::Unapplied, Repeating::Keyed, Repeating::Safe];
            assert_eq!(all.map(|when| may_repeat(&failure, when)), expected, "{what}");
        }
    }

    #[test]
    fn an_unknown_outcome_stays_so_unless_a_repeat_settles_it() {
        let none = Outcome::NotApplied;
        for (what, failure, expected) in [
            ("lost again", lost(Code::Unavailable), Outcome::Unknown),
            (
                "refused by segue",
                answered(Code::FailedPrecondition, none, "", false),
                Outcome::Unknown,
            ),
            ("may pass", answered(Code::Aborted, none, "40001", true), Outcome::Unknown),
            ("stopped", answered(Code::Cancelled, none, "57014", false), Outcome::Unknown),
            (
                "stopped by the deadline",
                answered(Code::DeadlineExceeded, none, "57014", false),
                Outcome::Unknown,
            ),
            ("applied", answered(Code::Internal, Outcome::Applied, "", false), Outcome::Applied),
            (
                "refused by the database",
                answered(Code::FailedPrecondition, none, "23514", false),
                none,
            ),
        ] {
            assert_eq!(after(failure.clone(), true).outcome, expected, "{what}");
            assert_eq!(after(failure.clone(), false).outcome, failure.outcome, "{what}");
        }
    }
}
