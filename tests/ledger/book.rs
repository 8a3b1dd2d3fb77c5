//! Every write, what was told of it, and which states that leaves possible.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// The version of an account; `None` is no row.
pub type Held = Option<i64>;

/// What a client was told of the effect of its write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It is done: by an answer, or by an error that says so.
    Applied,
    /// Surely nothing was done.
    NotApplied,
    /// Either.
    Unknown,
}

/// A side whose states are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// It has every write as soon as that is acknowledged.
    Primary = 0,
    /// It has them in time, and never goes back.
    Shadow = 1,
}

/// One write: all of its changes are applied, or none.
#[derive(Debug, Default)]
struct Write {
    changes: Vec<(i64, Held)>,
    /// `None` while its answer is awaited.
    told: Option<Told>,
}

/// The states of one account, in the order of the writes that led to them. The first is that
/// of no row.
#[derive(Debug, Clone)]
struct Account {
    states: Vec<(usize, Held)>,
    /// The last state that was acknowledged.
    settled: usize,
    /// The earliest that each side can have been in when it was looked at last.
    seen: [usize; 2],
    /// For reads that must see the last acknowledged state; mostly empty.
    token: String,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    applied: u64,
    unknown: u64,
    open: u64,
    seen: [u64; 2],
}

#[derive(Debug, Default)]
pub(super) struct Book {
    writes: Vec<Write>,
    accounts: BTreeMap<i64, Account>,
    counters: BTreeMap<i64, Counter>,
}

/// What was acknowledged before a look at a database.
#[derive(Debug)]
pub struct Mark {
    settled: BTreeMap<i64, usize>,
    counted: BTreeMap<i64, u64>,
}

/// All that the clients of a test were told.
#[derive(Debug, Default)]
pub struct Ledger {
    pub(super) book: Mutex<Book>,
    version: AtomicI64,
    acknowledged: AtomicU64,
    unknown: AtomicU64,
    refused: AtomicU64,
    conflicts: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) replayed: AtomicU64,
    /// A client found something wrong, and its task has panicked.
    pub(super) broken: AtomicBool,
    doubts: Mutex<Vec<String>>,
    refusals: Mutex<Vec<String>>,
    latencies: Mutex<Vec<Duration>>,
}

/// Doubts that are kept with their reasons.
const DOUBTS_MAX: usize = 50;
/// States of an account that are told of before the one that is settled.
const STATES_TOLD: usize = 6;

// === impl Ledger ===

