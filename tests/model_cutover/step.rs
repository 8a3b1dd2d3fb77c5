//! What can happen, when, and what comes of it.

use crate::state::{
    Control, Coordinator, Copy, CopyStep, Outsider, Promoter, SOURCE, Session, State, TARGET,
};

/// What is done wrong, to see that the model notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing: the algorithm as it is.
    None,
    /// No lock is waited for.
    NoFence,
    /// The outbox is looked at before the fence stands.
    DrainBeforeFence,
    /// The flip goes out on any connection; the fence's may be lost.
    FlipElsewhere,
    /// The flip sets the row, whatever its epoch is now.
    FlipBlindly,
    /// Sessions of older epochs are taken to be gone when each member that still reports has
    /// closed its own.
    SettledByReports,
    /// A session looks at the epoch before it has the lock.
    CheckBeforeLock,
    /// The trigger goes by the control row of its transaction's beginning.
    StaleSnapshot,
    /// The sequence is set when the flip has been committed, by who comes by.
    NotedLate,
    /// A side becomes the primary while reconciles onto it are under way.
    NoFenceForReconciles,
    /// Who waits for the exclusive lock of copies ends holders of the shared one only, and the
    /// server ends nobody.
    StoppedPromoterStays,
    /// Readers are waited for by their leases alone, and no session of theirs is ended.
    ReadersByLease,
    /// A session for reads that is opened later does not look at the control row.
    ReadsDoNotLook,
    /// It looks before it shows whose it is.
    ReadsLookBeforeLock,
    /// What it has found is held against what its member knows when the read is sent, and not
    /// when it was admitted.
    ReadsJudgedByThePresent,
}

/// One model to be explored.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Connections for writes: each may be another member's.
    pub(crate) sessions: usize,
    /// Reconciles at a time: each may be another member's.
    pub(crate) copies: usize,
    /// Writes, of members and of the outsider together.
    pub(crate) writes: u8,
    /// Whether a member reads. Then nobody goes round segue.
    pub(crate) reads: bool,
    /// Changes of the control row: flips, and epochs that leave the primary as it is.
    pub(crate) changes: u8,
    pub(crate) flaw: Flaw,
}

/// Index of a session or a reconcile.
pub(crate) type Which = usize;

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// A member that heard of this side's control row takes the shared lock of its epoch on
    /// the primary that it names.
    Open(Which, u8),
    /// The session looks at the control row, under the lock.
    Check(Which),
    /// A write of the application, captured in its transaction.
    Commit(Which),
    /// The session is closed, lost, or terminated by the coordinator.
    Close(Which),
    /// Its member stops to report. It may be stopped, or cut off from the control row.
    FallSilent(Which),
    /// A member that takes this side for the primary claims from its outbox.
    Claim(Which, u8),
    /// The key on the shadow and that side's lock of reconciles; then its control row.
    LockShadow(Which),
    /// The primary's row is read.
    ReadPrimary(Which),
    /// The shadow's commit.
    Apply(Which),
    /// The outbox's.
    Forget(Which),
    /// The reconcile breaks off, or is terminated.
    DropCopy(Which),
    /// Whoever heard of the flip takes the exclusive lock of copies to the new primary, in order to
    /// bring its row up.
    Promote(u8),
    /// The row is brought up to the flip, if it still is behind, and that is committed.
    BringUp,
    /// The promoter's process stops in the middle, holding the lock.
    StopPromoter,
    /// The promoter's session is ended: by the server, or by who waits for it.
    EndPromoter,
    /// The reading member takes what this side's control row says.
    Hear(u8),
    /// It can renew its lease no longer, and reads by the row alone.
    LoseLease,
    /// It opens a session for reads on this side, which shows whose it is.
    OpenReads(u8),
    /// The session looks at the control row.
    LookForReads,
    /// The session is lost, or ended at the server.
    EndReads,
    /// The member admits a read.
    Ask,
    /// The read is answered, or refused by what its session has found.
    Answer,
    /// Whoever has heard of a flip away from this side finds no session left there by which a
    /// member could read that has not.
    ReadersMoved(u8),
    /// The outsider's transaction begins. Its snapshot is as old as itself, or always a fresh one.
    Outside(u8, bool),
    /// Its write fires the trigger, which takes the lock.
    OutsideLock,
    /// The trigger looks at the control row.
    OutsideCheck,
    /// Its commit.
    OutsideCommit,
    /// Its end without one.
    OutsideRollback,
    /// An epoch that leaves the primary as it is.
    Advance,
    /// A cutover begins, or a rollback.
    Begin,
    /// Its coordinator gets the exclusive lock.
    Fence,
    /// It finds no session of an older epoch.
    Settle,
    /// It finds the outbox empty.
    Drain,
    /// The flip locks the row and sets the sequence.
    Note,
    /// It is rolled back: its session is lost, or the row had changed.
    RollBack,
    /// Nothing but a flaw sets the sequence later.
    NoteLate(u8),
    /// The compare-and-set, committed.
    Flip,
    /// Its session ends, and it does not know.
    LoseFence,
    /// It ends, or calls the cutover off.
    Abandon,
}

