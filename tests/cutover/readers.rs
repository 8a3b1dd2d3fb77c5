//! Who answers reads while the primary changes, and from which side.

use std::time::Instant;

use crate::fleet::{Fleet, LIMIT, said};
use crate::stopped::{notes, sql, statement};
use crate::support::eventually;
use segue::grpc::proto;
use segue::grpc::proto::sql_client::SqlClient;
use tonic::transport::Channel;

/// The lease of one member cannot be renewed, by its address as operators call it. It can read all
/// rows, as where a disk is full.
fn without_renewals(address: &str) -> String {
    format!(
        "CREATE FUNCTION refuse_renewal() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END $$;
        CREATE TRIGGER refuse_renewal BEFORE INSERT OR UPDATE ON segue.member FOR EACH ROW
            WHEN (NEW.address = '{address}') EXECUTE FUNCTION refuse_renewal();"
    )
}

async fn write(client: &SqlClient<Channel>) -> Result<(), tonic::Status> {
    let statement = statement("UPDATE ticket SET note = 'new'");
    let request = proto::ExecuteRequest { statement, ..proto::ExecuteRequest::default() };
    client.clone().execute(request).await.map(drop)
}

/// It reads by the row alone, and is no member of those who are waited for by their leases. It is
/// stopped just before the flip, and woken while it would still read by that row: what it is asked
/// then was asked after a write was acknowledged on the new primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_a_lease_does_not_answer_from_the_old_primary() {
    let mut fleet = Fleet::in_shift(3).await;
    let place = "cutover_after_sequences";
    fleet.members[2].kill();
    fleet.members[2].serve_with(&[("SEGUE_STOP_AT", place)]).await;
    fleet.settled_at_all().await;
    let address = fleet.members[1].admin_address();
    let address = address.trim_start_matches("http://");
    fleet.pair.source.run(&without_renewals(address)).await;
    let addresses = fleet.addresses();
    let mut readers = Vec::new();
    for _ in 0..40 {
        let mut reader = sql(&addresses[1]);
        assert_eq!(notes(&mut reader).await, 0);
        readers.push(reader);
    }
    let lapsed = format!(
        "SELECT count(*) FROM segue.member WHERE address = '{address}' \
         AND lease_until < clock_timestamp()"
    );
    eventually("its lease is over", LIMIT, || async {
        (fleet.pair.source.rows(&lapsed).await == ["1"]).then_some(())
    })
    .await;
    eventually("it takes no writes", LIMIT, || async {
        write(&sql(&addresses[1])).await.err().map(drop)
    })
    .await;
    let one = statement("SELECT id FROM ticket WHERE note = 'new'");
    let request = proto::QueryRequest { statement: one, ..proto::QueryRequest::default() };
    let answered = sql(&addresses[1]).query(request).await;
    assert!(answered.is_ok(), "it reads while the primary's row names it: {answered:?}");

    let mut writer = sql(&addresses[0]);
    let running = fleet.stopped_within(2, "cutover", place).await;
    fleet.members[1].signal("STOP");
    let begun = Instant::now();
    fleet.members[2].signal("CONT");
    eventually("a write is acknowledged on the new primary", LIMIT, || async {
        write(&writer).await.ok()
    })
    .await;
    println!("a write was acknowledged after {:?}", begun.elapsed());
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
