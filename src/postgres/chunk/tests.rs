use super::*;
use crate::postgres::mapping::table::tests::shape;

fn range(after: Option<&[&str]>, until: Option<&[&str]>) -> KeyRange {
    let key = |key: &[&str]| key.iter().map(|text| (*text).to_owned()).collect();
    KeyRange { after: after.map(key), until: until.map(key) }
}

fn two_columns(change: impl Fn(&mut KeyColumn)) -> TableShape {
    let mut shape = shape();
    let mut second = KeyColumn {
        name: "\"B\"\"b\"".to_owned(),
        primary_cast: "text".to_owned(),
        shadow_cast: "character varying".to_owned(),
        ..shape.key[0].clone()
    };
    change(&mut second);
    shape.key.push(second);
    shape
}

#[test]
fn rows_are_compared_whole() {
    let shape = two_columns(|second| second.primary_sort = Sort::Bytes);
    let range = range(Some(&["1", "it's"]), Some(&["2", "b\\"]));
    let same = KeySql::new(&shape, Role::Primary, Order::Same);
    assert_eq!(
        same.rows_within(&range),
        "(t.\"id\", t.\"B\"\"b\" COLLATE \"C\") > \
         ('1'::integer, 'it''s'::text COLLATE \"C\") AND \
         (t.\"id\", t.\"B\"\"b\" COLLATE \"C\") <= \
         ('2'::integer,  E'b\\\\'::text COLLATE \"C\")"
    );
    assert!(!same.index_serves());
    let own = KeySql::new(&shape, Role::Primary, Order::Own);
    assert!(own.index_serves());
    assert_eq!(own.order_by(), "t.\"id\", t.\"B\"\"b\"");
    assert_eq!(own.rows_within(&KeyRange::all()), "true");
    let shadow = KeySql::new(&shape, Role::Shadow, Order::Same);
    assert!(shadow.index_serves());
    assert_eq!(
        shadow.key_within(&KeyRange { after: None, ..range }, "o.key"),
        "((o.key)[1]::bigint, (o.key)[2]::character varying) <= \
         ('2'::bigint,  E'b\\\\'::character varying)"
    );
}

#[test]
fn operators_of_an_extension_are_spelt_out() {
    let shape = two_columns(|second| {
        "OPERATOR(ext.=)".clone_into(&mut second.primary_equals);
        "OPERATOR(ext.>)".clone_into(&mut second.primary_after);
        "OPERATOR(ext.<=)".clone_into(&mut second.primary_until);
    });
    let own = KeySql::new(&shape, Role::Primary, Order::Own);
    assert_eq!(
        own.rows_within(&range(Some(&["1", "x"]), None)),
        "'1'::integer <= t.\"id\" AND (t.\"id\" > '1'::integer OR (t.\"id\" = '1'::integer AND \
         t.\"B\"\"b\" OPERATOR(ext.>) 'x'::text))"
    );
    assert_eq!(
        own.rows_within(&range(None, Some(&["1", "x"]))),
        "t.\"id\" <= '1'::integer AND ('1'::integer > t.\"id\" OR (t.\"id\" = '1'::integer AND \
         t.\"B\"\"b\" OPERATOR(ext.<=) 'x'::text))"
    );
}

#[test]
fn labels_are_compared_as_texts() {
    let mut shape = shape();
    shape.key[0].shadow_sort = Sort::Labels;
    let same = KeySql::new(&shape, Role::Shadow, Order::Same);
    assert_eq!(same.order_by(), "t.\"id\"::pg_catalog.text COLLATE \"C\"");
    assert_eq!(
        same.rows_within(&range(Some(&["new"]), None)),
        "(t.\"id\"::pg_catalog.text COLLATE \"C\") > \
         ('new'::bigint::pg_catalog.text COLLATE \"C\")"
    );
}

#[test]
fn bounds_are_cut_in_one_pass() {
    let shape = shape();
    let own = KeySql::new(&shape, Role::Primary, Order::Own);
    assert_eq!(
        own.next_bounds(&range(Some(&["5"]), None), 100, 8),
        "SELECT b.k1 FROM (SELECT t.\"id\"::pg_catalog.text AS k1, \
         pg_catalog.row_number() OVER (ORDER BY t.\"id\") AS n FROM \"app\".\"t\" AS t \
         WHERE (t.\"id\") > ('5'::integer) ORDER BY t.\"id\" LIMIT 800) AS b \
         WHERE b.n % 100 = 0 ORDER BY b.n"
    );
}
