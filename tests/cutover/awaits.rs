//! Whoever is lost in the middle of a transaction of segue's own, at whatever moment of it.
//!
//! The places are not written down but found: one member, and the commands that are given there,
//! speak to the databases through a proxy that knows what each connection has done since its
//! transaction began, or its session took a lock. At each such moment the process is stopped, or
//! all its packets go nowhere from there on, while clients write at the two other members.

use std::collections::BTreeMap;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::fleet::{Fleet, LIMIT, load, said};
use crate::ledger::{Ledger, Load};
use crate::stopped::goes_on;
use crate::support::awaits::{Awaits, Place, Places};
use crate::support::guard::signal;
use crate::support::{Proxy, eventually};

/// Set, it has a member lost at every place by either way, which takes more than an hour: `1/1`, or
/// the second of three parts, `2/3`. Otherwise at so many of each action, each the last of its
/// transaction, where the most is held.
const ALL: &str = "SEGUE_ALL_AWAITS";
const PLACES_MAX: usize = 5;
/// The member that is lost.
const LOST: usize = 2;
/// A look at what a member does by itself takes so long.
const LOOK: Duration = Duration::from_secs(6);
/// What a member does by itself, or a command at its second attempt, may be another thing.
const ATTEMPTS_MAX: usize = 3;

/// What a member, or a command that is given there, is doing when it is lost.
#[derive(Debug, Clone, Copy)]
enum Action {
    /// What it does by itself, from its start on, as the leader of the fleet.
    Serve,
    /// A command, after this was done on both sides so that there is something for it to do.
    Command(&'static str, &'static [&'static str]),
}

/// As an older segue has left it.
const OLDER: &str = "DELETE FROM segue.schema_version WHERE version >= 20";
const NO_TRIGGER: &str = "DROP TRIGGER IF EXISTS segue_capture_insert ON coupon";
const COPY: [&str; 4] = ["backfill", "--empty-target", "--accept", "column.narrower"];
const PERCENTAGE: [&str; 5] = ["phase", "percentage", "10", "--reason", "a test"];
const CUTOVER: [&str; 6] = ["cutover", "--yes", "--force", "--reason", "a test", "--reconnect=1s"];

const WHILE_COPYING: [Action; 5] = [
    Action::Serve,
    Action::Command(OLDER, &["init"]),
    Action::Command(NO_TRIGGER, &["capture", "install"]),
    Action::Command("SELECT", &COPY),
    Action::Command("SELECT", &["verify", "--repair"]),
];
const WHILE_SHIFTING: [Action; 4] = [
    Action::Serve,
    Action::Command("SELECT", &PERCENTAGE),
    Action::Command("SELECT", &CUTOVER),
    Action::Command("SELECT", &["rollback", "--yes", "--reconnect=1s"]),
];

/// How it is lost.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Loss {
    Stopped,
    CutOff,
}

struct World {
    fleet: Fleet,
    places: Arc<Places>,
    /// What is cut.
    behind: [Arc<Proxy>; 2],
    _before: [Awaits; 2],
    /// The process that was stopped.
    stopped: Arc<AtomicU32>,
}

impl World {
    async fn of(mut fleet: Fleet) -> Self {
        let places = Arc::new(Places::default());
        let behind = [&fleet.source, &fleet.target].map(|it| Arc::new(Proxy::start(it.port())));
        let before = [("source", &behind[0]), ("target", &behind[1])]
            .map(|(side, it)| Awaits::start(side, it.port(), &places));
        fleet.join_by(before[0].port(), before[1].port()).await;
        fleet.settled_at_all().await;
        Self { fleet, places, behind, _before: before, stopped: Arc::default() }
    }

