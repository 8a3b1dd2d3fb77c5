//! Clients that go on until they are stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use segue::grpc::proto;
use segue::grpc::proto::sql_client::SqlClient;
use tokio::task::JoinSet;
use tonic::transport::Endpoint;

use super::book::{Held, Ledger};
use super::calls::{Became, Sql};
use super::{COUNTERS, SEATS};
use crate::support::eventually;

/// Accounts that a client has at a time.
const ACCOUNTS_OF_A_CLIENT: usize = 12;
/// Room for the keys of one client.
const KEYS_OF_A_CLIENT: i64 = 10_000_000;
/// As much of it has each of its generations: a soak goes through a hundred in an hour.
const KEYS_OF_A_GENERATION: i64 = 10_000;
const ACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(120);
/// A call comes to its end within this, whatever became of it.
const STOP_LIMIT: Duration = Duration::from_secs(180);
/// A sidecar that is down refuses at once; the others must get their turn.
const PAUSE: Duration = Duration::from_millis(5);
/// Between the calls of a client of [`Mix::Calls`], at most: the processors are for what is tested.
const THINK_TIME_MAX: Duration = Duration::from_millis(20);

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Single statements: upserts, deletes, and increments of rows that all share.
    Statements,
    /// The same with a read of an account of the client's own between each five, and with some
    /// time between two calls.
    Calls,
    /// All there is: also changed keys, batches, insert–delete–insert, transactions, repeats by
    /// key, swaps of unique values, cascades, deadlines, and reads.
    Everything,
}

/// Clients that write until told to stop: each its own accounts, all the same hot rows.
pub struct Load {
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
    /// Of each client, its longest write since this was asked last, in microseconds.
    longest: Vec<Arc<AtomicU64>>,
}

impl Load {
    /// So many clients, in turn at these addresses. `generation` sets the accounts of loads
    /// apart that share a ledger.
    pub fn start(
        ledger: &Arc<Ledger>,
        addresses: &[String],
        clients: i64,
        (mix, seed, generation): (Mix, u64, i64),
    ) -> Self {
        let generations = KEYS_OF_A_CLIENT / KEYS_OF_A_GENERATION;
        assert!(generation < generations, "a client has keys for {generations} generations");
        let stop = Arc::new(AtomicBool::new(false));
        let (mut tasks, mut longest) = (JoinSet::new(), Vec::new());
        for number in 0..clients {
            let address = addresses[usize::try_from(number).unwrap() % addresses.len()].clone();
            let first = (1 + number) * KEYS_OF_A_CLIENT + generation * KEYS_OF_A_GENERATION;
            let client = Client::new(&address, Arc::clone(ledger), first, seed);
            longest.push(Arc::clone(&client.longest));
            tasks.spawn(client.until(Arc::clone(&stop), mix));
        }
        Self { ledger: Arc::clone(ledger), stop, clients: tasks, longest }
    }

    /// The longest write of each client of [`Mix::Calls`] since this was asked last.
    pub fn longest(&self) -> Vec<Duration> {
        let taken = self.longest.iter().map(|it| it.swap(0, Ordering::Relaxed));
        taken.map(Duration::from_micros).collect()
    }

    /// Eight clients of single statements.
    pub fn statements(ledger: &Arc<Ledger>, addresses: &[String]) -> Self {
        Self::start(ledger, addresses, 8, (Mix::Statements, rand::random(), 0))
    }

    /// Waits until so many more writes have been acknowledged.
    pub async fn acknowledged(&self, more: u64) {
        let wanted = self.ledger.acknowledged() + more;
        let what = format!("{wanted} acknowledged writes");
        eventually(&what, ACKNOWLEDGED_LIMIT, || async {
            self.is_whole();
            (self.ledger.acknowledged() >= wanted).then_some(())
        })
        .await;
    }

    /// Panics where a client has found something wrong.
    pub fn is_whole(&self) {
        assert!(!self.ledger.broken.load(Ordering::Relaxed), "a client found something wrong");
    }

    /// Lets all clients finish what they are at.
    pub async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = async {
            while let Some(ended) = self.clients.join_next().await {
                ended.unwrap();
            }
        };
        tokio::time::timeout(STOP_LIMIT, ended).await.expect("no caller is left hanging");
    }
}

/// Tells the others when a client panics.
struct Alarm(Arc<Ledger>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::Relaxed);
        }
    }
}

struct Client {
    ledger: Arc<Ledger>,
    sql: Sql,
    dice: StdRng,
    /// Its accounts and the states that they surely have.
    accounts: BTreeMap<i64, Held>,
    next_key: i64,
    /// Where the next generation's keys begin.
    keys_end: i64,
    keyed: u64,
    longest: Arc<AtomicU64>,
}

impl Client {
    fn new(address: &str, ledger: Arc<Ledger>, first_key: i64, seed: u64) -> Self {
        let channel = Endpoint::from_shared(address.to_owned()).unwrap().connect_lazy();
        let mut client = Self {
            ledger,
            sql: SqlClient::new(channel),
            dice: StdRng::seed_from_u64(seed ^ first_key.unsigned_abs()),
            accounts: BTreeMap::new(),
            next_key: first_key,
            keys_end: first_key + KEYS_OF_A_GENERATION,
            keyed: 0,
            longest: Arc::default(),
        };
        while client.accounts.len() < ACCOUNTS_OF_A_CLIENT {
            client.adopt();
        }
        client
    }

