//! Failpoints: places at which a test ends, stops or holds up the process, or loses a member in it.
//!
//! Each stands for an *if we crash here*. The process under test is told by its environment
//! (`SEGUE_CRASH_AT`, `SEGUE_STOP_AT`: `after_lock`, or `after_lock:7` for the seventh time that it
//! is passed), which `config` reads: a name that is not listed here is an error of the configuration. A test
//! that runs the parts itself gives them a [`FailPoints`] that asks it.
//!
//! A release has no such variables: it refuses them as it refuses any that it does not know.
//!
//! The crate `fail` does not fit. What it arms is a static, so that tests in one process would meet
//! each other's; it neither ends nor stops a process, and holds a thread where a task must wait; and a
//! feature of the build decides whether it is there, so that the crash tests would not run the
//! program that the other tests build.

use std::fmt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// Whether this is a build that tests may end by its environment.
const IS_TEST_BUILD: bool = cfg!(debug_assertions);

/// The enum, its names, and which of them belong together, in the order in which they are passed.
macro_rules! failpoints {
    ($(
        $(#[$about:meta])*
        $group:ident {
            $($(#[$doc:meta])* $point:ident $name:literal)*
        }
    )*) => {
        /// A place.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum FailPoint {
            $($($(#[$doc])* $point,)*)*
        }

        impl FailPoint {
            /// All of them.
            pub const ALL: &[Self] = &[$($(Self::$point,)*)*];

            $(
                $(#[$about])*
                pub const $group: &[Self] = &[$(Self::$point,)*];
            )*

            /// What a test calls it.
            pub fn name(self) -> &'static str {
                match self {
                    $($(Self::$point => $name,)*)*
                }
            }
        }
    };
}

failpoints! {
    /// Those of a caller's write: capture and answer.
    OF_A_WRITE {
        /// A write has run, its keys are in the outbox, and its COMMIT has not been sent. A
        /// statement that commits itself has no such moment.
        BeforeCommit "before_commit"
        /// A write is committed, and its caller has not been told.
        BeforeAnswer "before_answer"
    }
    /// Those of a batch: reconcile and forget.
    OF_A_BATCH {
        /// A worker was woken or its time had come, and nothing is claimed: callers have their
        /// answers.
        BeforeClaim "before_claim"
        /// After the outbox rows were claimed.
        AfterClaim "after_claim"
        /// After the keys were locked on the shadow.
        AfterLock "after_lock"
        /// After both sides were read.
        AfterRead "after_read"
        /// After the shadow was written, before its commit.
        AfterApply "after_apply_before_commit"
        /// After the shadow's commit, before anything is forgotten.
        AfterShadowCommit "after_shadow_commit"
        /// After rows were marked as forgotten, before that is committed.
        BeforeForgetCommit "before_forget_commit"
        /// After that commit.
        AfterForgetCommit "after_forget_commit"
    }
    /// Those of a chunk of the backfill.
    OF_A_CHUNK {
        /// After the snapshot was taken, before anything is locked on the target.
        AfterSnapshot "after_snapshot"
        /// After the rows were written, before their commit.
        BeforeChunkCommit "before_chunk_commit"
        /// After the rows were committed, before the outbox is read again.
        AfterChunkCommit "after_chunk_commit"
        /// After everything, before the chunk is noted as done.
        BeforeChunkDone "before_done"
    }
    /// Those of the coordinator of a cutover.
    OF_A_CUTOVER {
        /// The gates are open, and nothing is announced.
        CutoverAfterGates "cutover_after_gates"
        /// Members have opened sessions to the other side.
        CutoverAfterPrepare "cutover_after_prepare"
        /// Members are told to hold writes.
        CutoverAfterAnnouncing "cutover_after_announcing"
        /// All of them hold.
        CutoverAfterPause "cutover_after_pause"
        /// No one writes to the old primary any more.
        CutoverAfterFence "cutover_after_fence"
        /// The outbox is empty.
        CutoverAfterDrain "cutover_after_drain"
        /// What changed last is compared.
        CutoverAfterVerify "cutover_after_verify"
        /// The new primary's sequences are ahead.
        CutoverAfterSequences "cutover_after_sequences"
        /// The control row names the new primary.
        CutoverAfterFlip "cutover_after_flip"
        /// So does that of the new primary.
        CutoverAfterRaising "cutover_after_raising"
        /// Members write there.
        CutoverAfterRelease "cutover_after_release"
    }
    /// Those of a member that takes part in one.
    OF_A_MEMBER {
        /// Its sessions to the other side are open.
        MemberPrepared "member_prepared"
        /// It holds what is new.
        MemberHolding "member_holding"
        /// What was open has ended, and its locks are given up.
        MemberWithoutLocks "member_without_locks"
        /// It sees the flip.
        MemberAfterFlip "member_after_flip"
        /// The new primary's row is brought up.
        MemberAfterRaising "member_after_raising"
    }
    /// Those within the transaction that makes a side the primary, whoever runs it.
    OF_A_PROMOTION {
        /// The lock of copies is held, and the new primary's row not changed yet.
        PromotionLocked "promotion_locked"
        /// The row is changed, and that is not committed.
        PromotionChanged "promotion_changed"
        /// It is, and no one has been told.
        PromotionCommitted "promotion_committed"
    }
}

impl fmt::Display for FailPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What becomes of the process at a failpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// It ends, as by `kill -9`.
    Crash,
    /// It stops, as by `kill -STOP`, until it is continued.
    Stop,
}

/// A variable of the environment, and what it does.
const VARIABLES: [(&str, Action); 2] =
    [("SEGUE_CRASH_AT", Action::Crash), ("SEGUE_STOP_AT", Action::Stop)];

/// What the environment asks for at one failpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Armed {
    point: FailPoint,
    /// Every time, or only this one.
    time: Option<u64>,
    action: Action,
}

/// Why a text arms nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unarmed {
    /// There is no such failpoint.
    Name(String),
    /// The part behind the colon is no number from 1.
    Time(String),
}

// === impl Armed ===

impl Armed {
    /// Reads a variable of the environment; `None` where it is none of these, as in a release.
    pub fn by_variable(name: &str, value: &str) -> Option<Result<Self, Unarmed>> {
        Self::by_variable_of(IS_TEST_BUILD, name, value)
    }

    fn by_variable_of(
        is_test_build: bool,
        name: &str,
        value: &str,
    ) -> Option<Result<Self, Unarmed>> {
        let (_, action) = VARIABLES.iter().find(|(known, _)| is_test_build && *known == name)?;
        Some(Self::parse(*action, value))
    }

    fn parse(action: Action, text: &str) -> Result<Self, Unarmed> {
        let (name, time) = match text.split_once(':') {
            Some((name, time)) => {
                let number = time.parse().ok().filter(|number| *number > 0);
                (name, Some(number.ok_or_else(|| Unarmed::Time(time.to_owned()))?))
            }
            None => (text, None),
        };
        let point = FailPoint::ALL.iter().find(|point| point.name() == name);
        let point = *point.ok_or_else(|| Unarmed::Name(name.to_owned()))?;
        Ok(Self { point, time, action })
    }

    fn act(self) {
        let Self { point, .. } = self;
        match self.action {
            Action::Crash => {
                tracing::error!(%point, "the crash that a test asked for");
                std::process::abort();
            }
            Action::Stop => {
                let own = std::process::id().to_string();
                let stopped = Command::new("kill").arg("-STOP").arg(own).status();
                tracing::warn!(%point, ?stopped, "stopped, and continued");
            }
        }
    }
}

/// What a test does at a failpoint; true where the member is lost there.
type Ask = dyn Fn(FailPoint) -> BoxFuture<'static, bool> + Send + Sync;

/// The failpoints of a process, or of a member in a test's process. By default none is armed.
#[derive(Clone, Default)]
pub struct FailPoints(Option<Arc<Ask>>);

/// A test wants the member to be lost at this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost(pub FailPoint);

// === impl FailPoints ===

impl FailPoints {
    /// Asks `test` at every place, and waits for its answer. Where it is yes, a member behaves as
    /// if its process had ended: its connections are closed, and nothing that would follow is done.
    pub fn asking(
        test: impl Fn(FailPoint) -> BoxFuture<'static, bool> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(test)))
    }

    /// The same where the answer needs no waiting.
    pub fn losing_where(test: impl Fn(FailPoint) -> bool + Send + Sync + 'static) -> Self {
        Self::asking(move |point| std::future::ready(test(point)).boxed())
    }

    /// What the environment asks for.
    pub fn of(armed: &[Armed]) -> Self {
        if armed.is_empty() {
            return Self::default();
        }
        let armed: Vec<_> = armed.iter().map(|it| (*it, AtomicU64::new(0))).collect();
        Self::losing_where(move |point| {
            for (armed, passed) in armed.iter().filter(|(armed, _)| armed.point == point) {
                let time = passed.fetch_add(1, Ordering::Relaxed) + 1;
                if armed.time.is_none_or(|wanted| wanted == time) {
                    armed.act();
                }
            }
            false
        })
    }

    // Modelled as `Action::Crash` in tests/model.
    pub(crate) async fn pass(&self, point: FailPoint) -> Result<(), Lost> {
        match &self.0 {
            Some(test) if test(point).await => Err(Lost(point)),
            _ => Ok(()),
        }
    }

    /// As [`FailPoints::pass`], where only the process itself can end.
    pub(crate) async fn reach(&self, point: FailPoint) {
        // A test that would rather have a member lost has none to lose here.
        let _ = self.pass(point).await;
    }
}

impl fmt::Debug for FailPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailPoints").field("armed", &self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash_at(text: &str) -> Result<Armed, Unarmed> {
        Armed::by_variable_of(true, "SEGUE_CRASH_AT", text).unwrap()
    }

    #[test]
    fn only_listed_failpoints_can_be_armed() {
        for point in FailPoint::ALL {
            let armed = Armed { point: *point, time: None, action: Action::Crash };
            assert_eq!(crash_at(point.name()), Ok(armed));
        }
        assert_eq!(crash_at("before_answer:12").map(|it| it.time), Ok(Some(12)));
        assert_eq!(crash_at("after_lok"), Err(Unarmed::Name("after_lok".to_owned())));
        for time in ["soon", "0", ""] {
            let given = format!("after_lock:{time}");
            assert_eq!(crash_at(&given), Err(Unarmed::Time(time.to_owned())));
        }
    }

    #[test]
    fn a_release_knows_no_variable_that_ends_or_stops_it() {
        for (name, _) in VARIABLES {
            assert!(Armed::by_variable_of(true, name, "after_lock").is_some());
            assert_eq!(Armed::by_variable_of(false, name, "after_lock"), None);
        }
    }

    #[test]
    fn no_two_failpoints_have_one_name() {
        let mut names: Vec<_> = FailPoint::ALL.iter().map(|it| it.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FailPoint::ALL.len());
    }

    #[tokio::test]
    async fn what_is_not_armed_lets_everything_pass() {
        for point in FailPoint::ALL.iter().copied() {
            assert_eq!(FailPoints::default().pass(point).await, Ok(()));
            let armed = FailPoints::losing_where(move |at| at == point);
            assert_eq!(armed.pass(point).await, Err(Lost(point)));
        }
    }
}