impl Ledger {
    /// A version that no write had before.
    pub fn next_version(&self) -> i64 {
        self.version.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes a write of accounts that is about to be sent.
    pub(super) fn begin(&self, changes: &[(i64, Held)]) -> usize {
        let mut book = self.book.lock().unwrap();
        let write = book.writes.len();
        book.writes.push(Write { changes: changes.to_vec(), told: None });
        for (key, held) in changes {
            book.accounts.entry(*key).or_insert_with(Account::new).states.push((write, *held));
        }
        write
    }

    /// Notes what was told of it.
    pub(super) fn end(&self, write: usize, told: Told) {
        self.tally(told);
        let mut guard = self.book.lock().unwrap();
        let Book { writes, accounts, .. } = &mut *guard;
        writes[write].told = Some(told);
        if told != Told::Applied {
            return;
        }
        for (key, _) in &writes[write].changes {
            let account = accounts.get_mut(key).unwrap();
            account.settled = account.states.iter().rposition(|(by, _)| *by == write).unwrap();
        }
    }

    /// Keeps what reads of the write's accounts must bring from now on. A write that changed
    /// nothing has no token, and says nothing of the one before it.
    pub(super) fn keep_token(&self, write: usize, token: &str) {
        if token.is_empty() {
            return;
        }
        let mut guard = self.book.lock().unwrap();
        let Book { writes, accounts, .. } = &mut *guard;
        for (key, _) in &writes[write].changes {
            accounts.get_mut(key).unwrap().token = token.to_owned();
        }
    }

    /// What a read of an account brings.
    pub(super) fn token(&self, key: i64) -> String {
        let book = self.book.lock().unwrap();
        book.accounts.get(&key).map(|account| account.token.clone()).unwrap_or_default()
    }

    /// What clients were told of an account's last states, for who finds it in none of them.
    pub(super) fn history(&self, key: i64) -> String {
        let book = self.book.lock().unwrap();
        let Some(account) = book.accounts.get(&key) else { return "nobody wrote it".to_owned() };
        let floor = account.settled.saturating_sub(STATES_TOLD);
        format!("{}; {:?}", account.told(floor, &book.writes), self.doubts.lock().unwrap())
    }

    /// Notes an increment that is about to be sent.
    pub(super) fn begin_count(&self, counter: i64) {
        self.book.lock().unwrap().counters.entry(counter).or_default().open += 1;
    }

    /// Notes what was told of it.
    pub(super) fn end_count(&self, counter: i64, told: Told) {
        self.tally(told);
        let mut book = self.book.lock().unwrap();
        let counter = book.counters.entry(counter).or_default();
        counter.open -= 1;
        match told {
            Told::Applied => counter.applied += 1,
            Told::Unknown => counter.unknown += 1,
            Told::NotApplied => {}
        }
    }

    /// Counts an outcome that no account and no counter has.
    pub(super) fn tally(&self, told: Told) {
        let count = match told {
            Told::Applied => &self.acknowledged,
            Told::NotApplied => &self.refused,
            Told::Unknown => &self.unknown,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// A write that the database refused for what another client did: nobody's fault.
    pub(super) fn conflict(&self, write: Option<usize>) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
        if let Some(write) = write {
            self.book.lock().unwrap().writes[write].told = Some(Told::NotApplied);
        }
    }

    /// Keeps why an outcome is unknown, or why a write was surely not applied.
    pub(super) fn doubt(&self, told: Told, why: String) {
        let list = match told {
            Told::Unknown => &self.doubts,
            Told::NotApplied => &self.refusals,
            Told::Applied => return,
        };
        let mut list = list.lock().unwrap();
        if list.len() < DOUBTS_MAX {
            list.push(why);
        }
    }

    pub(super) fn took(&self, elapsed: Duration) {
        self.latencies.lock().unwrap().push(elapsed);
    }

    /// Median, 99th percentile and longest of the calls since this was asked last.
    pub fn latencies(&self) -> [Duration; 3] {
        let mut all = std::mem::take(&mut *self.latencies.lock().unwrap());
        all.sort_unstable();
        [all.len() / 2, all.len() * 99 / 100, all.len().saturating_sub(1)]
            .map(|at| all.get(at).copied().unwrap_or_default())
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Why outcomes are unknown, the first of them.
    pub fn doubts(&self) -> Vec<String> {
        self.doubts.lock().unwrap().clone()
    }

    /// Panics where a caller was told of any failure that was not another client's doing.
    pub fn no_errors(&self, when: &str) {
        let (_, unknown, refused) = self.totals();
        let refusals = self.refusals.lock().unwrap();
        assert_eq!((unknown, refused), (0, 0), "{when}: {:#?} {refusals:#?}", self.doubts());
    }

    /// Acknowledged, of unknown outcome, surely not applied; conflicts between clients, which
    /// are not applied either, are not among them.
    pub fn totals(&self) -> (u64, u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.acknowledged), load(&self.unknown), load(&self.refused))
    }

    /// The same with the rest, for people.
    pub fn summary(&self) -> String {
        let (acknowledged, unknown, refused) = self.totals();
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        format!(
            "{acknowledged} writes acknowledged, {unknown} unknown, {refused} not applied, \
             {} in conflict with others; {} repeats given the first answer; {} reads right",
            load(&self.conflicts),
            load(&self.replayed),
            load(&self.reads)
        )
    }

    /// What is acknowledged now: whoever looks at the primary later must find no less.
    pub fn mark(&self) -> Mark {
        let book = self.book.lock().unwrap();
        Mark {
            settled: book.accounts.iter().map(|(key, it)| (*key, it.settled)).collect(),
            counted: book.counters.iter().map(|(key, it)| (*key, it.applied)).collect(),
        }
    }

    /// Holds what a database had at one moment after `mark` against the book.
    ///
    /// # Errors
    ///
    /// The first thing that it cannot have been, in words.
    pub fn judge(
        &self,
        side: Follow,
        mark: &Mark,
        accounts: &BTreeMap<i64, i64>,
        counters: &BTreeMap<i64, u64>,
    ) -> Result<(), String> {
        let mut guard = self.book.lock().unwrap();
        let Book { writes, accounts: known, counters: counted } = &mut *guard;
        if let Some(key) = accounts.keys().find(|key| !known.contains_key(key)) {
            return Err(format!("account {key} is there, and was never written"));
        }
        for (key, account) in known {
            let held = accounts.get(key).copied();
            let settled = mark.settled.get(key).copied().filter(|_| side == Follow::Primary);
            let floor = account.seen[side as usize].max(settled.unwrap_or(0));
            let Some(at) = account.first_as(held, floor, writes) else {
                return Err(format!("account {key} is {held:?}; {}", account.told(floor, writes)));
            };
            account.seen[side as usize] = at;
        }
        for (key, n) in counters {
            let counter = counted.entry(*key).or_default();
            let settled = mark.counted.get(key).copied().filter(|_| side == Follow::Primary);
            let floor = counter.seen[side as usize].max(settled.unwrap_or(0));
            let most = counter.applied + counter.unknown + counter.open;
            if !(floor..=most).contains(n) {
                return Err(format!("counter {key} is {n}, not from {floor} to {most}"));
            }
            counter.seen[side as usize] = *n;
        }
        Ok(())
    }

    /// Whether every write in doubt is wholly there or wholly not, where no write goes on.
    ///
    /// # Errors
    ///
    /// The first that is neither.
    pub fn judge_doubts(&self, accounts: &BTreeMap<i64, i64>) -> Result<(), String> {
        let book = self.book.lock().unwrap();
        for write in book.writes.iter().filter(|write| write.told == Some(Told::Unknown)) {
            let now = |key: &i64| accounts.get(key).copied();
            // Nobody writes an account again that is in doubt.
            let before = |key: &i64| {
                let account = &book.accounts[key];
                account.states[account.settled].1
            };
            let done = write.changes.iter().all(|(key, held)| now(key) == *held);
            let undone = write.changes.iter().all(|(key, _)| now(key) == before(key));
            if !done && !undone {
                return Err(format!("a write is there in part: {:?}", write.changes));
            }
        }
        Ok(())
    }
}

// === impl Account ===

impl Account {
    fn new() -> Self {
        // The state before the first write, which no write has made.
        Self { states: vec![(usize::MAX, None)], settled: 0, seen: [0, 0], token: String::new() }
    }

