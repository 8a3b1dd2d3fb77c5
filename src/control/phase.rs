//! Sets the phase by hand: `segue init --phase`.

use crate::control::decide;
use crate::domain::control::{ControlState, Phase};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::side::{Side, Sides};
use crate::ports::control::{ControlChange, ControlStore};

/// What to set, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseChange {
    /// The new phase.
    pub phase: Phase,
    /// Why, for whoever reads the row.
    pub reason: String,
    /// Who.
    pub changed_by: String,
}

/// Sets the phase on the row that counts, then on the other. A phase that stands already is
/// left as it is.
///
/// *If we crash between the two*, the higher epoch counts, and the next call brings the other
/// row up.
///
/// # Errors
///
/// A fault where a row cannot be read or written, or somebody else was faster.
pub async fn set_phase(
    store: &dyn ControlStore,
    change: &PhaseChange,
) -> Result<ControlState, SqlFault> {
    let (source, target) = (store.read(Side::Source).await?, store.read(Side::Target).await?);
    let epochs = Sides {
        source: source.as_ref().map(|row| row.state.epoch),
        target: target.as_ref().map(|row| row.state.epoch),
    };
    let present = match (&source, &target) {
        (None, None) => None,
        _ => Some(decide(Sides { source: Ok(source), target: Ok(target) })?),
    };
    // Changes begin on the side that is the primary now: its row is the one that counts.
    let first = present.as_ref().map_or(Side::Source, |row| row.state.phase.primary());
    let (state, reason) = match &present {
        Some(row) if row.state.phase == change.phase => (row.state, row.reason.clone()),
        Some(row) => (next(row.state.epoch, change.phase), change.reason.clone()),
        None => (next(0, change.phase), change.reason.clone()),
    };
    let to = ControlChange {
        state,
        target_percentage: 0.0,
        reason,
        changed_by: change.changed_by.clone(),
    };
    for side in [first, first.other()] {
        let from = *epochs.of(side);
        if from == Some(state.epoch) {
            continue;
        }
        if !store.compare_and_set(side, from, to.clone()).await? {
            let message = "somebody else changed the control row at the same time";
            let fault = SqlFault::new(FaultKind::Precondition, "control.changed", message);
            return Err(fault.on(side).with_hint("look at `segue status`, then try again"));
        }
    }
    Ok(state)
}

fn next(epoch: u64, phase: Phase) -> ControlState {
    ControlState { epoch: epoch + 1, phase }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::SystemTime;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::domain::control::ControlRow;

    struct Rows(Mutex<Sides<Option<ControlRow>>>);

    impl ControlStore for Rows {
        fn read(&self, side: Side) -> BoxFuture<'_, Result<Option<ControlRow>, SqlFault>> {
            let row = self.0.lock().unwrap().of(side).clone();
            Box::pin(async move { Ok(row) })
        }

        fn compare_and_set(
            &self,
            side: Side,
            from: Option<u64>,
            to: ControlChange,
        ) -> BoxFuture<'_, Result<bool, SqlFault>> {
            let mut rows = self.0.lock().unwrap();
            let place = match side {
                Side::Source => &mut rows.source,
                Side::Target => &mut rows.target,
            };
            let same = place.as_ref().map(|row| row.state.epoch) == from;
            if same {
                *place = Some(ControlRow {
                    state: to.state,
                    target_percentage: to.target_percentage,
                    reason: to.reason,
                    changed_by: to.changed_by,
                    changed_at: SystemTime::UNIX_EPOCH,
                });
            }
            Box::pin(async move { Ok(same) })
        }
    }

    fn to(phase: Phase) -> PhaseChange {
        PhaseChange { phase, reason: "a test".to_owned(), changed_by: "me".to_owned() }
    }

    fn epochs(rows: &Rows) -> [Option<u64>; 2] {
        let rows = rows.0.lock().unwrap();
        [&rows.source, &rows.target].map(|row| row.as_ref().map(|row| row.state.epoch))
    }

    #[tokio::test]
    async fn both_rows_move_together_and_only_when_they_must() {
        let rows = Rows(Mutex::new(Sides { source: None, target: None }));
        set_phase(&rows, &to(Phase::DualWrite)).await.unwrap();
        assert_eq!(epochs(&rows), [Some(1), Some(1)]);
        set_phase(&rows, &to(Phase::DualWrite)).await.unwrap();
        assert_eq!(epochs(&rows), [Some(1), Some(1)]);
        let state = set_phase(&rows, &to(Phase::ShadowRead)).await.unwrap();
        assert_eq!((state.epoch, epochs(&rows)), (2, [Some(2), Some(2)]));
    }

    #[tokio::test]
    async fn a_row_that_was_left_behind_is_brought_up() {
        let rows = Rows(Mutex::new(Sides { source: None, target: None }));
        set_phase(&rows, &to(Phase::DualWrite)).await.unwrap();
        rows.0.lock().unwrap().target = None;
        set_phase(&rows, &to(Phase::DualWrite)).await.unwrap();
        assert_eq!(epochs(&rows), [Some(1), Some(1)]);
    }
}
