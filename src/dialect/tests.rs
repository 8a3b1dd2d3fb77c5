use super::*;

#[test]
fn a_server_is_told_by_what_it_reports() {
    let reported =
        |text| Dialect::of_reported(move |name| (name == "crdb_version").then_some(text));
    for (text, shown) in [
        ("CockroachDB CCL v25.4.1 (x86_64-pc-linux-gnu, built 2025/11/03)", "CockroachDB 25.4"),
        ("CockroachDB OSS v26.3.0-alpha.1 (darwin)", "CockroachDB 26.3"),
        ("a stand-in for CockroachDB", "CockroachDB"),
        ("CockroachDB CCL vendored", "CockroachDB"),
    ] {
        assert_eq!(reported(text).to_string(), shown, "{text}");
        // It says of `server_version_num` what some PostgreSQL says.
        assert_eq!(reported(text).with_version_num(130_000).to_string(), shown, "{text}");
        assert_eq!(Dialect::of_version(text), reported(text), "{text}");
    }
    let postgresql = Dialect::of_reported(|_| None);
    assert_eq!(postgresql.with_version_num(160_004).to_string(), "PostgreSQL 16");
    assert_eq!(Dialect::of_version("PostgreSQL 16.4 on x86_64"), Dialect::POSTGRESQL);
}

#[test]
fn versions_are_answers() {
    let postgresql = |version| Dialect::POSTGRESQL.with_version_num(version);
    assert!(!postgresql(120_000).tells_transaction_ids());
    assert!(postgresql(130_000).tells_transaction_ids());
    assert!(!Dialect::COCKROACHDB.tells_transaction_ids());
    assert!(!postgresql(140_000).grants_settings() && postgresql(150_000).grants_settings());
    assert!(!postgresql(160_000).has_infinite_intervals());
    assert!(postgresql(170_000).has_infinite_intervals());
    assert!(postgresql(130_000).is_too_old() && !postgresql(140_000).is_too_old());
    assert!(!Dialect::POSTGRESQL.is_too_old(), "an unknown version is not judged");
    let cockroachdb = |text| Dialect::of_reported(move |_| Some(text));
    assert!(cockroachdb("CockroachDB CCL v25.2.9").is_too_old());
    assert!(!cockroachdb("CockroachDB CCL v25.3.0").is_too_old());
    assert!(!Dialect::COCKROACHDB.is_too_old());
}

/// What is asked of one place must be true of the others: a row is copied by what the server has.
#[test]
fn the_answers_of_an_engine_fit_together() {
    for dialect in [Dialect::POSTGRESQL, Dialect::COCKROACHDB] {
        assert_eq!(dialect.fences_by_mark(), !dialect.has_advisory_locks(), "{dialect}");
        assert_eq!(dialect.fences_by_mark(), dialect.writers_isolation().is_some(), "{dialect}");
        assert_eq!(dialect.captures_by_row(), !dialect.captures_truncate(), "{dialect}");
        assert_eq!(dialect.has_outbox_ring(), !dialect.outbox_ring(1).is_empty(), "{dialect}");
    }
}
