//! Those that are neither lost nor there: stopped in the middle, or cut off from both databases,
//! and back when all is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use segue::failpoint::FailPoint;
use segue::grpc::proto;
use segue::grpc::proto::sql_client::SqlClient;
use tonic::transport::{Channel, Endpoint};

use crate::fleet::{Fleet, LIMIT, load, said};
use crate::ledger::{Ledger, Load};
use crate::support::{Proxy, Server, eventually};

/// The longer of the two leases of these fleets, the pause's, and what segue promises beyond it:
/// writes go on, whatever one stopped process holds.
const OUTAGE_MAX: Duration = Duration::from_secs(5 + 2);

/// Places at which a coordinator of a way to or from CockroachDB is stopped.
pub const PLACES: [FailPoint; 5] = [
    FailPoint::CutoverAfterPrepare,
    FailPoint::CutoverAfterAnnouncing,
    FailPoint::CutoverAfterFence,
    FailPoint::CutoverAfterSequences,
    FailPoint::CutoverAfterFlip,
];

/// Each place in turn: whoever runs the cutover stops there, another one does it, and the first one
/// wakes up and goes on with what it believes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_was_stopped_wakes_when_another_has_done_its_work() {
    stopped_at_each(Fleet::in_shift(3).await, FailPoint::OF_A_CUTOVER).await;
}

pub async fn stopped_at_each(mut fleet: Fleet, places: &[FailPoint]) {
    let [there, back] = fleet.ways().await;
    let ledger = Arc::new(Ledger::default());
    for (generation, place) in (0..).zip(places.iter().map(|place| place.name())) {
        fleet.members[2].kill();
        fleet.members[2].serve_with(&[("SEGUE_STOP_AT", place)]).await;
        let clients = load(&ledger, &fleet.addresses()[..2], generation);
        clients.acknowledged(60).await;
        fleet.settled_at_all().await;
        let running = fleet.stopped_within(2, there.command, place).await;
        // Whatever it holds is over with its lease: writes go on, here or there.
        goes_on(&clients, place).await;
        if fleet.phase().await == there.from {
            fleet.changed(there.command).await;
        }
        clients.acknowledged(60).await;
        fleet.woken(2, running, place).await;
        clients.acknowledged(60).await;
        assert_eq!(fleet.phase().await, back.from, "{place}");
        fleet.changed(back.command).await;
        clients.acknowledged(60).await;
        clients.stop().await;
        ledger.no_errors(place);
        fleet.everything_agrees(&ledger).await;
    }
}

/// How a member is lost that comes back later.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Loss {
    /// Its process is stopped.
    Stopped,
    /// From there on its packets go nowhere.
    CutOff,
}

/// Within the transaction that makes a side the primary, whose locks the others need.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_stopped_within_a_promotion_stops_no_writes() {
    lost_for_a_while(Loss::Stopped, FailPoint::OF_A_PROMOTION).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_cut_off_within_a_change_of_the_primary_stops_no_writes() {
    let others = [
        FailPoint::CutoverAfterPause,
        FailPoint::CutoverAfterFence,
        FailPoint::CutoverAfterSequences,
    ];
    lost_for_a_while(Loss::CutOff, &[FailPoint::OF_A_PROMOTION, &others].concat()).await;
}

/// The third member runs the change of the primary, and is lost at each place with all that it holds
/// there. The others are told so late that it is the first to promote.
async fn lost_for_a_while(loss: Loss, places: &[FailPoint]) {
    const LATE: Duration = Duration::from_millis(100);
    let mut fleet = Fleet::in_shift(1).await;
    let proxy = |server: &Server| Proxy::start(server.port());
    let late = (proxy(&fleet.source), proxy(&fleet.target));
    let cut = (proxy(&fleet.source), proxy(&fleet.target));
    for (source, target) in [&late, &late, &cut] {
        fleet.join_by(source.port(), target.port()).await;
    }
    fleet.members.remove(0);
    let [there, back] = fleet.ways().await;
    let ledger = Arc::new(Ledger::default());
    for (generation, place) in (0..).zip(places.iter().map(|place| place.name())) {
        fleet.members[2].kill();
        fleet.members[2].serve_with(&[("SEGUE_STOP_AT", place)]).await;
        let clients = load(&ledger, &fleet.addresses()[..2], generation);
        clients.acknowledged(60).await;
        fleet.settled_at_all().await;
        late.1.delay(LATE);
        let running = fleet.stopped_within(2, there.command, place).await;
        late.1.delay(Duration::ZERO);
        if loss == Loss::CutOff {
            cut.0.pause();
            cut.1.pause();
            fleet.members[2].signal("CONT");
        }
        goes_on(&clients, place).await;
        if fleet.phase().await == there.from {
            fleet.changed(there.command).await;
        }
        cut.0.resume();
        cut.1.resume();
        fleet.woken(2, running, place).await;
        clients.acknowledged(60).await;
        assert_eq!(fleet.phase().await, back.from, "{place}");
        fleet.changed(back.command).await;
        clients.acknowledged(60).await;
        clients.stop().await;
        ledger.no_errors(place);
        fleet.everything_agrees(&ledger).await;
    }
}

