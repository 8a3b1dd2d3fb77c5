//! What can happen, and what comes of it.
//!
//! Nothing counts attempts or crashes. A worker that is stopped is one that does nothing while
//! others act; its lease may run out at any moment.

use crate::backfill::state::{Attempt, Flaw, Member, Scenario, Stage, State, Worker};
use crate::scenario::Change;
use crate::state::{Entry, EntrySet, KEYS, Row, Rows, Writer, bit, keys};

/// A party's place in the state that the action is taken in.
pub(crate) type Who = usize;

/// Whose reconcile an action belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum By {
    /// A member's, of claimed outbox rows.
    Member(Who),
    /// A worker's, of the keys that its second reading found.
    Worker(Who),
}

/// One step of one party.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// The application begins a transaction of the menu and runs its statements.
    Write(Who, u8),
    /// It commits, rows and outbox rows together (`postgres::capture::form::Form::body`).
    Commit(Who),
    /// It rolls back.
    Rollback(Who),
    /// `postgres::outbox::claim::claim`, of all rows that are due.
    Claim(Who),
    /// `postgres::reconcile::attempt::lock`, all keys of the set in one step.
    Lock(By),
    /// `Reconciler::read_both` in `postgres::reconcile::attempt`.
    Read(By),
    /// `postgres::reconcile::apply::apply` and the shadow's commit.
    Apply(By),
    /// `OutboxWorker::settle` in `postgres::reconcile::batch`: exactly what was claimed.
    Forget(Who),
    /// The member is lost, and gives its keys back by that.
    Lost(Who),
    /// `Claims::take` in `postgres::backfill::claims`: the chunk is claimed the first time,
    /// or after its worker's lease ran out or its attempt failed; its generation rises.
    ClaimChunk(Who),
    /// `postgres::backfill::snapshot::take`: in one repeatable-read transaction on the primary A
    /// is noted and the rows are read; A is empty for a chunk that is begun again.
    ReadChunk(Who),
    /// Only with [`Flaw::GenerationNotLocked`]: the claim's generation is looked at.
    LookAtClaim(Who),
    /// `postgres::backfill::write::begin` and `write::write`: in one transaction on the shadow the claim is locked, its generation checked, and the
    /// rows inserted `ON CONFLICT (primary key) DO NOTHING`.
    WriteChunk(Who),
    /// That transaction commits, at the end of `Copier::write` in `postgres::backfill::copier`.
    CommitChunk(Who),
    /// `postgres::backfill::changed::read`: the outbox is read again, and the keys of B − A are
    /// reconciled.
    Recheck(Who),
    /// `Claims::finish` in `postgres::backfill::claims`: the chunk is marked done by who
    /// still has its claim.
    Finish(Who),
    /// The worker is lost: its open transactions are rolled back.
    Crash(Who),
}

// === impl Scenario ===

impl Scenario {
    /// What can happen in a state.
    pub(crate) fn enabled(&self, state: &State, actions: &mut Vec<Action>) {
        for (who, writer) in state.writers.iter().enumerate() {
            if let Writer::Open(..) = writer {
                actions.extend([Action::Commit(who), Action::Rollback(who)]);
            }
        }
        let idle = state.writers.iter().position(|writer| *writer == Writer::Idle);
        if let (Some(who), true) = (idle, state.writes < self.writes) {
            let menu = 0..u8::try_from(self.menu.len()).unwrap_or(u8::MAX);
            let free = menu.filter(|transaction| self.may_begin(state, *transaction));
            actions.extend(free.map(|transaction| Action::Write(who, transaction)));
        }
        for (who, member) in state.members.iter().enumerate() {
            if member.claims == 0 {
                if state.due() != 0 {
                    actions.push(Action::Claim(who));
                }
                continue;
            }
            if member.committed {
                actions.push(Action::Forget(who));
            } else {
                self.attempt(state, By::Member(who), member.attempt, actions);
            }
            actions.push(Action::Lost(who));
        }
        for (who, worker) in state.workers.iter().enumerate() {
            self.worker(state, who, worker, actions);
        }
    }

