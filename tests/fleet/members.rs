//! Members that come, are killed, are stopped, and wake up.

use segue::grpc::proto::Outcome;
use tonic::Code;

use crate::support::{Major, Pair, Proxy, Segue, eventually, shared};
use crate::world::{
    ITEMS, LIMIT, QUICK, alive, client, forced, leader, read, serving, settled, status, told,
    until, write,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_find_each_other_and_a_lost_leader_is_replaced() {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let mut fleet = serving(&pair, 3, "dual_write", QUICK).await;
    let now = until(&fleet[0], "three members", |now| alive(now).len() == 3 && settled(now)).await;
    assert_eq!(alive(&now).iter().filter(|it| it["is_leader"] == true).count(), 1, "{now:#}");
    let lost = leader(&now).unwrap();
    let at = fleet.iter().position(|it| it.admin_address().ends_with(&lost)).unwrap();
    fleet.remove(at).kill();
    let new = |now: &_| leader(now).filter(|leader| *leader != lost);
    let now = until(&fleet[0], "another leads", |now| new(now).is_some()).await;
    let gone = until(&fleet[0], "the lost one's lease ends", |now| alive(now).len() == 2).await;
    assert_eq!(gone["fleet"]["members"].as_array().unwrap().len(), 3, "it stays on the list");
    // It leads: what only a leader does is done.
    forced(&fleet[0], "shadow_read").await;
    assert_eq!(status(&fleet[1])["epoch"], now["epoch"].as_u64().unwrap() + 1);

    // One that ends as it should is not waited for.
    let mut leaving = fleet.pop().unwrap();
    assert!(leaving.terminate().await);
    assert_eq!(alive(&status(&fleet[0])).len(), 1);
    forced(&fleet[0], "shift").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_member_is_waited_for_while_it_may_act_and_no_longer() {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let fleet = serving(&pair, 3, "dual_write", QUICK).await;
    let now = until(&fleet[0], "all settled", |now| alive(now).len() == 3 && settled(now)).await;
    let mut stopped = client(&fleet[2]);
    write(&mut stopped, 1, 1).await.unwrap();
    let address = fleet[2].admin_address().replace("http://", "");
    fleet[2].signal("STOP");

    let advance = ["phase", "advance", "--force", "--reason", "a test"];
    let told_by = fleet[0].succeed(&advance);
    let epoch = now["epoch"].as_u64().unwrap() + 1;
    assert_eq!(told_by, format!("phase shadow_read, epoch {epoch}\n"));
    let now = status(&fleet[0]);
    // The others go on, whatever the stopped one does.
    write(&mut client(&fleet[0]), 2, 1).await.unwrap();
    write(&mut client(&fleet[1]), 3, 1).await.unwrap();
    if now["fleet"]["settled"] == false {
        let waits = now["fleet"]["waits_for"].to_string();
        let port = address.rsplit(':').next().unwrap();
        assert!(waits.contains(port) && waits.contains("its lease lasts"), "{waits}");
    }
    until(&fleet[0], "settled without it", settled).await;
    let noted = "SELECT c.settled_at >= m.lease_until, m.epoch FROM segue.control AS c, \
                 segue.member AS m WHERE m.address = ";
    let noted = pair.source.rows(&format!("{noted}'{address}'")).await;
    assert_eq!(noted, [format!("t|{}", epoch - 1)], "it settled while the member might still act");

    // It wakes up, and cannot renew: its row is locked. The database itself would take writes.
    let locked = pair.source.client().await;
    let lock = format!("BEGIN; SELECT FROM segue.member WHERE address = '{address}' FOR UPDATE");
    locked.batch_execute(&lock).await.unwrap();
    fleet[2].signal("CONT");
    let refused = write(&mut stopped, 1, 2).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let why = told(&refused).unwrap();
    assert_eq!(why, ("unavailable.lease".to_owned(), Outcome::NotApplied), "{refused:?}");
    assert_eq!(pair.source.rows("SELECT version FROM item WHERE id = 1").await, ["1"]);
    // Reads go on: the primary still says that it is the primary.
    let seen = eventually("a read on the primary", LIMIT, || {
        let mut stopped = stopped.clone();
        async move { read(&mut stopped, 1, "").await.ok() }
    });
    assert_eq!(seen.await.0, Some(1));

    locked.batch_execute("ROLLBACK").await.unwrap();
    eventually("it writes again", LIMIT, || {
        let mut stopped = stopped.clone();
        async move { write(&mut stopped, 1, 3).await.ok() }
    })
    .await;
    let now = until(&fleet[2], "it knows the epoch", |now| {
        alive(now).iter().all(|it| it["epoch"] == epoch) && alive(now).len() == 3
    });
    assert_eq!(now.await["phase"], "shadow_read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_hangs_costs_nobody_a_lease() {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let target = shared(Major::V18);
    let proxy = Proxy::start(target.port());
    let by_proxy = target.dsn_by_port(pair.target.name(), proxy.port());
    let mut member = Segue::prepare(pair.source.dsn(), &by_proxy, QUICK);
    member.init_in("dual_write").await;
    member.serve().await;
    until(&member, "it has settled", settled).await;
    proxy.pause();
    let mut sql = client(&member);
    let renewed =
        "SELECT count(*) FROM segue.member WHERE renewed_at > started_at + '12 s'::interval";
    // Three leases long.
    let mut version = 0;
    eventually("it renews for three leases", LIMIT, || {
        let (mut sql, pair) = (sql.clone(), &pair);
        version += 1;
        async move {
            write(&mut sql, 1, version).await.expect("the shadow is no concern of callers");
            (pair.source.rows(renewed).await == ["1"]).then_some(())
        }
    })
    .await;
    assert!(!member.logs().contains("could not be renewed"), "{}", member.logs());
    proxy.resume();
    write(&mut sql, 1, 0).await.unwrap();
}