/// Writes of clients at the other members are acknowledged again in time.
pub async fn goes_on(clients: &Load, place: &str) {
    let begun = Instant::now();
    // One of each client: what was under way at that moment may have had its answer already.
    clients.acknowledged(16).await;
    let took = begun.elapsed();
    println!("{place}: writes go on after {took:?}");
    assert!(took < OUTAGE_MAX, "{place}: no writes for {took:?}");
    clients.acknowledged(60).await;
}

/// Its packets go nowhere, with sessions open and writes on their way, and arrive in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_cut_off_cannot_write_to_the_old_primary_afterwards() {
    let mut fleet = Fleet::in_shift(2).await;
    let (source, target) = (Proxy::start(fleet.source.port()), Proxy::start(fleet.target.port()));
    fleet.join_by(source.port(), target.port()).await;
    let ledger = Arc::new(Ledger::default());
    let clients = load(&ledger, &fleet.addresses(), 0);
    clients.acknowledged(200).await;
    source.pause();
    target.pause();
    fleet.changed("cutover").await;
    assert_eq!(fleet.phase().await, "reversed");
    let before = fleet.pair.source.rows(WRITES).await;
    clients.acknowledged(100).await;
    source.resume();
    target.resume();
    clients.acknowledged(400).await;
    clients.stop().await;
    assert_eq!(fleet.pair.source.rows(WRITES).await, before, "the old primary took a write");
    fleet.everything_agrees(&ledger).await;
}

/// Captured writes of the source that its own outbox has seen, ever.
const WRITES: &str = "SELECT max(created_at) FROM segue.outbox";

/// It is paused after it holds, and knows nothing of the flip. Reads that are asked of it after a
/// write was acknowledged on the new primary, and are the first that it sees when it wakes, find
/// that write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_paused_before_the_flip_does_not_answer_from_the_old_primary() {
    let mut fleet = Fleet::in_shift(3).await;
    let place = "cutover_after_sequences";
    fleet.members[2].kill();
    fleet.members[2].serve_with(&[("SEGUE_STOP_AT", place)]).await;
    fleet.settled_at_all().await;
    let addresses = fleet.addresses();
    // Connected before, so that what is asked lies in its sockets when it wakes.
    let mut readers = Vec::new();
    for _ in 0..40 {
        let mut reader = sql(&addresses[1]);
        assert_eq!(notes(&mut reader).await, 0);
        readers.push(reader);
    }
    let mut writer = sql(&addresses[0]);
    let running = fleet.stopped_within(2, "cutover", place).await;
    fleet.members[1].signal("STOP");
    fleet.members[2].signal("CONT");
    eventually("a write is acknowledged on the new primary", LIMIT, || async {
        let statement = statement("UPDATE ticket SET note = 'new'");
        let request = proto::ExecuteRequest { statement, ..proto::ExecuteRequest::default() };
        writer.clone().execute(request).await.ok()
    })
    .await;
    assert_eq!(fleet.pair.target.rows("SELECT phase FROM segue.control").await, ["reversed"]);
    let mut asked = tokio::task::JoinSet::new();
    for mut reader in readers {
        asked.spawn(async move { notes(&mut reader).await });
    }
    // What was asked is on its way when this, asked later, is answered.
    assert_eq!(notes(&mut writer).await, 25);
    fleet.members[1].signal("CONT");
    while let Some(found) = asked.join_next().await {
        assert_eq!(found.unwrap(), 25, "an answer of the old primary");
    }
    println!("{}", said(&running.wait_with_output().unwrap()));
}

pub fn sql(address: &str) -> SqlClient<Channel> {
    SqlClient::new(Endpoint::from_shared(address.to_owned()).unwrap().connect_lazy())
}

pub fn statement(sql: &str) -> Option<proto::Statement> {
    let text = Some(proto::statement::Text::Sql(sql.to_owned()));
    Some(proto::Statement { text, ..proto::Statement::default() })
}

/// Rows that were written; asked again where the member has no lease.
pub async fn notes(sql: &mut SqlClient<Channel>) -> usize {
    eventually("a read is answered", LIMIT, || async {
        let statement = statement("SELECT id FROM ticket WHERE note = 'new'");
        let request = proto::QueryRequest { statement, ..proto::QueryRequest::default() };
        let mut frames = sql.clone().query(request).await.ok()?.into_inner();
        let mut rows = 0;
        while let Some(frame) = frames.message().await.ok()? {
            rows += frame.typed_rows().len();
        }
        Some(rows)
    })
    .await
}
