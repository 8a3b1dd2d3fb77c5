//! Where the numbers of sequences go on after a change of the primary.

use crate::fleet::{Fleet, LIMIT};
use crate::support::eventually;

/// Sequences whose numbers are part of texts, count down, begin anew, or are computed from.
const TABLES: &str = "
CREATE SEQUENCE order_numbers;
CREATE TABLE sales (no text PRIMARY KEY DEFAULT 'ORD-' || nextval('order_numbers'), note text);
CREATE SEQUENCE text_numbers;
CREATE TABLE labels (no text PRIMARY KEY DEFAULT nextval('text_numbers')::text, note text);
CREATE SEQUENCE ten_numbers;
CREATE TABLE tens (id int PRIMARY KEY DEFAULT nextval('ten_numbers') * 10, note text);
CREATE SEQUENCE down INCREMENT -1 MINVALUE -1000000 MAXVALUE -1 START -1;
CREATE TABLE below (id bigint PRIMARY KEY DEFAULT nextval('down'), note text);
CREATE SEQUENCE ring MAXVALUE 5 CYCLE;
CREATE TABLE ringed (id serial PRIMARY KEY, place int DEFAULT nextval('ring'), note text);
CREATE DOMAIN amount AS numeric(30, 0);
CREATE SEQUENCE domain_numbers;
CREATE TABLE domained (id amount PRIMARY KEY DEFAULT nextval('domain_numbers'), note text);
";
const NAMES: [&str; 6] = ["sales", "labels", "tens", "below", "ringed", "domained"];

/// Writes rows whose keys the primary makes; none of them is taken.
async fn inserts(fleet: &Fleet, phase: &str) {
    let is_back = phase == "reversed";
    let primary = if is_back { &fleet.pair.target } else { &fleet.pair.source };
    for table in NAMES {
        let insert =
            format!("INSERT INTO {table} (note) SELECT '{phase}' FROM generate_series(1, 4)");
        primary.run(&insert).await;
    }
}

/// A text default from a sequence once failed the gates for good: 22P02, its values were read as
/// numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequences_of_every_kind_go_on_after_each_change_of_the_primary() {
    let fleet = Fleet::in_shift_of(1, TABLES, "").await;
    // A number by hand that no sequence gives, and one that no int8 holds.
    let by_hand = format!("INSERT INTO domained VALUES (1{}, 'by hand')", "0".repeat(25));
    fleet.pair.source.run(&by_hand).await;
    inserts(&fleet, "shift").await;
    for (command, phase) in
        [("cutover", "reversed"), ("rollback", "shift"), ("cutover", "reversed")]
    {
        fleet.changed(command).await;
        assert_eq!(fleet.phase().await, phase);
        inserts(&fleet, phase).await;
    }
    for table in NAMES {
        let all = format!("SELECT * FROM {table} ORDER BY 1");
        let rows = fleet.pair.target.rows(&all).await;
        assert_eq!(rows.len(), if table == "domained" { 17 } else { 16 }, "{table}: {rows:?}");
        let wanted = &rows;
        let source = &fleet.pair.source;
        let is_equal = async || (source.rows(&all).await == *wanted).then_some(());
        eventually(&format!("{table} is equal"), LIMIT, is_equal).await;
    }
    let places = "SELECT string_agg(place::text, ',' ORDER BY id) FROM ringed";
    let whole_rings = "1,2,3,4,5,1,2,3,4,5,1,2,3,4,5,1";
    assert_eq!(fleet.pair.target.rows(places).await, [whole_rings], "the ring goes on");
    let furthest = "SELECT max(substr(no, 5)::int) FROM sales";
    let furthest: i64 = fleet.pair.target.rows(furthest).await[0].parse().unwrap();
    assert!(furthest < 1000, "a margin is no leap: {furthest}");
}
