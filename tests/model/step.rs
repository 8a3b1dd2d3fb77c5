//! When an action can happen, and what comes of it.

use crate::action::{Action, Due, Who};
use crate::scenario::{Flaw, Scenario};
use crate::shadow::{self, Applied};
use crate::state::{
    Entry, EntrySet, Image, KeySet, Member, RANGES, State, Step, WHOLE, Writer, bit, keys,
    stands_for,
};

// === impl Scenario ===

impl Scenario {
    /// What can happen in a state.
    pub(crate) fn enabled(&self, state: &State, actions: &mut Vec<Action>) {
        for (who, writer) in state.writers.iter().enumerate() {
            match writer {
                Writer::Idle => {}
                Writer::Open(..) => actions.extend([Action::Commit(who), Action::Rollback(who)]),
                Writer::Uncaptured(..) => {
                    actions.extend([Action::Capture(who), Action::Rollback(who)]);
                }
            }
        }
        // Idle writers are alike, and so are idle members: the first acts for all.
        let idle = state.writers.iter().position(|writer| *writer == Writer::Idle);
        if let (Some(who), true) = (idle, state.writes < self.writes) {
            let menu = 0..u8::try_from(self.menu.len()).unwrap_or(u8::MAX);
            let free = menu.filter(|transaction| self.may_begin(state, *transaction));
            actions.extend(free.map(|transaction| Action::Write(who, transaction)));
        }
        if let Some(who) = state.members.iter().position(|member| member.step == Step::Idle) {
            let due = state.due();
            if state.foldable().count_ones() > 1 {
                actions.push(Action::Claim(who, Due::All));
            }
            let rows = (0..16).filter(|row| due & (1 << row) != 0);
            actions.extend(rows.map(|row| Action::Claim(who, Due::One(row))));
        }
        if state.fold_open {
            actions.push(Action::FoldEnd);
        } else if state.folds < self.folds && state.foldable() != 0 {
            actions.push(Action::Fold);
        }
        if !state.fold_open && state.folds < self.folds && state.coarsenable() != 0 {
            actions.push(Action::Coarsen);
        }
        for who in 0..state.members.len() {
            self.steps(state, who, actions);
        }
    }

    /// Nobody else's open transaction has locked the rows, and the constraints allow it.
    fn may_begin(&self, state: &State, transaction: u8) -> bool {
        let free = state.writers.iter().all(|writer| match writer {
            Writer::Open(other, _) => {
                !self.constrained && self.touched(*other) & self.touched(transaction) == 0
            }
            Writer::Idle | Writer::Uncaptured(..) => true,
        });
        free && self.after(&state.primary, transaction, state.writes + 1).is_some()
    }

    fn steps(&self, state: &State, who: Who, actions: &mut Vec<Action>) {
        let member = &state.members[who];
        let first = self.flaw == Flaw::ReadBeforeLock;
        let wanted = self.to_lock(member);
        let locked = member.locks == wanted;
        match member.step {
            Step::Idle => return,
            Step::Locking if first => actions.push(Action::Read(who)),
            Step::Locking if locked => actions.push(Action::Read(who)),
            Step::Locking => self.next_lock(state, who, actions),
            Step::Read if !locked => self.next_lock(state, who, actions),
            Step::Read if self.foreign_keys => actions.push(Action::Plan(who)),
            Step::Read | Step::Planned => {
                if shadow::apply(self, state, who) != Applied::Waits {
                    actions.push(Action::Apply(who));
                }
            }
            Step::Applied if self.flaw == Flaw::ForgetBeforeCommit && member.claims != 0 => {
                actions.push(Action::Forget(who));
            }
            Step::Applied => actions.push(Action::ShadowCommit(who)),
            Step::Unique | Step::ForeignKey => actions.push(Action::Learn(who)),
            Step::Committed => actions.push(Action::Forget(who)),
        }
        actions.push(Action::Crash(who));
        if member.step == Step::Committed {
            return;
        }
        actions.push(Action::Fail(who));
        if !member.claim_lost {
            actions.push(Action::LoseClaim(who));
        }
        if member.step == Step::Locking && member.locks == 0 {
            if member.set.count_ones() > 1 {
                actions.extend(keys(member.set).map(|key| Action::Halve(who, bit(key))));
            }
        } else {
            actions.push(Action::Again(who));
        }
    }

    fn all_keys(&self) -> KeySet {
        let of_menu = (0..).take(self.menu.len()).fold(0, |all, one| all | self.touched(one));
        (0..self.rows.len())
            .filter(|key| self.rows[*key].is_some())
            .fold(of_menu, |all, key| all | bit(key))
    }

