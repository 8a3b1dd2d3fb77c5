//! What can happen, and what comes of it. A party that is stopped is one that does nothing while
//! others act; the server may end its transaction on the shadow at any moment.

use crate::apply::state::{
    Applier, Control, Entry, Flaw, Late, Scenario, Snapshot, Stage, State, Who,
};

/// Changes of the control row, the first row included.
const VERSIONS_MAX: u8 = 6;

/// One step of one party.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// A transfer from the first account to the second, in one transaction.
    Transfer,
    /// A change of the second account alone.
    Deposit,
    /// The phase becomes `shift`.
    Shift,
    /// A member takes the control row.
    Hear,
    /// `Transaction::open_alone` in `postgres::reconcile::session`.
    Take(Who),
    /// `Snapshot::open` in `postgres::reconcile::consistent`.
    Open(Who),
    /// All of the snapshot is committed on the shadow.
    Commit(Who),
    /// What cannot be applied as a whole is left; with leave, it goes on in steps.
    Leave(Who),
    /// `FleetReads::off` in `control::target_reads`.
    PutOff(Who),
    /// Every member has taken it.
    Taken(Who),
    /// `Snapshot::forget`.
    Forget(Who),
    /// `FleetReads::on`.
    LetOn(Who),
    /// A step begins with a key: `Reconciler::attempt` under the shared turn.
    Step(Who, usize),
    /// It commits, and its outbox rows are forgotten.
    StepCommit(Who),
    /// The server ends its transaction on the shadow, or the process is lost.
    End(Who),
    /// The late reconcile takes the shared turn.
    LateShare(usize),
    /// It reads, and the phase with it.
    LateRead,
    /// It commits.
    LateCommit,
    /// Somebody mends the target.
    Mend,
}

impl Scenario {
    /// What can happen now.
    pub(crate) fn enabled(&self, s: &State, actions: &mut Vec<Action>) {
        if s.history.len() <= usize::from(self.writes) {
            actions.extend([Action::Transfer, Action::Deposit]);
        }
        if !s.control.shift {
            actions.push(Action::Shift);
        }
        if s.known != s.control {
            actions.push(Action::Hear);
        }
        if s.stuck {
            actions.push(Action::Mend);
        }
        for (who, applier) in s.appliers.iter().enumerate() {
            self.of_applier(s, who, *applier, actions);
        }
        match s.late {
            Late::Idle if self.late => {
                let free = !s.taken() || self.flaw == Flaw::KeysOverlap;
                actions.extend((0..2).filter(|_| free).map(Action::LateShare));
            }
            Late::Sharing(_) => actions.push(Action::LateRead),
            Late::Read(..) => actions.push(Action::LateCommit),
            Late::Idle | Late::Over => {}
        }
    }

    fn of_applier(&self, s: &State, who: Who, applier: Applier, actions: &mut Vec<Action>) {
        let free = !s.taken() && !s.shared(self.flaw) || self.flaw == Flaw::NoTurn;
        let early = self.flaw == Flaw::SnapshotBeforeTheTurn;
        if applier.open {
            actions.push(Action::End(who));
        }
        match applier.stage {
            Stage::Idle if early => actions.push(Action::Open(who)),
            Stage::Idle if free => actions.push(Action::Take(who)),
            Stage::Idle => {}
            Stage::Turn => actions.push(Action::Open(who)),
            Stage::Snapshot(..) if !applier.open => {
                actions.extend((early && free).then_some(Action::Take(who)));
            }
            Stage::Snapshot(snapshot, had_leave) => {
                let fits = !s.stuck || !s.keys(snapshot.entries).contains(&1);
                let fits = fits || self.flaw == Flaw::StuckKeyLeftOut;
                actions.push(match (snapshot.control.shift, fits, had_leave) {
                    (true, true, _) => Action::Commit(who),
                    // So often, or it would never end.
                    (true, false, false) if s.control.version < VERSIONS_MAX => Action::PutOff(who),
                    _ => Action::Leave(who),
                });
            }
            Stage::Committed(..) => actions.push(Action::Forget(who)),
            Stage::Forgotten(..) => actions.push(Action::LetOn(who)),
            Stage::PuttingOff(_) => actions.push(Action::Taken(who)),
            Stage::Step(..) if applier.open => actions.push(Action::StepCommit(who)),
            Stage::Step(..) => {}
        }
        let steps =
            applier.stage == Stage::Idle && applier.leave == Some(s.control.version) && !s.taken();
        if steps {
            let keys = s.keys(s.snapshot().entries).into_iter();
            let fits = keys.filter(|key| *key == 0 || !s.stuck);
            actions.extend(fits.map(|key| Action::Step(who, key)));
        }
    }

    /// What comes of it; nothing where it cannot be.
    pub(crate) fn step(&self, before: &State, action: Action) -> Option<State> {
        let mut s = before.clone();
        match action {
            Action::Transfer => write(&mut s, &[0, 1], [-1, 1]),
            Action::Deposit => write(&mut s, &[1], [0, 1]),
            Action::Shift => {
                let version = s.control.version + 1;
                s.control = Control { version, shift: true, off: Some(None) };
            }
            Action::Hear => s.known = s.control,
            Action::Mend => s.stuck = false,
            Action::LateShare(key) => s.late = Late::Sharing(key),
            Action::LateRead => {
                let Late::Sharing(key) = s.late else { return None };
                let snapshot = s.snapshot();
                let may = !snapshot.control.shift || self.flaw == Flaw::KeysOverlap;
                s.late = if may { Late::Read(key, snapshot) } else { Late::Over };
            }
            Action::LateCommit => {
                let Late::Read(key, snapshot) = s.late else { return None };
                if !(s.stuck && key == 1) {
                    s.target[key] = snapshot.rows[key];
                }
                s.late = Late::Over;
            }
            Action::Take(who)
            | Action::Open(who)
            | Action::Commit(who)
            | Action::Leave(who)
            | Action::PutOff(who)
            | Action::Taken(who)
            | Action::Forget(who)
            | Action::LetOn(who)
            | Action::Step(who, _)
            | Action::StepCommit(who)
            | Action::End(who) => self.applier(&mut s, who, action)?,
        }
        (s != *before).then_some(s)
    }