    /// The first state from `floor` on that is as it was found.
    fn first_as(&self, held: Held, floor: usize, writes: &[Write]) -> Option<usize> {
        (floor..self.states.len()).find(|at| {
            let (by, state) = self.states[*at];
            let refused = writes.get(by).is_some_and(|it| it.told == Some(Told::NotApplied));
            state == held && !refused
        })
    }

    fn told(&self, floor: usize, writes: &[Write]) -> String {
        let told = |(by, held): &(usize, Held)| (*held, writes.get(*by).and_then(|it| it.told));
        let states: Vec<_> = self.states[floor..].iter().map(told).collect();
        format!("the clients were told, from what it was before: {states:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(rows: &[(i64, i64)]) -> BTreeMap<i64, i64> {
        rows.iter().copied().collect()
    }

    fn judged(ledger: &Ledger, side: Follow, rows: &[(i64, i64)]) -> Result<(), String> {
        ledger.judge(side, &ledger.mark(), &accounts(rows), &BTreeMap::new())
    }

    fn write(ledger: &Ledger, changes: &[(i64, Held)], told: Told) {
        let write = ledger.begin(changes);
        ledger.end(write, told);
    }

    #[test]
    fn an_acknowledged_write_must_be_on_the_primary_and_may_be_late_on_the_shadow() {
        let ledger = Ledger::default();
        write(&ledger, &[(1, Some(5))], Told::Applied);
        write(&ledger, &[(1, Some(6))], Told::Applied);
        assert!(judged(&ledger, Follow::Primary, &[(1, 5)]).is_err());
        judged(&ledger, Follow::Shadow, &[]).unwrap();
        judged(&ledger, Follow::Shadow, &[(1, 5)]).unwrap();
        judged(&ledger, Follow::Shadow, &[(1, 6)]).unwrap();
        assert!(judged(&ledger, Follow::Shadow, &[(1, 5)]).is_err(), "it went back");
        assert!(judged(&ledger, Follow::Primary, &[(1, 6), (2, 1)]).is_err(), "out of nowhere");
    }

    #[test]
    fn what_was_refused_is_nowhere_and_what_is_unknown_may_be_there() {
        let ledger = Ledger::default();
        write(&ledger, &[(1, Some(5))], Told::Applied);
        write(&ledger, &[(1, Some(6))], Told::NotApplied);
        assert!(judged(&ledger, Follow::Primary, &[(1, 6)]).is_err());
        assert!(judged(&ledger, Follow::Shadow, &[(1, 6)]).is_err());
        write(&ledger, &[(1, Some(7))], Told::Unknown);
        judged(&ledger, Follow::Primary, &[(1, 5)]).unwrap();
        judged(&ledger, Follow::Primary, &[(1, 7)]).unwrap();
        assert!(judged(&ledger, Follow::Primary, &[(1, 5)]).is_err(), "it was seen already");
    }

    #[test]
    fn a_write_in_doubt_is_there_as_a_whole() {
        let ledger = Ledger::default();
        write(&ledger, &[(3, Some(4))], Told::Applied);
        write(&ledger, &[(1, Some(5)), (2, Some(6)), (3, None)], Told::Unknown);
        ledger.judge_doubts(&accounts(&[(3, 4)])).unwrap();
        ledger.judge_doubts(&accounts(&[(1, 5), (2, 6)])).unwrap();
        for part in [&[(1, 5)][..], &[(1, 5), (2, 6), (3, 4)], &[(1, 5), (3, 4)], &[]] {
            assert!(ledger.judge_doubts(&accounts(part)).is_err(), "{part:?}");
        }
    }

    #[test]
    fn counters_lie_between_what_is_sure_and_what_may_be() {
        let ledger = Ledger::default();
        for told in [Told::Applied, Told::Applied, Told::Unknown, Told::NotApplied] {
            ledger.begin_count(1);
            ledger.end_count(1, told);
        }
        let judge = |side, n| {
            let counters = BTreeMap::from([(1, n)]);
            ledger.judge(side, &ledger.mark(), &BTreeMap::new(), &counters)
        };
        assert!(judge(Follow::Primary, 1).is_err());
        judge(Follow::Shadow, 1).unwrap();
        judge(Follow::Primary, 3).unwrap();
        assert!(judge(Follow::Primary, 2).is_err(), "it went back");
        assert!(judge(Follow::Shadow, 4).is_err());
    }
}