    /// Goes through the table, or a range of it, key by key.
    fn pass(&self, begun: Member, within: KeySet) -> Member {
        let mut all = self.all_keys() & within;
        if self.flaw == Flaw::RangeTooNarrow && within.count_ones() == 2 {
            all &= all - 1;
        }
        let first = keys(all).next().map_or(0, bit);
        Member { set: first, rest: all & !first, ..begun }
    }

    /// The keys whose locks an attempt takes.
    fn to_lock(&self, member: &Member) -> KeySet {
        if self.flaw == Flaw::ExtraWithoutLock { member.set } else { member.all() }
    }

    fn next_lock(&self, state: &State, who: Who, actions: &mut Vec<Action>) {
        let held = state.members.iter().fold(0, |held, member| held | member.locks);
        if self.next_of(&state.members[who]).is_some_and(|key| held & bit(key) == 0) {
            actions.push(Action::Lock(who));
        }
    }

    fn next_of(&self, member: &Member) -> Option<usize> {
        keys(self.to_lock(member) & !member.locks).next()
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
            Action::Commit(who) | Action::Capture(who) => self.commit(&mut state, who)?,
            Action::Claim(who, due) => {
                let claims = match due {
                    // A row that stands for the table is taken alone.
                    Due::All => before.foldable(),
                    Due::One(row) => 1 << row,
                };
                let set = entries(claims).fold(0, |set, index| set | 1 << before.outbox[index].key);
                let begun = Member { step: Step::Locking, claims, set, ..Member::default() };
                let passes = match due {
                    Due::One(row) => stands_for(before.outbox[usize::from(row)].key),
                    Due::All => None,
                };
                state.members[who] = passes.map_or(begun, |within| self.pass(begun, within));
            }
            Action::Fold => {
                state.folds += 1;
                let stands = |entry: &Entry| entry.key == WHOLE && entry.waits();
                let into_old = self.flaw == Flaw::FoldIntoOld && state.outbox.iter().any(stands);
                let mut into = Vec::new();
                for index in entries(before.foldable()) {
                    state.outbox[index].folded = true;
                    let key = state.outbox[index].key;
                    let covers = |range: &u8| Entry { key: *range, ..Entry::default() }.covers(key);
                    into.extend(RANGES.into_iter().filter(|it| self.ranges && covers(it)));
                }
                into.sort_unstable();
                into.dedup();
                if into.is_empty() {
                    into.push(WHOLE);
                }
                state.fold_open = self.flaw == Flaw::FoldApart;
                if !state.fold_open && !into_old {
                    let entry = |key| Entry { key, ..Entry::default() };
                    state.outbox.extend(into.into_iter().map(entry));
                }
            }
            Action::Coarsen => {
                state.folds += 1;
                let stands = |entry: &Entry| entry.key == WHOLE && entry.waits();
                let into_old = self.flaw == Flaw::CoarsenIntoOld && state.outbox.iter().any(stands);
                for index in entries(before.coarsenable()) {
                    state.outbox[index].folded = true;
                }
                if !into_old {
                    state.outbox.push(Entry { key: WHOLE, ..Entry::default() });
                }
            }
            Action::FoldEnd => {
                state.fold_open = false;
                state.outbox.push(Entry { key: WHOLE, ..Entry::default() });
            }
            Action::Halve(who, set) => state.members[who].set = set,
            Action::Lock(who) => {
                let key = self.next_of(&before.members[who])?;
                state.members[who].locks |= bit(key);
            }
            Action::Read(who) => read(&mut state, who),
            Action::Plan(who) => self.plan(&mut state, who),
            Action::Apply(who) => self.apply(&mut state, who),
            Action::Learn(who) => learn(&mut state, who),
            Action::ShadowCommit(who) => shadow_commit(&mut state, who),
            Action::Forget(who) => self.forget(&mut state, who),
            Action::Again(who) => state.members[who] = before.members[who].again(),
            Action::Fail(who) | Action::Crash(who) => state.members[who] = Member::default(),
            Action::LoseClaim(who) => {
                state.members[who].claims = 0;
                state.members[who].claim_lost = true;
            }
        }
        // Members are alike: one order of them stands for all.
        state.members.sort_unstable();
        state.writers.sort_unstable();
        Some(state)
    }

    fn commit(&self, state: &mut State, who: Who) -> Option<()> {
        let (transaction, number) = match state.writers[who] {
            Writer::Idle => return None,
            Writer::Open(transaction, number) => {
                state.primary = self.after(&state.primary, transaction, number)?;
                if self.flaw == Flaw::CaptureApart {
                    state.writers[who] = Writer::Uncaptured(transaction, number);
                    return Some(());
                }
                (transaction, number)
            }
            Writer::Uncaptured(transaction, number) => (transaction, number),
        };
        let touched = keys_of(self.touched(transaction));
        let entry = |key| Entry { key, version: number, ..Entry::default() };
        state.outbox.extend(touched.map(entry));
        state.writers[who] = Writer::Idle;
        Some(())
    }

    fn plan(&self, state: &mut State, who: Who) {
        loop {
            let member = &state.members[who];
            let plan = shadow::plan(member);
            let children = shadow::children(state, plan.deletes | plan.reinserts);
            let missing = children & !member.all();
            let new = children & !plan.deletes & !plan.reinserts;
            let member = &mut state.members[who];
            if missing != 0 {
                *member = grown(member, missing);
                return;
            }
            if new == 0 {
                member.step = Step::Planned;
                return;
            }
            member.forced |= new;
        }
    }

    fn apply(&self, state: &mut State, who: Who) {
        let applied = shadow::apply(self, state, who);
        let member = &mut state.members[who];
        match applied {
            Applied::Done(plan) => {
                member.step = Step::Applied;
                member.out = plan.deletes | plan.reinserts;
                member.written = member.out | plan.updates | plan.inserts;
            }
            Applied::Waits => {}
            Applied::Unique => rolled_back(member, Step::Unique),
            Applied::ForeignKey => rolled_back(member, Step::ForeignKey),
            Applied::Surprised => *member = member.again(),
        }
    }

    fn forget(&self, state: &mut State, who: Who) {
        // Of a pass, the last key was done.
        let passed = entries(state.members[who].claims).map(|index| state.outbox[index].key);
        let passed = passed.filter(|key| stands_for(*key).is_some());
        let done = passed.fold(state.members[who].set, |done, key| done | 1 << key);
        let held = |index: usize| state.members.iter().any(|m| m.claims & (1 << index) != 0);
        let claims = state.members[who].claims;
        let all = self.flaw == Flaw::ForgetWholeKey;
        let forgotten: Vec<usize> = (0..state.outbox.len())
            .filter(|index| done & (1 << state.outbox[*index].key) != 0)
            .filter(|index| claims & (1 << index) != 0 || (all && !held(*index)))
            .collect();
        for index in forgotten {
            state.outbox[index].forgotten = true;
        }
        let member = &mut state.members[who];
        if member.step == Step::Committed {
            *member = Member::default();
        } else {
            member.claims = 0;
            member.claim_lost = true;
        }
    }
}