// === impl Scenario ===

impl Scenario {
    /// What can happen in a state.
    pub(crate) fn enabled(&self, state: &State, actions: &mut Vec<Action>) {
        self.of_sessions(state, actions);
        self.of_copies(state, actions);
        match self.reads {
            true => self.of_reader(state, actions),
            false => self.of_outsider(state, actions),
        }
        for side in [SOURCE, TARGET] {
            let row = state.on(1 - side).control;
            let behind = row.primary == side && state.on(side).control.epoch < row.epoch;
            let busy = state.is_copied_onto(side) && self.flaw != Flaw::NoFenceForReconciles;
            let moved = !self.reads || state.moved >= row.epoch;
            if behind && moved && !busy && state.promoter.is_none() {
                actions.push(Action::Promote(side));
            }
        }
        if let Some(promoter) = state.promoter {
            if !promoter.stopped {
                actions.extend([Action::BringUp, Action::StopPromoter]);
            }
            if self.flaw != Flaw::StoppedPromoterStays {
                actions.push(Action::EndPromoter);
            }
        }
        let counts = state.counts();
        let may_change = counts.epoch <= self.changes;
        // Who changes the row has it locked.
        let locked = state.coordinator.is_some_and(|it| it.flipping);
        if self.flaw == Flaw::NotedLate {
            for side in [SOURCE, TARGET] {
                let on = state.on(side);
                if on.control.primary != side && on.noted < on.control.epoch {
                    actions.push(Action::NoteLate(side));
                }
            }
        }
        if may_change && !locked && state.on(counts.primary).control == counts {
            actions.push(Action::Advance);
            if state.coordinator.is_none() {
                actions.push(Action::Begin);
            }
        }
        if let Some(coordinator) = &state.coordinator {
            self.of_coordinator(state, coordinator, actions);
        }
    }

    fn of_sessions(&self, state: &State, actions: &mut Vec<Action>) {
        let early = self.flaw == Flaw::CheckBeforeLock;
        // Those that are not there are alike: the first stands for all.
        if let Some(which) = state.sessions.iter().position(Option::is_none) {
            for side in [SOURCE, TARGET] {
                let row = state.on(side).control;
                if early || state.fence(row.primary) != Some(row.epoch) {
                    actions.push(Action::Open(which, side));
                }
            }
        }
        for (which, session) in state.sessions.iter().enumerate() {
            let Some(session) = session else { continue };
            actions.push(Action::Close(which));
            let waits = early && state.fence(session.side) == Some(session.epoch);
            if !session.checked && !waits {
                actions.push(Action::Check(which));
            }
            if session.checked && state.writes < self.writes {
                actions.push(Action::Commit(which));
            }
            // Nobody asks for reports, but for the flaw.
            if self.flaw == Flaw::SettledByReports && !session.silent {
                actions.push(Action::FallSilent(which));
            }
        }
    }

    fn of_copies(&self, state: &State, actions: &mut Vec<Action>) {
        if let Some(which) = state.copies.iter().position(Option::is_none) {
            let due = [SOURCE, TARGET].into_iter().filter(|side| state.on(*side).outbox != 0);
            actions.extend(due.map(|side| Action::Claim(which, side)));
        }
        for (which, copy) in state.copies.iter().enumerate() {
            let Some(copy) = copy else { continue };
            actions.push(Action::DropCopy(which));
            match copy.step {
                CopyStep::Claimed if state.is_copied_onto(1 - copy.from) => {}
                CopyStep::Claimed if self.is_promoted(state, 1 - copy.from) => {}
                CopyStep::Claimed => actions.push(Action::LockShadow(which)),
                CopyStep::Locked => actions.push(Action::ReadPrimary(which)),
                CopyStep::Read(_) => actions.push(Action::Apply(which)),
                CopyStep::Committed => actions.push(Action::Forget(which)),
            }
        }
    }

    /// The sequence tells of a change of the primary that the snapshot has not seen.
    fn is_suspicious(&self, state: &State, side: u8, snapshot: Control) -> bool {
        self.flaw != Flaw::StaleSnapshot && state.on(side).noted > snapshot.epoch
    }

    /// A promotion to this side holds the lock of copies exclusively.
    fn is_promoted(&self, state: &State, side: u8) -> bool {
        self.flaw != Flaw::NoFenceForReconciles
            && state.promoter.is_some_and(|promoter| promoter.side == side)
    }