    fn applier(&self, s: &mut State, who: Who, action: Action) -> Option<()> {
        let mut applier = s.appliers[who];
        match (action, applier.stage) {
            (Action::Take(_), Stage::Idle) => {
                applier = Applier { stage: Stage::Turn, open: true, ..applier };
            }
            (Action::Take(_), Stage::Snapshot(..)) => applier.open = true,
            (Action::Open(_), _) => {
                let snapshot = s.snapshot();
                let had_leave = applier.leave == Some(snapshot.control.version);
                applier.leave = None;
                applier.stage = Stage::Snapshot(snapshot, had_leave);
            }
            (Action::Commit(_), Stage::Snapshot(snapshot, had_leave)) => {
                for key in s.keys(snapshot.entries) {
                    let late = self.flaw == Flaw::RowsOutsideTheSnapshot && key == 1;
                    let rows = if late { s.primary() } else { snapshot.rows };
                    if !(s.stuck && key == 1) {
                        s.target[key] = rows[key];
                    }
                }
                let stage = Stage::Committed(snapshot, had_leave);
                applier = Applier { stage, open: false, ..applier };
            }
            (Action::Leave(_), Stage::Snapshot(snapshot, had_leave)) => {
                let leave = had_leave.then_some(snapshot.control.version);
                applier = Applier { stage: Stage::Idle, leave, open: false };
            }
            (Action::PutOff(_), Stage::Snapshot(snapshot, _)) => {
                applier = Applier { stage: Stage::Idle, open: false, ..applier };
                if s.control.version == snapshot.control.version {
                    let version = s.control.version + 1;
                    s.control = Control { version, off: Some(Some(who)), ..s.control };
                    applier.stage = Stage::PuttingOff(version);
                }
            }
            (Action::Taken(_), Stage::PuttingOff(version)) => {
                if s.known.version < version && self.flaw != Flaw::StepsAtOnce {
                    return None;
                }
                applier = Applier { stage: Stage::Idle, leave: Some(version), ..applier };
            }
            (Action::Forget(_), Stage::Committed(snapshot, had_leave)) => {
                self.forget(s, snapshot);
                applier.stage = Stage::Forgotten(snapshot, had_leave);
            }
            (Action::LetOn(_), Stage::Forgotten(snapshot, had_leave)) => {
                let same = s.control.version == snapshot.control.version
                    || self.flaw == Flaw::LetOnWhatever && s.control.shift;
                let mine = snapshot.control.off == Some(None) || had_leave;
                if same && mine && s.control.off.is_some() {
                    let version = s.control.version + 1;
                    s.control = Control { version, off: None, ..s.control };
                }
                applier.stage = Stage::Idle;
            }
            (Action::Step(_, key), Stage::Idle) => {
                let stage = Stage::Step(s.snapshot(), key);
                applier = Applier { stage, open: true, ..applier };
            }
            (Action::StepCommit(_), Stage::Step(snapshot, key)) => {
                s.target[key] = snapshot.rows[key];
                let of_key = |place: usize| s.outbox[place].key == key;
                let entries = (0..s.outbox.len()).filter(|place| of_key(*place));
                let entries = entries.fold(0, |set, place| set | 1 << place) & snapshot.entries;
                forget(s, entries);
                applier = Applier { stage: Stage::Idle, open: false, ..applier };
            }
            // Lost before its commit, nothing is done; the process itself may go on.
            (Action::End(_), _) => {
                applier = Applier { stage: Stage::Idle, open: false, ..applier };
            }
            _ => return None,
        }
        s.appliers[who] = applier;
        Some(())
    }

    fn forget(&self, s: &mut State, snapshot: Snapshot) {
        let entries = match self.flaw {
            Flaw::ForgetMore => {
                let keys = s.keys(snapshot.entries);
                let of_keys =
                    (0..s.outbox.len()).filter(|place| keys.contains(&s.outbox[*place].key));
                of_keys.fold(0, |set, place| set | 1 << place)
            }
            Flaw::StuckKeyLeftOut if s.stuck => {
                let first = (0..s.outbox.len()).filter(|place| s.outbox[*place].key == 0);
                first.fold(0, |set, place| set | 1 << place) & snapshot.entries
            }
            _ => snapshot.entries,
        };
        forget(s, entries);
    }
}

fn forget(s: &mut State, entries: u16) {
    for (place, entry) in s.outbox.iter_mut().enumerate() {
        entry.forgotten |= entries & (1 << place) != 0;
    }
}

fn write(s: &mut State, keys: &[usize], by: [i8; 2]) {
    let mut rows = s.primary();
    for key in keys {
        rows[*key] += by[*key];
        s.outbox.push(Entry { key: *key, forgotten: false });
    }
    s.history.push(rows);
}