fn keys_of(set: KeySet) -> impl Iterator<Item = u8> {
    (0..8).filter(move |key| set & (1 << key) != 0)
}

fn entries(set: EntrySet) -> impl Iterator<Item = usize> {
    (0..16).filter(move |index| set & (1 << index) != 0)
}

fn read(state: &mut State, who: Who) {
    let mut primary = Image::default();
    let (committed, shadow) = (state.primary, state.shadow.rows);
    let member = &mut state.members[who];
    for key in keys(member.all()) {
        primary.rows[key] = committed.rows[key];
        primary.versions[key] = committed.versions[key];
        member.shadow[key] = shadow[key];
    }
    member.primary = primary;
    member.step = Step::Read;
}

/// The set with more keys, from the beginning.
fn grown(member: &Member, more: KeySet) -> Member {
    Member { extra: member.extra | (more & !member.set), ..member.again() }
}

/// The shadow's transaction is rolled back; what was read is still known.
fn rolled_back(member: &mut Member, step: Step) {
    member.step = step;
    member.locks = 0;
}

fn learn(state: &mut State, who: Who) {
    let member = &state.members[who];
    let next = match member.step {
        Step::Unique => {
            let holders = shadow::holders(state, member);
            Member { holders_first: true, ..grown(member, holders & !member.all()) }
        }
        _ => grown(member, shadow::parents(member) & !member.all()),
    };
    state.members[who] = next;
}

fn shadow_commit(state: &mut State, who: Who) {
    let member = &state.members[who];
    for key in keys(member.all()) {
        let version = member.primary.versions[key];
        state.went_back |= version < state.shadow.versions[key];
        state.shadow.versions[key] = version;
    }
    for key in keys(member.written) {
        state.shadow.rows[key] = member.primary.rows[key];
    }
    let member = &mut state.members[who];
    if let Some(next) = keys(member.rest).next() {
        // The next page of the pass.
        let rest = member.rest & !bit(next);
        *member = Member { set: bit(next), rest, extra: 0, holders_first: false, ..member.again() };
        return;
    }
    // Without a claim there is nothing to forget, and nobody to notice.
    *member = if member.claim_lost {
        Member::default()
    } else {
        Member {
            step: Step::Committed,
            claims: member.claims,
            set: member.set,
            ..Member::default()
        }
    };
}
