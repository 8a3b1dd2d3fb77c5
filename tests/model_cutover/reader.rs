//! A member that reads: by a control row that may be as old as can be, on a session that shows
//! whose it is and has looked at its side's row.
//!
//! Time does not pass here: that a member without a lease stops reading some time after it has seen
//! its row is not relied on. Where sessions cannot be ended, that is what is waited for, and it is
//! not in the model.

use crate::state::{Control, SOURCE, State, TARGET, Writes};
use crate::step::{Action, Flaw, Scenario};

/// What it knows, has open, and was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Reader {
    /// The control row that it last heard of.
    pub(crate) known: Control,
    /// It has a lease; else it reads by the row alone.
    pub(crate) leased: bool,
    pub(crate) session: Option<ReadSession>,
    pub(crate) asked: Option<Asked>,
    /// An answer lacked what had been acknowledged before it was asked for.
    pub(crate) was_stale: bool,
}

/// Its session for reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ReadSession {
    pub(crate) side: u8,
    /// The lock that shows whose it is; the epoch of the side's row when it was taken.
    locked: Option<u8>,
    /// What the side's row said when it was looked at.
    found: Option<Control>,
}

/// A read that was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    /// Under this row, which says where it goes.
    under: Control,
    /// Committed before.
    acknowledged: Writes,
}

// === impl Reader ===

impl Reader {
    pub(crate) fn new(known: Control) -> Self {
        Self { known, leased: true, session: None, asked: None, was_stale: false }
    }

    /// Nobody need wait for it who makes the side other than `old` the primary, by this epoch.
    fn has_moved(&self, old: u8, epoch: u8, flaw: Flaw) -> bool {
        let knows = self.known.epoch >= epoch;
        if flaw == Flaw::ReadersByLease {
            return knows || !self.leased;
        }
        let listed = |it: &ReadSession| it.side == old && it.locked.is_some_and(|at| at < epoch);
        knows || !self.session.as_ref().is_some_and(listed)
    }
}

// === impl Scenario ===

impl Scenario {
    pub(crate) fn of_reader(&self, state: &State, actions: &mut Vec<Action>) {
        let Some(reader) = &state.reader else { return };
        for side in [SOURCE, TARGET] {
            let row = state.on(side).control;
            if row.epoch > reader.known.epoch {
                actions.push(Action::Hear(side));
            }
            if reader.session.is_none() {
                actions.push(Action::OpenReads(side));
            }
            // Whoever has heard of a flip to the other side, which is still to be made known there.
            let behind = state.on(1 - side).control.epoch < row.epoch;
            let flipped = row.primary != side && behind && state.moved < row.epoch;
            if flipped && reader.has_moved(side, row.epoch, self.flaw) {
                actions.push(Action::ReadersMoved(side));
            }
        }
        if self.flaw == Flaw::ReadersByLease && reader.leased {
            actions.push(Action::LoseLease);
        }
        if let Some(session) = reader.session {
            actions.push(Action::EndReads);
            let open = session.locked.is_some() && session.found.is_some();
            if !open {
                actions.push(Action::LookForReads);
            }
            let goes_there = |asked: Asked| asked.under.primary == session.side;
            if open && reader.asked.is_some_and(goes_there) {
                actions.push(Action::Answer);
            }
        }
        if reader.asked.is_none() {
            actions.push(Action::Ask);
        }
    }

    pub(crate) fn read(&self, state: &mut State, action: Action) -> Option<()> {
        let all = (1 << state.writes) - 1;
        let rows = [state.on(SOURCE).control, state.on(TARGET).control];
        let row_of = |side: u8| rows[usize::from(side)];
        let data = [state.on(SOURCE).data, state.on(TARGET).data];
        if let Action::ReadersMoved(side) = action {
            state.moved = row_of(side).epoch;
            return Some(());
        }
        let reader = state.reader.as_mut()?;
        match action {
            Action::Hear(side) => reader.known = row_of(side),
            Action::LoseLease => reader.leased = false,
            Action::OpenReads(side) => {
                let (lock, look) = (Some(row_of(side).epoch), Some(row_of(side)));
                let early = self.flaw == Flaw::ReadsLookBeforeLock;
                let (locked, found) = if early { (None, look) } else { (lock, None) };
                reader.session = Some(ReadSession { side, locked, found });
            }
            Action::LookForReads => {
                let session = reader.session.as_mut()?;
                let row = row_of(session.side);
                // The row of a session that did not look never is a later one.
                let blind = self.flaw == Flaw::ReadsDoNotLook;
                let found = if blind { Control { epoch: 0, ..row } } else { row };
                session.found = session.found.or(Some(found));
                session.locked = session.locked.or(Some(row.epoch));
            }
            Action::EndReads => reader.session = None,
            Action::Ask => {
                reader.asked = Some(Asked { under: reader.known, acknowledged: all });
            }
            Action::Answer => {
                let (session, asked) = (reader.session?, reader.asked.take()?);
                let present = self.flaw == Flaw::ReadsJudgedByThePresent;
                let under = if present { reader.known } else { asked.under };
                let found = session.found?;
                if found.epoch <= under.epoch || found.primary == under.primary {
                    let lacks = asked.acknowledged & !data[usize::from(session.side)];
                    reader.was_stale |= lacks != 0;
                }
            }
            _ => return None,
        }
        Some(())
    }
}
