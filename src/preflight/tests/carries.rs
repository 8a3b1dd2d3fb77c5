//! What becomes of one type's values in another's column.

use super::fixture::{domain, enumeration, ty};
use crate::domain::pg_type::PgType;
use crate::preflight::carry::{Carry, Declared, carry};

/// `numeric(12,2)`, `varchar(5)`, `timestamp(3)`, `bit(4)`, `int4[]`, `int4`.
fn read(text: &str) -> (PgType, i32) {
    let (text, array) = text.strip_suffix("[]").map_or((text, ""), |text| (text, "[]"));
    let (name, arguments) = text.split_once('(').unwrap_or((text, ""));
    let numbers: Vec<i32> =
        arguments.trim_end_matches(')').split(',').filter_map(|it| it.parse().ok()).collect();
    let modifier = match (name, numbers.as_slice()) {
        (_, []) => -1,
        ("numeric", [precision, scale]) => (precision << 16 | (scale & 0x7ff)) + 4,
        ("numeric", [precision]) => (precision << 16) + 4,
        ("varchar" | "bpchar", [length]) => length + 4,
        ("interval", [digits]) => 0x7fff << 16 | digits,
        (_, [number, ..]) => *number,
    };
    (ty(&format!("{name}{array}")), modifier)
}

#[test]
fn types_are_carried_or_not() {
    let mut wrong = Vec::new();
    let cases = "int4 int8 all | int8 int4 part | int2 int4 all | int4 oid part | oid int8 all
        | oid int4 part | int8 numeric(18,0) part | int8 numeric(19,0) all | int4 numeric all
        | int4 numeric(9,0) part | numeric(9,0) int4 all | numeric(10,0) int4 part
        | numeric(5,2) int8 part | numeric numeric(10,2) part | numeric(10,2) numeric all
        | numeric(10,2) numeric(12,4) all | numeric(10,2) numeric(11,4) part
        | numeric(10,4) numeric(12,2) part | numeric(5,-2) numeric(7,0) all
        | money numeric(12,2) part | money numeric(19,2) all | money numeric all
        | numeric(12,2) money all | numeric money part | money money all
        | float4 float8 all | float8 float4 part | float8 numeric all | numeric float8 part
        | float8 numeric(10,2) part | float4 numeric never | numeric float4 never
        | int4 float4 never | int4 float8 all | int8 float8 part | float8 int4 part
        | text varchar(5) part | varchar(5) text all | varchar(5) varchar(4) part
        | varchar(5) varchar(5) all | bpchar(3) text less | bpchar(3) varchar(2) part
        | bpchar(3) bpchar(4) all | varchar(3) bpchar(3) part | citext text all | text name part
        | name varchar(63) all | text xml part | xml text all
        | json jsonb less | jsonb json all | jsonb text all | text jsonb part
        | jsonb varchar(9) part | uuid text all | uuid varchar(35) part | text uuid part
        | timestamp(6) timestamp(3) less | timestamp(3) timestamp all | timestamp timestamp(6) all
        | timestamp timestamptz less | time(0) time(3) all | time time(0) less
        | interval interval(3) less | timestamp date never | date timestamp never
        | bit(4) bit(4) all | bit(4) bit(5) part | bit(4) varbit(4) all | varbit(4) bit(4) part
        | varbit(5) varbit(4) part | varbit varbit(4) part | varbit(4) varbit all
        | cidr inet all | inet cidr part | bool bool all | bool int4 never | int4 text never
        | bytea text never | geometry geometry all | geometry text never | macaddr inet never
        | int4[] int8[] all | int8[] int4[] part | int4[] int4 never | text[] varchar(3)[] part
        | timestamptz[] timestamptz(3)[] less";
    for case in cases.split('|') {
        let words: Vec<&str> = case.split_whitespace().collect();
        let [from, to, wanted] = words[..] else { panic!("{case}") };
        let (a, b) = (read(from), read(to));
        let found = carry(Declared::new(&a.0, a.1), Declared::new(&b.0, b.1));
        let word = match &found {
            Carry::All => "all",
            Carry::Less(_) => "less",
            Carry::Part(_) => "part",
            Carry::Never => "never",
        };
        if word != wanted {
            wrong.push(format!("{from} to {to}: {found:?}, wanted {wanted}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn labels_and_domains_are_carried_by_what_is_under_them() {
    let carry =
        |a: &PgType, b: &PgType, modifier| carry(Declared::new(a, -1), Declared::new(b, modifier));
    let (small, large) = (enumeration(&["a", "b"]), enumeration(&["a", "b", "ccc"]));
    assert_eq!(carry(&small, &large, -1), Carry::All);
    assert_eq!(carry(&large, &small, -1), Carry::Part("the labels ccc".to_owned()));
    assert!(matches!(carry(&large, &ty("text"), -1), Carry::Less(_)));
    assert!(matches!(carry(&large, &ty("varchar"), 4 + 2), Carry::Part(_)));
    assert!(matches!(carry(&ty("text"), &small, -1), Carry::Part(_)));
    assert_eq!(carry(&domain(ty("int4")), &ty("int8"), -1), Carry::All);
    assert!(matches!(carry(&ty("int8"), &domain(ty("int4")), -1), Carry::Part(_)));
}