    /// No other open transaction has locked the rows, and what is deleted is there.
    fn may_begin(&self, state: &State, transaction: u8) -> bool {
        let free = state.writers.iter().all(|writer| match writer {
            Writer::Open(other, _) => self.touched(*other) & self.touched(transaction) == 0,
            Writer::Idle | Writer::Uncaptured(..) => true,
        });
        free && self.menu[usize::from(transaction)].iter().all(|change| match change {
            Change::Put(..) => true,
            Change::Delete(key) => state.primary.rows[usize::from(*key)].is_some(),
        })
    }

    fn attempt(&self, state: &State, by: By, attempt: Attempt, actions: &mut Vec<Action>) {
        let first = self.flaw == Flaw::ReadBeforeLock;
        let locked = attempt.locks == attempt.set;
        if attempt.read.is_none() && (locked || first) {
            actions.push(Action::Read(by));
        } else if !locked {
            if state.locked() & attempt.set == 0 {
                actions.push(Action::Lock(by));
            }
        } else if state.being_inserted() & written(&attempt) == 0 {
            actions.push(Action::Apply(by));
        }
    }

    fn worker(&self, state: &State, who: Who, worker: &Worker, actions: &mut Vec<Action>) {
        let unlocked = self.flaw == Flaw::GenerationNotLocked;
        let holds = |other: &Worker| other.stage == Stage::Written && !unlocked;
        match worker.stage {
            Stage::Idle => {
                let may = !state.chunk.done && state.chunk.generation < self.claims;
                if may && !state.workers.iter().any(holds) {
                    actions.push(Action::ClaimChunk(who));
                }
                return;
            }
            Stage::Claimed => actions.push(Action::ReadChunk(who)),
            Stage::Read if unlocked => actions.push(Action::LookAtClaim(who)),
            // What another open chunk has inserted is waited for.
            Stage::Read | Stage::Looked => {
                if state.being_inserted() & present(&worker.image) == 0
                    && !state.workers.iter().any(holds)
                {
                    actions.push(Action::WriteChunk(who));
                }
            }
            Stage::Written => actions.push(Action::CommitChunk(who)),
            Stage::Committed => actions.push(Action::Recheck(who)),
            Stage::Rechecking if worker.attempt.set == 0 => actions.push(Action::Finish(who)),
            Stage::Rechecking => {
                self.attempt(state, By::Worker(who), worker.attempt, actions);
            }
        }
        actions.push(Action::Crash(who));
    }

