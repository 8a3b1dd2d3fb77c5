//! What steps are judged by, gathered from the parts.

use crate::control::steps::{Look, Steps};
use crate::control::{figures, timed};
use crate::domain::control::{ControlRow, Phase};
use crate::domain::fleet::{Fleet, Settled};
use crate::domain::foreign::ForeignWrites;
use crate::domain::gate::Evidence;
use crate::domain::history::{EventKind, Recorded};
use crate::domain::side::Side;

/// Events that are looked through for rehearsals.
const EVENTS_MAX: u32 = 10_000;

impl Steps {
    pub(super) async fn evidence(
        &self,
        row: ControlRow,
        fleet: Fleet,
        settled: Settled,
        look: Look,
    ) -> Evidence {
        let side = row.state.phase.primary();
        let limit = self.params.timeout;
        let window = self.params.limits.quiet_min;
        let parts = &self.parts;
        let unfit = async {
            let asked = row.state.phase == Phase::SourceOnly && look == Look::Thorough;
            if asked { timed(side, limit * 4, parts.hooks.unfit()).await.ok() } else { None }
        };
        let foreign = async {
            // The source refuses them as long as it follows.
            if side == Side::Target || !row.state.phase.captures() {
                return Some(ForeignWrites::default());
            }
            timed(side, limit, parts.foreign.writes(look == Look::Thorough)).await.ok()
        };
        let (unfit, findings, outbox, history, backfill, verify, foreign) = tokio::join!(
            unfit,
            timed(side, limit, parts.mismatches.findings(window)),
            timed(side, limit, parts.outbox.status()),
            timed(side, limit, parts.store.history(side, EVENTS_MAX)),
            parts.progress.backfill(),
            parts.progress.verify(look == Look::Thorough),
            foreign,
        );
        Evidence {
            now: fleet.now,
            unmigrated: figures::unmigrated(&fleet),
            settled,
            unfit,
            backfill,
            verify,
            findings: findings.ok(),
            outbox: outbox.ok(),
            rehearsals: history.ok().map(|history| rehearsals(&history)),
            foreign,
            row,
        }
    }
}

/// Those since the migration last began.
fn rehearsals(history: &[Recorded]) -> u64 {
    let begun = |it: &&Recorded| it.event.to.phase != Phase::SourceOnly;
    let since = history.iter().take_while(begun);
    since.filter(|it| it.event.kind == EventKind::Rehearsal).count() as u64
}