    fn of_outsider(&self, state: &State, actions: &mut Vec<Action>) {
        match state.outsider {
            Outsider::Idle if state.writes < self.writes => {
                for side in [SOURCE, TARGET] {
                    actions.push(Action::Outside(side, false));
                    // One whose snapshot names the other side is refused, whatever comes.
                    if state.on(side).control.primary == side {
                        actions.push(Action::Outside(side, true));
                    }
                }
            }
            Outsider::Idle => {}
            Outsider::Begun(side, _) if state.fence(side).is_none() => {
                actions.push(Action::OutsideLock);
            }
            Outsider::Begun(..) | Outsider::Refused => actions.push(Action::OutsideRollback),
            Outsider::Locked(side, snapshot) => {
                // Where the sequence is ahead of the snapshot, the row is locked, and who changes
                // it is waited for.
                let looks_at_row = snapshot.is_some_and(|old| self.is_suspicious(state, side, old));
                let changing =
                    state.coordinator.is_some_and(|it| it.flipping && it.from.primary == side);
                if !(looks_at_row && changing) {
                    actions.push(Action::OutsideCheck);
                }
                actions.push(Action::OutsideRollback);
            }
            Outsider::Checked(_) => {
                if state.writes < self.writes {
                    actions.push(Action::OutsideCommit);
                }
                actions.push(Action::OutsideRollback);
            }
        }
    }

    fn of_coordinator(&self, state: &State, it: &Coordinator, actions: &mut Vec<Action>) {
        actions.push(Action::Abandon);
        let side = it.from.primary;
        let sessions = || state.sessions.iter().flatten().filter(|session| session.side == side);
        let no_fence = self.flaw == Flaw::NoFence;
        if !it.fenced {
            // One that has looked, and waits for the lock, does not hold it.
            let early = self.flaw == Flaw::CheckBeforeLock;
            let holds = |session: &Session| session.epoch == it.from.epoch;
            let held = sessions().any(|session| holds(session) && (session.checked || !early))
                || state.outsider.locks() == Some(side);
            if !held || no_fence {
                actions.push(Action::Fence);
            }
        } else if self.flaw == Flaw::FlipElsewhere && !it.lost {
            // Else it is as good as ended.
            actions.push(Action::LoseFence);
        }
        if it.fenced && !it.settled {
            let older = |session: &Session| {
                let counts = self.flaw != Flaw::SettledByReports || !session.silent;
                session.epoch < it.from.epoch && counts
            };
            if no_fence || !sessions().any(older) {
                actions.push(Action::Settle);
            }
        }
        let may_look = it.settled || self.flaw == Flaw::DrainBeforeFence;
        if may_look && !it.drained && state.on(side).outbox == 0 {
            actions.push(Action::Drain);
        }
        let same = state.on(side).control == it.from || self.flaw == Flaw::FlipBlindly;
        if it.flipping {
            actions.extend([Action::Flip, Action::RollBack]);
        } else if it.settled && it.drained && same {
            actions.push(Action::Note);
        }
    }