    /// What an action makes of a state.
    pub(crate) fn step(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Write(who, transaction) => {
                state.writes += 1;
                state.writers[who] = Writer::Open(transaction, state.writes);
            }
            Action::Rollback(who) => state.writers[who] = Writer::Idle,
            Action::Commit(who) => self.commit(&mut state, who),
            Action::Claim(who) => {
                let claims = before.due();
                let set = entries(claims).fold(0, |set, index| set | 1 << before.outbox[index].key);
                let attempt = Attempt { set, ..Attempt::default() };
                state.members[who] = Member { claims, attempt, committed: false };
            }
            Action::Lock(by) => {
                let attempt = attempt_of(&mut state, by);
                attempt.locks = attempt.set;
            }
            Action::Read(by) => {
                let read = (before.primary.rows, before.shadow);
                attempt_of(&mut state, by).read = Some(read);
            }
            Action::Apply(by) => apply(&mut state, by),
            Action::Forget(who) => {
                for index in entries(before.members[who].claims) {
                    state.outbox[index].forgotten = true;
                }
                state.members[who] = Member::default();
            }
            Action::Lost(who) => state.members[who] = Member::default(),
            Action::ClaimChunk(who) => {
                state.chunk.generation += 1;
                let generation = state.chunk.generation;
                state.workers[who] =
                    Worker { stage: Stage::Claimed, generation, ..Worker::default() };
            }
            Action::ReadChunk(who) => {
                let all = (1 << before.outbox.len()) - 1;
                let worker = &mut state.workers[who];
                let fresh = worker.generation == 1 || self.flaw == Flaw::NotesKept;
                worker.noted = if fresh { all } else { 0 };
                worker.image = before.primary.rows;
                worker.stage = Stage::Read;
            }
            Action::LookAtClaim(who) => {
                let worker = &mut state.workers[who];
                worker.stage = Stage::Looked;
                if worker.generation != before.chunk.generation || before.chunk.done {
                    *worker = Worker::default();
                }
            }
            Action::WriteChunk(who) => self.write_chunk(&mut state, who),
            Action::CommitChunk(who) => {
                let worker = &mut state.workers[who];
                for key in keys(worker.inserted) {
                    state.shadow[key] = worker.image[key];
                }
                worker.inserted = 0;
                worker.stage = Stage::Committed;
                worker.image = Rows::default();
            }
            Action::Recheck(who) => {
                let noted = before.workers[who].noted;
                let seen = |index: &usize| {
                    noted & (1 << index) == 0
                        && self.flaw != Flaw::NoRecheck
                        && !(self.flaw == Flaw::ForgottenPassedOver
                            && before.outbox[*index].forgotten)
                };
                let found = (0..before.outbox.len()).filter(seen);
                let worker = &mut state.workers[who];
                worker.attempt.set =
                    found.fold(0, |set, index| set | 1 << before.outbox[index].key);
                worker.noted = 0;
                worker.stage = Stage::Rechecking;
            }
            Action::Finish(who) => {
                let mine = before.workers[who].generation == before.chunk.generation;
                state.chunk.done |= mine || self.flaw == Flaw::NoGeneration;
                state.workers[who] = Worker::default();
            }
            Action::Crash(who) => state.workers[who] = Worker::default(),
        }
        state.members.sort_unstable();
        state.writers.sort_unstable();
        state.workers.sort_unstable();
        Some(state)
    }

    fn commit(&self, state: &mut State, who: Who) {
        let Writer::Open(transaction, number) = state.writers[who] else { return };
        for change in &self.menu[usize::from(transaction)] {
            let (key, row) = match *change {
                Change::Put(key, unique, parent) => {
                    (key, Some(Row { value: number, unique, parent }))
                }
                Change::Delete(key) => (key, None),
            };
            state.primary.rows[usize::from(key)] = row;
            state.outbox.push(Entry { key, version: number, ..Entry::default() });
        }
        state.writers[who] = Writer::Idle;
    }

    fn write_chunk(&self, state: &mut State, who: Who) {
        let chunk = state.chunk;
        let shadow = state.shadow;
        let worker = &mut state.workers[who];
        let checked = matches!(self.flaw, Flaw::NoGeneration | Flaw::GenerationNotLocked);
        if !checked && (worker.generation != chunk.generation || chunk.done) {
            *worker = Worker::default();
            return;
        }
        worker.inserted = keys(present(&worker.image))
            .filter(|key| shadow[*key].is_none())
            .fold(0, |set, key| set | bit(key));
        worker.stage = Stage::Written;
    }
}

fn attempt_of(state: &mut State, by: By) -> &mut Attempt {
    match by {
        By::Member(who) => &mut state.members[who].attempt,
        By::Worker(who) => &mut state.workers[who].attempt,
    }
}

/// Keys of the set in which the readings differ: what the plan writes.
fn written(attempt: &Attempt) -> u8 {
    let Some((primary, shadow)) = attempt.read else { return 0 };
    keys(attempt.set).filter(|key| primary[*key] != shadow[*key]).fold(0, |set, key| set | bit(key))
}

/// A row that is there though the reading says not, or the other way round, ends the attempt by
/// a violation or by a count that is short; it is made again.
fn apply(state: &mut State, by: By) {
    let attempt = *attempt_of(state, by);
    let Some((primary, seen)) = attempt.read else { return };
    let plan = written(&attempt);
    if keys(plan).any(|key| state.shadow[key].is_some() != seen[key].is_some()) {
        *attempt_of(state, by) = Attempt { set: attempt.set, ..Attempt::default() };
        return;
    }
    for key in keys(plan) {
        state.shadow[key] = primary[key];
    }
    *attempt_of(state, by) = Attempt::default();
    if let By::Member(who) = by {
        state.members[who].committed = true;
    }
}

fn present(rows: &Rows) -> u8 {
    (0..KEYS).filter(|key| rows[*key].is_some()).fold(0, |set, key| set | bit(key))
}

fn entries(set: EntrySet) -> impl Iterator<Item = usize> {
    (0..16).filter(move |index| set & (1 << index) != 0)
}