    /// Begins it; gives the command, where it is one.
    async fn begin(&mut self, action: Action) -> Option<Child> {
        match action {
            Action::Serve => {
                self.fleet.members[LOST].kill();
                self.fleet.members[LOST].spawn();
                None
            }
            Action::Command(before, arguments) => {
                for database in [&self.fleet.pair.source, &self.fleet.pair.target] {
                    database.run(before).await;
                }
                Some(self.fleet.members[LOST].start_piped(arguments))
            }
        }
    }

    /// Gives it the lead, as if the leader's lease had ended, when it is there.
    async fn leads(&self) {
        let address = self.fleet.members[LOST].admin_address();
        let port = address.rsplit(':').next().unwrap();
        let lead = format!(
            "UPDATE segue.leader SET term = term + 1, \
                lease_until = clock_timestamp() + interval '4 s', member_id = m.member_id \
             FROM segue.member AS m WHERE m.name LIKE '%:{port}' AND m.lease_until > now()"
        );
        for database in [&self.fleet.pair.source, &self.fleet.pair.target] {
            database.run(&lead).await;
        }
    }

    /// Until it has ended, is lost, or has been looked at for long enough.
    async fn until_lost(&self, child: &mut Option<Child>) {
        let begun = std::time::Instant::now();
        eventually("it is lost, or has ended", LIMIT, || {
            let is_member = child.is_none();
            let is_over = match child.as_mut() {
                Some(child) => child.try_wait().unwrap().is_some(),
                None => begun.elapsed() > LOOK,
            };
            async move {
                if is_member {
                    self.leads().await;
                }
                (is_over || self.places.is_over()).then_some(())
            }
        })
        .await;
    }

    /// Where the action passes while nothing happens to it.
    async fn found(&mut self, action: Action) -> BTreeMap<Place, usize> {
        // It is nowhere, so that no one is lost.
        let nowhere = Place { side: "", first: String::new(), last: String::new() };
        for attempt in 1.. {
            self.places.seen();
            self.places.lose_at(&nowhere, |_| ());
            let mut child = self.begin(action).await;
            self.until_lost(&mut child).await;
            let Some(output) = child.map(|child| child.wait_with_output().unwrap()) else { break };
            if output.status.success() {
                break;
            }
            // A cutover may be called off on a busy machine.
            assert!(attempt < ATTEMPTS_MAX, "{action:?}: {}", said(&output));
        }
        self.places.seen()
    }

    /// Has it lost at the place; gives whether it came there, and the command.
    async fn lost_at(
        &mut self,
        action: Action,
        place: &Place,
        loss: Loss,
    ) -> (bool, Option<Child>) {
        let (behind, stopped) = (self.behind.clone(), Arc::clone(&self.stopped));
        self.places.lose_at(place, move |process| match loss {
            Loss::Stopped => {
                signal("STOP", &[process]);
                stopped.store(process, Ordering::SeqCst);
            }
            Loss::CutOff => behind.iter().for_each(|it| it.pause()),
        });
        for _ in 0..ATTEMPTS_MAX {
            let mut child = self.begin(action).await;
            self.until_lost(&mut child).await;
            if self.places.is_over() {
                return (true, child);
            }
        }
        self.places.call_off();
        (false, None)
    }

    /// Until the fleet has missed it, where it is the member itself that is lost.
    async fn is_missed(&self) {
        let port = self.fleet.members[LOST].admin_address();
        let port = port.rsplit(':').next().unwrap();
        let missed = format!(
            "SELECT count(*) FROM segue.member \
             WHERE name LIKE '%:{port}' AND lease_until > clock_timestamp()"
        );
        let primary = self.fleet.primary().await;
        eventually("its lease is over", LIMIT, async || {
            (primary.rows(&missed).await == ["0"]).then_some(())
        })
        .await;
    }

