//! Vectors: a change of one side, and the findings that it must give, and no others.

mod carries;
mod fixture;
mod vectors;

use std::collections::BTreeSet;

use super::*;
use fixture::world;

fn pace() -> Pace {
    Pace { chunk_rows: 10_000, rows_per_s: 50_000.0, bytes_per_s: 1_000_000.0 }
}

/// `code side place` of each finding.
fn found(change: fn(&mut World)) -> Vec<String> {
    let mut world = world();
    change(&mut world);
    let report = check(&world, pace());
    for finding in &report.findings {
        let told = [&finding.found, finding.code.why(), finding.code.way_out()];
        for text in told {
            assert!(!text.is_empty() && !text.ends_with('.'), "{}: {text:?}", finding.code);
        }
        assert!(finding.sql.iter().all(|sql| !sql.ends_with(';')), "{:?}", finding.sql);
    }
    report.findings.iter().map(|it| format!("{} {} {}", it.code, it.side, it.place())).collect()
}

#[test]
fn equal_sides_give_nothing() {
    assert_eq!(found(|_| {}), Vec::<String>::new());
}

#[test]
fn each_change_gives_its_findings_and_no_others() {
    let mut wrong = Vec::new();
    for (name, change, wanted) in vectors::all() {
        let mut found = found(change);
        found.sort();
        let mut wanted: Vec<String> = wanted.iter().map(|it| (*it).to_owned()).collect();
        wanted.sort();
        if found != wanted {
            wrong.push(format!("{name}:\n  found  {found:?}\n  wanted {wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_kind_of_finding_has_its_vector() {
    let of = |wanted: &[&str]| -> Vec<String> {
        wanted.iter().filter_map(|it| it.split(' ').next()).map(str::to_owned).collect()
    };
    let shown: BTreeSet<String> =
        vectors::all().iter().flat_map(|(_, _, wanted)| of(wanted)).collect();
    let all: BTreeSet<String> = Code::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(shown, all);
    assert_eq!(all.len(), Code::ALL.len(), "two kinds have one name");
}

#[test]
fn the_heaviest_come_first_and_block() {
    let mut world = world();
    world.target.server.settings.insert("TimeZone".to_owned(), "Asia/Tokyo".to_owned());
    let warned = check(&world, pace());
    assert_eq!((warned.findings.len(), warned.refuses()), (1, false));
    world.target.server.in_recovery = true;
    let refused = check(&world, pace());
    let severities: Vec<_> = refused.findings.iter().map(Finding::severity).collect();
    assert_eq!(severities, [Severity::Blocks, Severity::Warning]);
    assert!(refused.refuses());
}

#[test]
fn sizes_are_estimated_parents_first() {
    let report = check(&world(), pace());
    let names: Vec<_> = report.tables.iter().map(|it| it.mapping.source.name.as_str()).collect();
    assert_eq!(names, ["parent", "child"]);
    // 25,000 rows of 5 MB: three chunks, and the bytes take longer than the rows.
    assert_eq!(report.tables[0].estimate, Some(Estimate { chunks: 3, seconds: 5.0 }));
    assert_eq!((report.tables[1].rows, report.tables[1].estimate), (None, None));
}

#[test]
fn expressions_that_are_written_differently_have_one_gist() {
    for (one, other) in [
        ("'new'::order_status", "'new'::public.order_status"),
        ("CHECK ((qty > 0))", "CHECK (qty > (0)::numeric)"),
        ("(now())::timestamp(3) without time zone", "now()"),
        ("'a'::character varying(20)", "'a'"),
        ("'{}'::text[]", "'{}'"),
        ("\"Qty\" + 1", "qty+1"),
        ("pg_catalog.now()", "NOW()"),
        ("now():::TIMESTAMPTZ", "now()"),
        ("'it''s'::text || x", "'it''s'||x"),
    ] {
        assert_eq!(expression::gist(one), expression::gist(other), "{one}, {other}");
    }
    for (one, other) in [("'A'", "'a'"), ("x > 0", "x >= 0"), ("'a b'", "'ab'"), ("1.0", "10")] {
        assert_ne!(expression::gist(one), expression::gist(other), "{one}, {other}");
    }
}
