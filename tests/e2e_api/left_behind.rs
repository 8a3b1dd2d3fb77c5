//! What an application's function leaves in a session that callers share.

use crate::calls::{Bench, execute};

/// Capture must not be something that a setting takes off.
#[tokio::test]
async fn a_function_that_sets_replica_mode_keeps_no_write_from_capture() {
    let mut bench = Bench::new("").await;
    bench
        .pair
        .source
        .run(
            "CREATE FUNCTION import() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                SET session_replication_role = replica;
                INSERT INTO note VALUES (100, 'by the function');
             END $$",
        )
        .await;
    for round in 0..10 {
        if round % 3 == 0 {
            bench.sql.execute(execute("DELETE FROM note WHERE id = 100")).await.unwrap();
            bench.sql.execute(execute("SELECT import()")).await.unwrap();
        }
        let write = format!("INSERT INTO note VALUES ({round}, 'by another caller')");
        bench.sql.execute(execute(&write)).await.unwrap();
    }
    let missed = "SELECT id FROM note WHERE NOT EXISTS
        (SELECT FROM segue.outbox AS o WHERE o.key = ARRAY[note.id::text])";
    assert_eq!(bench.pair.source.rows(missed).await, [""; 0]);
}