    /// What an action makes of a state.
    pub(crate) fn step(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Open(..)
            | Action::Check(_)
            | Action::Commit(_)
            | Action::Close(_)
            | Action::FallSilent(_) => self.session(&mut state, action)?,
            Action::Claim(..)
            | Action::LockShadow(_)
            | Action::ReadPrimary(_)
            | Action::Apply(_)
            | Action::Forget(_)
            | Action::DropCopy(_) => self.copy(&mut state, action)?,
            Action::Outside(..)
            | Action::OutsideLock
            | Action::OutsideCheck
            | Action::OutsideCommit
            | Action::OutsideRollback => self.outside(&mut state, action),
            Action::Hear(_)
            | Action::LoseLease
            | Action::OpenReads(_)
            | Action::LookForReads
            | Action::EndReads
            | Action::Ask
            | Action::Answer
            | Action::ReadersMoved(_) => self.read(&mut state, action)?,
            Action::Promote(side) => {
                let to = before.on(1 - side).control;
                state.promoter = Some(Promoter { side, to, stopped: false });
            }
            Action::BringUp => {
                let Promoter { side, to, .. } = state.promoter.take()?;
                if before.on(side).control.epoch < to.epoch {
                    let on = state.on_mut(side);
                    // The primary has changed, for this row as well.
                    (on.control, on.noted) = (to, to.epoch);
                }
            }
            Action::StopPromoter => state.promoter.as_mut()?.stopped = true,
            Action::EndPromoter => state.promoter = None,
            Action::Advance => {
                let Control { epoch, primary } = before.counts();
                let on = state.on_mut(primary);
                on.control = Control { epoch: epoch + 1, primary };
                // What a flip has left behind that was rolled back is set right.
                on.noted = on.noted.min(epoch + 1);
            }
            Action::Begin => {
                let (fenced, lost, settled, drained, flipping) =
                    (false, false, false, false, false);
                let from = before.counts();
                state.coordinator =
                    Some(Coordinator { from, fenced, lost, settled, drained, flipping });
            }
            Action::NoteLate(side) => {
                let epoch = before.on(side).control.epoch;
                state.on_mut(side).noted = epoch;
            }
            _ => coordinate(&mut state, action, self.flaw)?,
        }
        // Sessions are alike, and so are reconciles: one order of them stands for all.
        state.sessions.sort_unstable();
        state.copies.sort_unstable();
        Some(state)
    }

    fn session(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Open(which, heard) => {
                let Control { epoch, primary: side } = state.on(heard).control;
                // To have looked early is only of use where it said the same.
                if self.flaw != Flaw::CheckBeforeLock || state.on(side).control.epoch == epoch {
                    let (checked, silent) = (false, false);
                    state.sessions[which] = Some(Session { side, epoch, checked, silent });
                }
            }
            Action::Check(which) => {
                let session = state.sessions[which]?;
                let same = state.on(session.side).control.epoch == session.epoch;
                let checked = same || self.flaw == Flaw::CheckBeforeLock;
                state.sessions[which] = checked.then_some(Session { checked, ..session });
            }
            Action::Commit(which) => write(state, state.sessions[which]?.side),
            Action::FallSilent(which) => state.sessions[which].as_mut()?.silent = true,
            Action::Close(which) => state.sessions[which] = None,
            _ => return None,
        }
        Some(())
    }

    fn copy(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Claim(which, from) => {
                let (claimed, step) = (state.on(from).outbox, CopyStep::Claimed);
                state.copies[which] = Some(Copy { from, claimed, step });
            }
            Action::LockShadow(which) => {
                let copy = state.copies[which]?;
                let onto = 1 - copy.from;
                let follows = state.on(onto).control.primary != onto;
                let goes_on = follows || self.flaw == Flaw::NoFenceForReconciles;
                let step = CopyStep::Locked;
                state.copies[which] = goes_on.then_some(Copy { step, ..copy });
            }
            Action::ReadPrimary(which) => {
                let copy = state.copies[which]?;
                let step = CopyStep::Read(state.on(copy.from).data);
                state.copies[which] = Some(Copy { step, ..copy });
            }
            Action::Apply(which) => {
                let copy = state.copies[which]?;
                let CopyStep::Read(image) = copy.step else { return None };
                state.on_mut(1 - copy.from).data = image;
                state.copies[which] = Some(Copy { step: CopyStep::Committed, ..copy });
            }
            Action::Forget(which) => {
                let copy = state.copies[which].take()?;
                state.on_mut(copy.from).outbox &= !copy.claimed;
            }
            Action::DropCopy(which) => state.copies[which] = None,
            _ => return None,
        }
        Some(())
    }

    fn outside(&self, state: &mut State, action: Action) {
        state.outsider = match (action, state.outsider) {
            (Action::Outside(side, old), _) => {
                Outsider::Begun(side, old.then(|| state.on(side).control))
            }
            (Action::OutsideLock, Outsider::Begun(side, snapshot)) => {
                Outsider::Locked(side, snapshot)
            }
            (Action::OutsideCheck, Outsider::Locked(side, snapshot)) => {
                let present = state.on(side).control;
                let is_primary = match snapshot {
                    None => present.primary == side,
                    // A lock of a row that has changed since is refused.
                    Some(old) if self.is_suspicious(state, side, old) => {
                        old == present && old.primary == side
                    }
                    Some(old) => old.primary == side,
                };
                if is_primary { Outsider::Checked(side) } else { Outsider::Refused }
            }
            (Action::OutsideCommit, Outsider::Checked(side)) => {
                write(state, side);
                Outsider::Idle
            }
            _ => Outsider::Idle,
        };
    }
}

fn coordinate(state: &mut State, action: Action, flaw: Flaw) -> Option<()> {
    let it = state.coordinator.as_mut()?;
    match action {
        Action::Note => {
            it.flipping = true;
            let side = it.from.primary;
            if flaw != Flaw::NotedLate {
                let on = state.on_mut(side);
                on.noted = on.control.epoch + 1;
            }
        }
        Action::RollBack => it.flipping = false,
        Action::Fence => it.fenced = true,
        Action::Settle => it.settled = true,
        Action::Drain => it.drained = true,
        Action::LoseFence => it.lost = true,
        Action::Flip => {
            let side = it.from.primary;
            state.coordinator = None;
            let epoch = state.on(side).control.epoch + 1;
            state.on_mut(side).control = Control { epoch, primary: 1 - side };
        }
        _ => state.coordinator = None,
    }
    Some(())
}

/// Commits a write and its key.
fn write(state: &mut State, side: u8) {
    let bit = 1 << state.writes;
    state.writes += 1;
    let database = state.on_mut(side);
    database.data |= bit;
    database.outbox |= bit;
}
