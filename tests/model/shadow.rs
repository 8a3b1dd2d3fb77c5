//! One attempt's dealings with the shadow: the plan, what its statements run into, and what
//! is learned from that.

use crate::scenario::Scenario;
use crate::state::{KEYS, KeySet, Member, Row, Rows, State, Step, bit, keys};

/// What a plan does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Rows that go out.
    pub(crate) deletes: KeySet,
    /// Rows whose columns change in place.
    pub(crate) updates: KeySet,
    /// Rows that come in.
    pub(crate) inserts: KeySet,
    /// Rows that are taken out and put back.
    pub(crate) reinserts: KeySet,
}

/// How the statements of a plan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// All were executed.
    Done(Plan),
    /// One waits for the end of another member's transaction.
    Waits,
    /// A unique value is held by a row.
    Unique,
    /// A parent is missing, or a child is there.
    ForeignKey,
    /// A row was not what the reading said; the keys' locks keep this from happening.
    Surprised,
}

/// Compares what was read: `reconcile::plan::plan`.
pub(crate) fn plan(member: &Member) -> Plan {
    let mut plan = Plan::default();
    for key in keys(member.all()) {
        let forced = member.forced & bit(key) != 0;
        match (member.primary.rows[key], member.shadow[key]) {
            (None, None) => {}
            (None, Some(_)) => plan.deletes |= bit(key),
            (Some(_), None) => plan.inserts |= bit(key),
            (Some(wanted), Some(found)) => {
                if forced || (member.holders_first && wanted.unique != found.unique) {
                    plan.reinserts |= bit(key);
                } else if wanted != found {
                    plan.updates |= bit(key);
                }
            }
        }
    }
    plan
}

/// Rows of the shadow, as this member sees them, that refer to rows which the plan takes
/// out: `reconcile::attempt::children_of_removed`.
pub(crate) fn children(state: &State, removed: KeySet) -> KeySet {
    let refers = |row: &Row| row.parent.is_some_and(|parent| removed & (1 << parent) != 0);
    let found = (0..KEYS).filter(|key| state.shadow.rows[*key].as_ref().is_some_and(refers));
    found.fold(0, |set, key| set | bit(key))
}

/// Runs the plan's statements: `reconcile::apply::apply`. All of them are one step here; one
/// that has to wait has none of them executed.
pub(crate) fn apply(scenario: &Scenario, state: &State, me: usize) -> Applied {
    let member = &state.members[me];
    let plan = plan(member);
    let mut statements = Statements {
        scenario,
        state,
        me,
        view: state.shadow.rows,
        others: others(state, me),
        plan,
    };
    if keys(member.all())
        .any(|key| state.shadow.rows[key].is_some() != member.shadow[key].is_some())
    {
        return Applied::Surprised;
    }
    let written = plan.deletes | plan.updates | plan.inserts | plan.reinserts;
    if statements.others.iter().any(|(key, _)| written & bit(*key) != 0) {
        return Applied::Waits;
    }
    statements.run().err().unwrap_or(Applied::Done(plan))
}

/// Rows that other members' open transactions have written, with what they made of them.
fn others(state: &State, me: usize) -> Vec<(usize, Option<Row>)> {
    let applied = |member: &&Member| member.step == Step::Applied;
    let members = state.members.iter().enumerate().filter(|(index, _)| *index != me);
    members
        .map(|(_, member)| member)
        .filter(applied)
        .flat_map(|member| keys(member.written).map(|key| (key, member.primary.rows[key])))
        .collect()
}

struct Statements<'a> {
    scenario: &'a Scenario,
    state: &'a State,
    me: usize,
    view: Rows,
    others: Vec<(usize, Option<Row>)>,
    plan: Plan,
}

// === impl Statements ===

impl Statements<'_> {
    /// Out, children first; then updates and inserts, parents first. With foreign keys a
    /// key's number is its table's place as well: parents have the lower one.
    fn run(&mut self) -> Result<(), Applied> {
        let out: Vec<usize> = keys(self.plan.deletes | self.plan.reinserts).collect();
        for key in out.iter().rev() {
            self.view[*key] = None;
        }
        for key in out {
            self.removed(key)?;
        }
        let Plan { updates, inserts, reinserts, .. } = self.plan;
        if self.scenario.foreign_keys {
            return keys(updates | inserts | reinserts).try_for_each(|key| self.put(key));
        }
        [updates, inserts, reinserts]
            .into_iter()
            .try_for_each(|set| keys(set).try_for_each(|key| self.put(key)))
    }

    /// What the removal of a row runs into.
    fn removed(&self, key: usize) -> Result<(), Applied> {
        if !self.scenario.foreign_keys {
            return Ok(());
        }
        let refers = |row: &Row| row.parent == u8::try_from(key).ok();
        // Another's new child holds a share of its parent's row; a child that another takes
        // out is waited for by the check.
        let new = self.others.iter().any(|(_, row)| row.as_ref().is_some_and(refers));
        let children = (0..KEYS).filter(|child| self.view[*child].as_ref().is_some_and(refers));
        if new || children.clone().any(|child| self.others.iter().any(|(k, _)| *k == child)) {
            return Err(Applied::Waits);
        }
        if children.count() > 0 { Err(Applied::ForeignKey) } else { Ok(()) }
    }

    fn put(&mut self, key: usize) -> Result<(), Applied> {
        let Some(row) = self.state.members[self.me].primary.rows[key] else { return Ok(()) };
        let before = self.view[key];
        if row.unique != 0 && before.map(|row| row.unique) != Some(row.unique) {
            self.unique(key, row.unique)?;
        }
        if let (true, Some(parent)) = (self.scenario.foreign_keys, row.parent) {
            let parent = usize::from(parent);
            if self.view[parent].is_none() {
                return Err(Applied::ForeignKey);
            }
            if self.others.iter().any(|(other, row)| *other == parent && row.is_none()) {
                return Err(Applied::Waits);
            }
        }
        self.view[key] = Some(row);
        Ok(())
    }

    fn unique(&self, key: usize, value: u8) -> Result<(), Applied> {
        let has = |row: &Option<Row>| row.is_some_and(|row| row.unique == value);
        if self.others.iter().any(|(other, row)| *other != key && has(row)) {
            return Err(Applied::Waits);
        }
        let holder = (0..KEYS).find(|holder| *holder != key && has(&self.view[*holder]));
        if let Some(holder) = holder {
            let leaving = self.others.iter().any(|(other, _)| *other == holder);
            return Err(if leaving { Applied::Waits } else { Applied::Unique });
        }
        Ok(())
    }
}

/// Rows that hold a unique value which a row of the plan is to get, as the shadow is after
/// the rollback: `reconcile::conflict::holders`.
pub(crate) fn holders(state: &State, member: &Member) -> KeySet {
    let plan = plan(member);
    let wanted = keys(plan.updates | plan.inserts | plan.reinserts)
        .filter_map(|key| member.primary.rows[key])
        .filter(|row| row.unique != 0);
    let holds = |key: &usize| {
        state.shadow.rows[*key].is_some_and(|row| wanted.clone().any(|w| w.unique == row.unique))
    };
    (0..KEYS).filter(holds).fold(0, |set, key| set | bit(key))
}

/// Rows that the plan's rows refer to: `reconcile::conflict::parents`.
pub(crate) fn parents(member: &Member) -> KeySet {
    let plan = plan(member);
    keys(plan.updates | plan.inserts | plan.reinserts)
        .filter_map(|key| member.primary.rows[key]?.parent)
        .fold(0, |set, parent| set | 1 << parent)
}
