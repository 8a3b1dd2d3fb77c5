//! Refusals that take a server, a role or an encoding of their own.

use crate::primary::{CALLED_OFF, CUTOVER, in_shift};
use crate::refusals::{INIT, REFUSED, TABLE};
use crate::said;
use crate::support::{Database, Major, Options, Pair, Segue, Server, shared};

const ADVANCE: &[&str] = &["phase", "advance"];
/// Refusals that follow one another, each with what it says to run.
const REFUSALS_MAX: usize = 6;
/// What a refusal says where the SQL is long.
const PRINTED: &str = "run what `segue init --print` prints for the target";

fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The statements that a refusal says to run for a role.
fn printed(told: &str, role: &str, segue: &Segue) -> Vec<String> {
    let flat = flat(told);
    if flat.contains(PRINTED) {
        let all = segue.succeed(&["init", "--print"]);
        let begin = all.find("-- target:").unwrap();
        let end = begin + all[begin..].find("-- segue's schema on the target").unwrap();
        return vec![all[begin..end].to_owned()];
    }
    let statement = |rest: &str| {
        let last =
            if rest.starts_with("GRANT ") { format!("TO \"{role}\"") } else { "BYPASSRLS".into() };
        let begins = ["GRANT ", "ALTER ROLE "].iter().any(|it| rest.starts_with(it));
        let end = rest.find(&last)? + last.len();
        begins.then(|| rest[..end].to_owned())
    };
    flat.split("run ").filter_map(statement).collect()
}

/// Segue's role on the target may make its own schema, and read one table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_are_missing_are_what_is_printed() {
    let pair = Pair::fresh(TABLE, TABLE).await;
    let role = format!("bare_{}", pair.target.name());
    pair.target
        .run(&format!(
            "CREATE ROLE {role} LOGIN; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
             CREATE SCHEMA segue AUTHORIZATION {role}; GRANT SELECT ON t TO {role}"
        ))
        .await;
    let target = pair.target.dsn_with("postgres@", &format!("{role}@"));
    let mut segue = Segue::prepare(pair.source.dsn(), &target, "");
    segue.succeed(INIT);
    segue.serve().await;
    let mut run: Vec<String> = Vec::new();
    for _ in 0..REFUSALS_MAX {
        let output = segue.run(ADVANCE);
        if output.status.success() {
            break;
        }
        let told = said(&output);
        assert_eq!(output.status.code(), Some(REFUSED), "after {run:?}: {told}");
        let statements = printed(&told, &role, &segue);
        assert!(!statements.is_empty(), "no statement in {told}");
        for statement in &statements {
            pair.target.run(statement).await;
        }
        run.extend(statements);
    }
    for part in ["GRANT SET ON PARAMETER session_replication_role", "GRANT INSERT", "BYPASSRLS"] {
        assert!(run.iter().any(|it| it.contains(part)), "no {part} in {run:?}");
    }
    assert!(run.iter().any(|it| it.contains("enable_always")), "it was not set up: {run:?}");
    let now = segue.succeed(&["phase"]);
    assert!(now.contains("phase dual_write"), "after {run:?}: {now}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_a_publisher_fills_is_migrated_when_that_has_ended() {
    let logical = Options::default().with("wal_level", "logical");
    let publisher = Server::start(Major::V15, &logical);
    let published = format!("{TABLE}; CREATE PUBLICATION all_of_it FOR ALL TABLES");
    let there = Database::create(&publisher, &published).await;
    let pair = Pair::fresh(TABLE, TABLE).await;
    let segue = Segue::serving(&pair, "source_only", "").await;
    let subscribe =
        format!("CREATE SUBSCRIPTION sub CONNECTION '{}' PUBLICATION all_of_it", there.dsn());
    pair.source.run(&subscribe).await;
    let refused = segue.run(ADVANCE);
    let told = flat(&said(&refused));
    assert_eq!(refused.status.code(), Some(REFUSED), "{told}");
    assert!(told.contains("public.t is filled by logical replication"), "{told}");
    pair.source.run("DROP SUBSCRIPTION sub").await;
    let again = segue.run(ADVANCE);
    assert!(again.status.success(), "{}", said(&again));
}

/// Servers that take any bytes for a text have one that is no UTF-8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_read_is_mended_and_the_cutover_made() {
    let sql = |byte: &str| {
        let odd = format!("convert_from('\\x{byte}'::bytea, 'SQL_ASCII')");
        format!("{TABLE}; INSERT INTO t VALUES (1, 'a'), (5, {odd})")
    };
    let source = Database::create_ascii(shared(Major::V15), &sql("ff")).await;
    let target = Database::create_ascii(shared(Major::V18), &sql("fe")).await;
    let pair = Pair { source, target };
    let segue = in_shift(&pair, "").await;
    // It tells of the row, which its proof leaves out.
    let verified = flat(&said(&segue.run(&["verify"])));
    assert!(verified.contains("cannot be read"), "{verified}");
    let refused = segue.run(CUTOVER);
    let told = flat(&said(&refused));
    assert_eq!(refused.status.code(), Some(CALLED_OFF), "{told}");
    assert!(told.contains("a row of public.t cannot be read"), "{told}");
    for side in [&pair.source, &pair.target] {
        side.run_as_copy("DELETE FROM t WHERE id = 5").await;
    }
    let again = segue.run(CUTOVER);
    assert!(again.status.success(), "{}", said(&again));
}
