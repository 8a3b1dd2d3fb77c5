//! The proof's own proof: what is spoilt on purpose is noticed.

use std::sync::Arc;

use crate::ledger::{Ledger, Load, Mix, SOURCE_SCHEMA, TARGET_SCHEMA, agree};
use crate::support::{Pair, Segue};

/// Runs what must panic, and gives what it says.
async fn panics(ledger: &Arc<Ledger>, pair: &Arc<Pair>) -> String {
    let (ledger, pair) = (Arc::clone(ledger), Arc::clone(pair));
    let ended = tokio::spawn(async move { agree(&ledger, &pair).await }).await;
    let panic = ended.expect_err("the spoilt row was not noticed").into_panic();
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_spoilt_on_either_side_is_noticed() {
    let pair = Arc::new(Pair::fresh(SOURCE_SCHEMA, TARGET_SCHEMA).await);
    let mut segue = Segue::serving(&pair, "dual_write", "").await;
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, &[segue.sql_address()], 4, (Mix::Everything, 1, 0));
    load.acknowledged(300).await;
    load.stop().await;
    agree(&ledger, &pair).await;
    segue.kill();
    let one = "(SELECT min(id) FROM account)";
    for (spoil, mend, said) in [
        (
            format!("UPDATE account SET version = version - 1 WHERE id = {one}"),
            format!("UPDATE account SET version = version + 1 WHERE id = {one}"),
            "account",
        ),
        (
            "INSERT INTO account (id, version) VALUES (7, 7)".to_owned(),
            "DELETE FROM account WHERE id = 7".to_owned(),
            "never written",
        ),
        (
            "UPDATE counter SET n = n + 1 WHERE id = 1".to_owned(),
            "UPDATE counter SET n = n - 1 WHERE id = 1".to_owned(),
            "counter 1",
        ),
        (
            "UPDATE seat SET label = 'label 9' WHERE label = 'label 3'".to_owned(),
            "UPDATE seat SET label = 'label 3' WHERE label = 'label 9'".to_owned(),
            "seats",
        ),
        (
            format!("UPDATE account SET note = 'another' WHERE id = {one}"),
            format!("UPDATE account SET note = 'note' WHERE id = {one}"),
            "differs",
        ),
    ] {
        pair.target.run_as_copy(&spoil).await;
        let told = panics(&ledger, &pair).await;
        assert!(told.contains(said), "{spoil}: {told}");
        pair.target.run_as_copy(&mend).await;
        agree(&ledger, &pair).await;
    }
    // Without capture, so that the outbox stays empty.
    pair.source.run_as_copy(&format!("DELETE FROM account WHERE id = {one}")).await;
    let told = panics(&ledger, &pair).await;
    assert!(told.contains("source: account"), "{told}");
}
