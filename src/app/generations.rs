//! Whether one of the databases went back in time: a backup that was restored, or a fork of the
//! right one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::app::databases::Databases;
use crate::app::fleet::Fleet;
use crate::app::operations::identity;
use crate::app::{AppError, Background};
use crate::config::Config;
use crate::control::change::{Change, change};
use crate::domain::control::Percentage;
use crate::domain::fault::SqlFault;
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::ports::ControlView;
use crate::ports::control::ControlStore;
use crate::postgres::identity::generation::{Generations, Looked, RAISE_EVERY};
use crate::postgres::schema::Permission;
use crate::telemetry::metrics::Metrics;

/// Another member that works with the true database raises its generation, and notes it, within
/// this time: then this one is a fork of it, and no backup that was restored in its place.
const OTHERS_WOULD_TELL: Duration = RAISE_EVERY.saturating_mul(4);

/// What is wrong with the databases, for the status. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Wrong(Arc<Mutex<Vec<(Side, String)>>>);

// === impl Wrong ===

impl Wrong {
    fn set(&self, side: Side, what: Option<String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(of, _)| *of != side);
        all.extend(what.map(|what| (side, what)));
    }

    /// A line each.
    pub(super) fn warnings(&self) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(_, what)| what.clone()).collect()
    }
}

/// Since when a side is behind, and what was noted of it then.
#[derive(Debug, Clone, Copy)]
struct Behind {
    since: Instant,
    known: i64,
}

struct Watch {
    config: Config,
    databases: Databases,
    generations: Generations,
    fleet: Parts,
    metrics: Metrics,
    wrong: Wrong,
}

struct Parts {
    control: crate::control::Control,
    store: Arc<dyn ControlStore>,
}

/// Starts looking, on each side for itself.
pub(super) fn watch(
    config: &Config,
    databases: &Databases,
    fleet: &Fleet,
    metrics: &Metrics,
    background: &Background,
) -> Wrong {
    let wrong = Wrong::default();
    let store: Arc<dyn ControlStore> =
        Arc::<crate::postgres::control::ControlTable>::clone(&fleet.store);
    let watch = Arc::new(Watch {
        config: config.clone(),
        databases: databases.clone(),
        generations: Generations::new(databases.looks()),
        fleet: Parts { control: fleet.control.clone(), store },
        metrics: metrics.clone(),
        wrong: wrong.clone(),
    });
    for side in [Side::Source, Side::Target] {
        let (watch, stop) = (Arc::clone(&watch), background.stop.clone());
        background.tasks.spawn(async move {
            stop.run_until_cancelled(watch.follow(side)).await;
        });
    }
    wrong
}

// === impl Watch ===

impl Watch {
    async fn follow(&self, side: Side) {
        if let Err(fault) = self.generations.raise(side).await {
            tracing::debug!(%side, %fault, "its generation could not be raised");
        }
        let mut behind = None;
        loop {
            if !self.databases.expects() {
                self.take_on().await;
            }
            let looked = self.look(side, &mut behind).await;
            self.metrics.retries().note("generation", side.as_str(), &looked);
            if let Err(fault) = looked {
                if fault.reason == Reason::UnavailableIdentity {
                    self.metrics.fault("another_database");
                    tracing::error!(%side, %fault, "another database answers");
                    self.wrong.set(side, Some(format!("{fault}; {}", fault.hint)));
                } else {
                    tracing::debug!(%side, %fault, "its generation could not be looked at");
                }
            }
            sleep(RAISE_EVERY).await;
        }
    }

    /// The other side was away when this sidecar was started.
    async fn take_on(&self) {
        let permission = match self.config.control.migrate_at_start {
            true => Permission::Change,
            false => Permission::Look,
        };
        let done = identity::established(&self.config, &self.databases, permission).await;
        let retries = self.metrics.retries();
        if let Err(AppError::Database(fault)) = &done {
            retries.failed("identity", "", fault);
        } else {
            retries.went_well("identity", "");
        }
        if let Err(error) = done {
            tracing::warn!(%error, "whether these are the two sides of one migration is not known yet");
        }
    }

    async fn look(&self, side: Side, behind: &mut Option<Behind>) -> Result<(), SqlFault> {
        let (found, known) = match self.generations.look(side).await? {
            Looked::Present(known) => {
                self.databases.expect_generation(side, known);
                self.wrong.set(side, None);
                *behind = None;
                return Ok(());
            }
            Looked::Behind { found, known } => (found, known),
        };
        // Nobody is given a session with it from here on, nor keeps one.
        self.databases.expect_generation(side, known);
        self.metrics.fault("went_back");
        let now = Instant::now();
        if behind.is_none() {
            self.databases.close_all(side);
            tracing::error!(%side, found, known, "a database went back in time");
        }
        let first = behind.get_or_insert(Behind { since: now, known });
        let what = format!(
            "the {side} went back in time: its generation is {found}, and {known} was seen of it"
        );
        if self.fleet.control.current().phase.primary() == side {
            let what = format!(
                "{what}; what was acknowledged since is gone from it, and no call is answered: \
                 restore its newest state, or go on with what it has by \
                 `segue adopt primary --reason`"
            );
            self.wrong.set(side, Some(what));
            return Ok(());
        }
        if first.known != known {
            let what = format!(
                "{what}, and another sidecar works with a newer one: correct {side}.dsn, or what \
                 it leads to"
            );
            tracing::error!(%side, found, known, "this is a fork of the database that others use");
            self.wrong.set(side, Some(what));
            *first = Behind { since: now, known };
            return Ok(());
        }
        self.wrong.set(side, Some(what.clone()));
        if now.duration_since(first.since) < OTHERS_WOULD_TELL {
            return Ok(());
        }
        self.copy_again(side, known, &what).await
    }

    /// A backup of the shadow was restored: reads go back before any session is opened there, and
    /// all of it is copied again.
    async fn copy_again(&self, shadow: Side, known: i64, what: &str) -> Result<(), SqlFault> {
        let row = self.fleet.control.row();
        let phase = row.state.phase;
        if phase.shifts() && (row.target_percentage != Percentage::ZERO || !row.held) {
            let back = Change { held: true, ..Change::phase(phase, "segue", what) };
            change(self.fleet.store.as_ref(), &row, back).await?;
            // The next look finds it changed, as the other members do.
            return Ok(());
        }
        if phase.captures() {
            let reason = format!("{what}; all of it is compared again, and nothing is proven");
            let rows = self.generations.copy_again(shadow, known, &reason).await?;
            tracing::warn!(side = %shadow, rows, "a backup was restored; it is copied again");
        }
        self.generations.overtake(shadow, known).await
    }
}
