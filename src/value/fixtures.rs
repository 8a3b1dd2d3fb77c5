//! Types for the tests of this module.

use std::sync::Arc;

use crate::domain::pg_type::{PgType, TypeKind};
use crate::value::class;

/// A built-in type by its name.
pub(crate) fn named(name: &str) -> Arc<PgType> {
    all_built_in().into_iter().find(|ty| ty.name == name).expect("a built-in type")
}

/// All built-in types that segue knows, and their arrays.
pub(crate) fn all_built_in() -> Vec<Arc<PgType>> {
    (1..6_000).filter_map(class::built_in).map(Arc::new).collect()
}

pub(crate) fn made(oid: u32, name: &str, kind: TypeKind) -> Arc<PgType> {
    Arc::new(PgType { oid, name: name.to_owned(), schema: "public".to_owned(), kind })
}

pub(crate) fn array(element: &Arc<PgType>) -> Arc<PgType> {
    made(element.oid + 100_000, &format!("_{}", element.name), TypeKind::Array(Arc::clone(element)))
}

pub(crate) fn mood(oid: u32) -> Arc<PgType> {
    made(oid, "mood", TypeKind::Enum(vec!["sad".to_owned(), "ok".to_owned()]))
}

/// The built-in types and one of each kind that users make.
pub(crate) fn all() -> Vec<Arc<PgType>> {
    let mut all = all_built_in();
    let fields = vec![
        ("a".to_owned(), named("int4")),
        ("b".to_owned(), named("text")),
        ("c".to_owned(), array(&mood(50_000))),
    ];
    let range = made(50_010, "span", TypeKind::Range(named("numeric")));
    all.extend([
        made(2249, "record", TypeKind::Pseudo),
        mood(50_000),
        array(&mood(50_000)),
        made(50_004, "positive", TypeKind::Domain(named("int4"))),
        made(50_006, "pair", TypeKind::Composite(fields)),
        Arc::clone(&range),
        array(&range),
        made(50_012, "spans", TypeKind::Multirange(named("numeric"))),
        made(50_014, "hstore", TypeKind::Simple),
        made(50_016, "citext", TypeKind::Simple),
        made(50_018, "vector", TypeKind::Simple),
    ]);
    all
}
