//! The first control row, and a phase that is set without gates, as an adoption needs it.

use crate::control::change::{Change, bring_up, change, somebody_was_faster};
use crate::control::decide;
use crate::domain::control::{ControlRow, ControlState, Percentage, Phase, ReadsOff};
use crate::domain::fault::SqlFault;
use crate::domain::side::{Side, Sides};
use crate::ports::control::{ControlChange, ControlStore};

/// The epoch of a migration that has never left its first phase.
pub const FIRST_EPOCH: u64 = 1;

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

/// Where the migration stands, with a row on both sides. Where neither has one the first is written:
/// `source_only`. A row that is there stays as it is.
///
/// *If we crash between the two*, the source's row counts, and the next call writes the other one.
///
/// # Errors
///
/// A fault where a row cannot be read or written, or none that counts is there.
pub async fn begin(store: &dyn ControlStore, changed_by: &str) -> Result<ControlState, SqlFault> {
    let wanted = PhaseChange {
        phase: Phase::SourceOnly,
        reason: "segue init".to_owned(),
        changed_by: changed_by.to_owned(),
    };
    let present = present_or_first(store, &wanted).await?;
    on_both(store, &present).await
}

/// Sets the phase on the row that counts, then on the other. A phase that stands already is
/// left as it is. Operators' steps have gates ([`crate::control::steps`]); this has none.
///
/// *If we crash between the two*, the higher epoch counts, and the next call brings the other
/// row up.
///
/// # Errors
///
/// A fault where a row cannot be read or written, or somebody else was faster.
pub async fn set_phase(
    store: &dyn ControlStore,
    wanted: &PhaseChange,
) -> Result<ControlState, SqlFault> {
    let present = present_or_first(store, wanted).await?;
    if present.state.phase != wanted.phase {
        let PhaseChange { phase, reason, changed_by } = wanted;
        change(store, &present, Change::phase(*phase, changed_by, reason)).await?;
    }
    on_both(store, &present).await
}

async fn present_or_first(
    store: &dyn ControlStore,
    wanted: &PhaseChange,
) -> Result<ControlRow, SqlFault> {
    match read(store).await? {
        Some(row) => Ok(row),
        None => first(store, wanted).await,
    }
}

/// The row of the side that `present` names the primary, as it is now; the other one is brought up.
async fn on_both(store: &dyn ControlStore, present: &ControlRow) -> Result<ControlState, SqlFault> {
    let side = present.state.phase.primary();
    let row = store.read(side).await?.ok_or_else(|| somebody_was_faster(side))?;
    bring_up(store, side.other(), &row).await?;
    Ok(row.state)
}

async fn read(store: &dyn ControlStore) -> Result<Option<ControlRow>, SqlFault> {
    let (source, target) = (store.read(Side::Source).await?, store.read(Side::Target).await?);
    if source.is_none() && target.is_none() {
        return Ok(None);
    }
    decide(Sides { source: Ok(source), target: Ok(target) }).map(Some)
}

/// The first row of all, on the source.
async fn first(store: &dyn ControlStore, wanted: &PhaseChange) -> Result<ControlRow, SqlFault> {
    let to = ControlChange {
        state: ControlState { epoch: FIRST_EPOCH, phase: wanted.phase },
        revision: 1,
        target_percentage: Percentage::ZERO,
        held: false,
        reads_off: (wanted.phase == Phase::Shift).then(ReadsOff::at_the_beginning),
        reason: wanted.reason.clone(),
        changed_by: wanted.changed_by.clone(),
        event: None,
    };
    // Whether it was this one or another's that came first: the row is there.
    store.compare_and_set(Side::Source, None, to).await?;
    store.read(Side::Source).await?.ok_or_else(|| somebody_was_faster(Side::Source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fakes::Rows;
    use crate::domain::reason::Reason;

    fn to(phase: Phase) -> PhaseChange {
        PhaseChange { phase, reason: "a test".to_owned(), changed_by: "me".to_owned() }
    }

    #[tokio::test]
    async fn a_migration_begins_once_and_is_left_as_it_is_after_that() {
        let rows = Rows::default();
        let state = begin(&rows, "me").await.unwrap();
        assert_eq!((state.phase, rows.epochs()), (Phase::SourceOnly, [Some(1), Some(1)]));
        set_phase(&rows, &to(Phase::DualWrite)).await.unwrap();
        rows.drop_row(Side::Target);
        let state = begin(&rows, "me").await.unwrap();
        assert_eq!((state.phase, rows.epochs()), (Phase::DualWrite, [Some(2), Some(2)]));
        rows.drop_row(Side::Source);
        let refused = begin(&rows, "me").await.unwrap_err();
        assert_eq!(refused.reason, Reason::ControlPrimaryUnreadable, "a copy does not count alone");
    }

    #[tokio::test]
    async fn both_rows_move_together_and_only_when_they_must() {
        let rows = Rows::default();
        set_phase(&rows, &to(Phase::DualWrite)).await.unwrap();
        assert_eq!(rows.epochs(), [Some(1), Some(1)]);
        set_phase(&rows, &to(Phase::DualWrite)).await.unwrap();
        assert_eq!(rows.epochs(), [Some(1), Some(1)]);
        let state = set_phase(&rows, &to(Phase::ShadowRead)).await.unwrap();
        assert_eq!((state.epoch, rows.epochs()), (2, [Some(2), Some(2)]));
        let events = rows.history(Side::Target, 10).await.unwrap();
        assert_eq!(events.len(), 1, "the history is on both sides: {events:?}");
        assert_eq!((events[0].event.to.phase, events[0].event.epoch), (Phase::ShadowRead, 2));
    }

    #[tokio::test]
    async fn a_row_that_was_left_behind_is_brought_up() {
        let rows = Rows::default();
        set_phase(&rows, &to(Phase::DualWrite)).await.unwrap();
        rows.drop_row(Side::Target);
        set_phase(&rows, &to(Phase::DualWrite)).await.unwrap();
        assert_eq!(rows.epochs(), [Some(1), Some(1)]);
    }

    #[tokio::test]
    async fn of_two_changes_from_one_state_one_is_refused() {
        let rows = Rows::default();
        set_phase(&rows, &to(Phase::DualWrite)).await.unwrap();
        let row = rows.read(Side::Source).await.unwrap().unwrap();
        let one = Change::phase(Phase::ShadowRead, "one", "first");
        let other =
            Change { percentage: Percentage::ALL, ..Change::phase(Phase::DualWrite, "two", "") };
        change(&rows, &row, one).await.unwrap();
        let refused = change(&rows, &row, other).await.unwrap_err();
        assert_eq!(refused.reason, Reason::ControlChanged);
        // The percentage has no epoch of its own, and must be safe from this all the same.
        let row = rows.read(Side::Source).await.unwrap().unwrap();
        let set = |to| Change { percentage: to, ..Change::phase(Phase::ShadowRead, "me", "") };
        change(&rows, &row, set(Percentage::ALL)).await.unwrap();
        assert!(change(&rows, &row, set(Percentage::ZERO)).await.is_err());
    }
}