    async fn until(mut self, stop: Arc<AtomicBool>, mix: Mix) {
        let _alarm = Alarm(Arc::clone(&self.ledger));
        while !stop.load(Ordering::Relaxed) {
            let refused = self.ledger.totals().2;
            match mix {
                Mix::Statements => self.statement().await,
                Mix::Calls if self.dice.random_ratio(1, 6) => self.read().await,
                Mix::Calls => self.measured_statement().await,
                Mix::Everything => self.anything().await,
            }
            if self.ledger.totals().2 > refused {
                tokio::time::sleep(PAUSE).await;
            }
            if mix == Mix::Calls {
                tokio::time::sleep(self.dice.random_range(Duration::ZERO..THINK_TIME_MAX)).await;
            }
            tokio::task::yield_now().await;
        }
    }

    /// A new account, which is not there yet.
    fn adopt(&mut self) {
        let key = self.fresh_key();
        self.accounts.insert(key, None);
    }

    /// A key that no client has had.
    fn fresh_key(&mut self) -> i64 {
        assert!(self.next_key < self.keys_end, "a generation has {KEYS_OF_A_GENERATION} keys");
        self.next_key += 1;
        self.next_key - 1
    }

    fn any(&mut self) -> i64 {
        let at = self.dice.random_range(0..self.accounts.len());
        *self.accounts.keys().nth(at).unwrap()
    }

    fn next_state(&mut self) -> Held {
        (!self.dice.random_ratio(1, 7)).then(|| self.ledger.next_version())
    }

    /// Enters what became of changes; accounts in doubt are replaced.
    fn settle(&mut self, steps: &[(i64, Held)], became: Became) {
        for (key, held) in steps {
            match became {
                Became::Nothing => {}
                Became::Done => {
                    self.accounts.insert(*key, *held);
                }
                Became::Doubtful => {
                    if self.accounts.remove(key).is_some() {
                        self.adopt();
                    }
                }
            }
        }
    }

    async fn statement(&mut self) {
        if self.dice.random_ratio(1, 5) {
            let counter = self.dice.random_range(1..=COUNTERS);
            self.ledger.count(&mut self.sql, counter).await;
        } else {
            self.write(None).await;
        }
    }

    async fn measured_statement(&mut self) {
        let begun = Instant::now();
        self.statement().await;
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.longest.fetch_max(took, Ordering::Relaxed);
    }

    async fn read(&mut self) {
        let key = self.any();
        let encodings = [proto::Encoding::Typed, proto::Encoding::Packed];
        let encoding = encodings[self.dice.random_range(0..2)];
        self.ledger.read(&mut self.sql, key, self.accounts[&key], encoding).await;
    }

    async fn write(&mut self, deadline: Option<Duration>) {
        let (key, held) = (self.any(), self.next_state());
        let became = self.ledger.write(&mut self.sql, key, held, deadline).await;
        self.settle(&[(key, held)], became);
    }

    async fn anything(&mut self) {
        match self.dice.random_range(0..20) {
            0..=5 => self.write(None).await,
            6 => {
                let deadline = Duration::from_millis(self.dice.random_range(2..400));
                self.write(Some(deadline)).await;
            }
            7 => self.change_key().await,
            8 | 9 => {
                let steps = self.steps();
                let became = self.ledger.batch(&mut self.sql, &steps).await;
                self.settle(&steps, became);
            }
            10 | 11 => {
                let (steps, commits) = (self.steps(), !self.dice.random_ratio(1, 4));
                let became = self.ledger.transaction(&mut self.sql, &steps, commits).await;
                self.settle(&steps, became);
            }
            12 => self.there_and_back().await,
            13 => {
                let counter = self.dice.random_range(1..=COUNTERS);
                self.ledger.count(&mut self.sql, counter).await;
            }
            14 => {
                let counter = self.dice.random_range(1..=COUNTERS);
                self.keyed += 1;
                let key = format!("client {} call {}", self.next_key, self.keyed);
                self.ledger.count_once(&mut self.sql, counter, &key).await;
            }
            15 | 16 => {
                let one = self.dice.random_range(1..=SEATS);
                let other = one % SEATS + 1;
                self.ledger.swap(&mut self.sql, one, other).await;
            }
            17 => {
                let (account, n) = (self.any(), self.dice.random_range(1..5));
                self.ledger.add_line(&mut self.sql, account, n).await;
            }
            _ => self.read().await,
        }
    }

    /// Several states, of some accounts more than one: delete and insert, insert and delete.
    fn steps(&mut self) -> Vec<(i64, Held)> {
        let count = self.dice.random_range(2..5);
        let mut steps: Vec<_> = (0..count).map(|_| (self.any(), self.next_state())).collect();
        if self.dice.random_ratio(1, 2) {
            let key = steps[0].0;
            steps.extend([(key, None), (key, Some(self.ledger.next_version()))]);
        }
        steps
    }

    async fn change_key(&mut self) {
        let there = self.accounts.iter().filter(|(_, held)| held.is_some()).map(|(key, _)| *key);
        let Some(from) = there.min_by_key(|_| self.dice.random::<u32>()) else { return };
        let (to, version) = (self.fresh_key(), self.ledger.next_version());
        let became = self.ledger.move_account(&mut self.sql, from, to, version).await;
        match became {
            Became::Nothing => {}
            Became::Doubtful => self.settle(&[(from, None)], became),
            Became::Done => {
                self.accounts.remove(&from);
                self.accounts.insert(to, Some(version));
            }
        }
    }

    /// Insert, delete, insert: three writes of one row in short order.
    async fn there_and_back(&mut self) {
        let key = self.any();
        for held in [Some(self.ledger.next_version()), None, Some(self.ledger.next_version())] {
            let became = self.ledger.write(&mut self.sql, key, held, None).await;
            self.settle(&[(key, held)], became);
            if became != Became::Done {
                return;
            }
        }
    }
}