    /// It is there again, and its command comes to an end.
    async fn is_back(&mut self, child: Option<Child>) {
        self.behind.iter().for_each(|it| it.resume());
        let stopped = self.stopped.swap(0, Ordering::SeqCst);
        if stopped != 0 {
            signal("CONT", &[stopped]);
        }
        if let Some(mut child) = child {
            eventually("its command ends", LIMIT, || {
                let ended = child.try_wait().unwrap();
                async move { ended }
            })
            .await;
        }
        let lost = &mut self.fleet.members[LOST];
        if !lost.is_running() {
            lost.spawn();
        }
        lost.serves().await;
        self.fleet.settled_at_all().await;
    }

    /// Back where the action begins.
    async fn again(&self, phase: &str) {
        let stands = self.fleet.phase().await;
        match (stands.as_str(), phase) {
            ("reversed", "shift") => drop(self.fleet.changed("rollback").await),
            ("shift", "reversed") => drop(self.fleet.changed("cutover").await),
            _ => assert_eq!(stands, phase),
        }
    }
}

/// The places at which it is lost, and how.
fn chosen(found: &BTreeMap<Place, usize>) -> Vec<(Place, Loss)> {
    const WAYS: [Loss; 2] = [Loss::Stopped, Loss::CutOff];
    if let Ok(part) = std::env::var(ALL) {
        let (number, of) = part.split_once('/').expect("a part as in 2/3");
        let (number, of): (usize, usize) = (number.parse().unwrap(), of.parse().unwrap());
        assert!((1..=of).contains(&number), "{part}: a part as in 2/3");
        let places = found.keys().skip(number - 1).step_by(of);
        return places.flat_map(|it| WAYS.map(|loss| (it.clone(), loss))).collect();
    }
    let mut last = BTreeMap::new();
    for (place, done) in found {
        let deepest = last.entry((place.side, &place.first)).or_insert((*done, place));
        *deepest = (*done, place).max(*deepest);
    }
    let mut last: Vec<(usize, &Place)> = last.into_values().collect();
    last.sort_unstable_by(|one, other| other.cmp(one));
    let places = last.into_iter().take(PLACES_MAX).map(|(_, place)| place.clone());
    places.zip(WAYS.into_iter().cycle()).collect()
}

async fn lost_at_each(fleet: Fleet, actions: &[Action], phase: &str) {
    let mut world = World::of(fleet).await;
    let ledger = Arc::new(Ledger::default());
    let (mut lost, mut missing) = (0, 0);
    for (generation, action) in (0..).zip(actions) {
        let from = if matches!(action, Action::Command(_, [first, ..]) if *first == "rollback") {
            "reversed"
        } else {
            phase
        };
        let clients: Load = load(&ledger, &world.fleet.addresses()[..LOST], generation);
        clients.acknowledged(60).await;
        world.again(from).await;
        let found = world.found(*action).await;
        let chosen = chosen(&found);
        println!("{action:?}: {} places, {} of them tried", found.len(), chosen.len());
        for (place, loss) in chosen {
            world.again(from).await;
            let (is_lost, child) = world.lost_at(*action, &place, loss).await;
            if !is_lost {
                println!("not met again: {place:?}");
                missing += 1;
                continue;
            }
            lost += 1;
            let what = format!("{loss:?} {} {} … {}", place.side, place.first, place.last);
            goes_on(&clients, &what).await;
            if child.is_none() {
                world.is_missed().await;
            }
            world.is_back(child).await;
            clients.acknowledged(20).await;
        }
        world.again(from).await;
        clients.stop().await;
        ledger.no_errors(&format!("{action:?}"));
        world.fleet.everything_agrees(&ledger).await;
    }
    println!("lost {lost} times, {missing} places were not met again");
    assert!(missing * 4 < lost, "{missing} of {lost}: it is not known where it passes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_or_a_setup_that_is_lost_at_any_of_its_awaits_stops_no_writes() {
    lost_at_each(Fleet::in_phase(2, "dual_write").await, &WHILE_COPYING, "dual_write").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_primary_that_is_lost_at_any_of_its_awaits_stops_no_writes() {
    lost_at_each(Fleet::in_shift(2).await, &WHILE_SHIFTING, "shift").await;
}
