//! Types of columns, whatever they are made of.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::domain::fault::SqlFault;
use crate::domain::pg_type::{PgType, TypeKind};
use crate::postgres::session::Session;

/// Types may be made of types without end only in a broken catalogue.
const DEPTH_MAX: usize = 64;

/// CockroachDB knows no multiranges, nor the column that names them.
const TYPES: &str = "
WITH RECURSIVE used (oid) AS (
    SELECT a.atttypid FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
        AND (pg_catalog.to_jsonb(a) ->> 'attishidden') IS DISTINCT FROM 'true'
    UNION
    SELECT part.oid FROM used JOIN pg_catalog.pg_type AS t ON t.oid = used.oid
    CROSS JOIN LATERAL (
        SELECT t.typelem WHERE t.typelem <> 0 AND t.typcategory = 'A'
        UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
        UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range AS r
            WHERE t.oid IN (r.rngtypid, (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::oid)
        UNION ALL SELECT f.atttypid FROM pg_catalog.pg_attribute AS f
            WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0
                AND NOT f.attisdropped
    ) AS part (oid)
)
SELECT t.oid, t.typname::text, n.nspname::text, t.typtype::text,
    CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END, t.typbasetype,
    coalesce((SELECT r.rngsubtype FROM pg_catalog.pg_range AS r
        WHERE t.oid IN (r.rngtypid, (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::oid)), 0),
    ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum AS e
        WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder),
    ARRAY(SELECT f.attname::text FROM pg_catalog.pg_attribute AS f WHERE t.typtype = 'c'
        AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped ORDER BY f.attnum),
    ARRAY(SELECT f.atttypid FROM pg_catalog.pg_attribute AS f WHERE t.typtype = 'c'
        AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped ORDER BY f.attnum),
    ARRAY(SELECT pg_catalog.pg_get_constraintdef(c.oid) FROM pg_catalog.pg_constraint AS c
        WHERE c.contypid = t.oid AND c.contype = 'c' ORDER BY c.conname),
    t.typnotnull,
    (SELECT e.extname::text FROM pg_catalog.pg_depend AS d
        JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid
            AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e' LIMIT 1)
FROM used JOIN pg_catalog.pg_type AS t ON t.oid = used.oid
JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace";

/// A type as its row of the catalogue has it.
#[derive(Debug)]
struct Raw {
    name: String,
    schema: String,
    kind: String,
    element: u32,
    base: u32,
    subtype: u32,
    labels: Vec<String>,
    fields: Vec<(String, u32)>,
    checks: Vec<String>,
    not_null: bool,
    extension: Option<String>,
}

/// The types of some tables' columns.
#[derive(Debug)]
pub(super) struct Types {
    raw: HashMap<u32, Raw>,
    built: BTreeMap<u32, Arc<PgType>>,
}

/// What domains over a type say.
#[derive(Debug, Default)]
pub(super) struct Domains {
    pub(super) checks: Vec<String>,
    pub(super) not_null: bool,
}

pub(super) async fn load(client: &Session, oids: &[u32]) -> Result<Types, SqlFault> {
    let mut raw = HashMap::new();
    for row in client.query(TYPES, &[&oids]).await? {
        let names: Vec<String> = row.try_get(8)?;
        let of: Vec<u32> = row.try_get(9)?;
        let found = Raw {
            name: row.try_get(1)?,
            schema: row.try_get(2)?,
            kind: row.try_get(3)?,
            element: row.try_get(4)?,
            base: row.try_get(5)?,
            subtype: row.try_get(6)?,
            labels: row.try_get(7)?,
            fields: names.into_iter().zip(of).collect(),
            checks: row.try_get(10)?,
            not_null: row.try_get(11)?,
            extension: row.try_get(12)?,
        };
        raw.insert(row.try_get(0)?, found);
    }
    Ok(Types { raw, built: BTreeMap::new() })
}

// === impl Types ===

impl Types {
    /// The type of an object id.
    pub(super) fn get(&mut self, oid: u32) -> Arc<PgType> {
        self.build(oid, 0)
    }

    fn build(&mut self, oid: u32, depth: usize) -> Arc<PgType> {
        if let Some(built) = self.built.get(&oid) {
            return Arc::clone(built);
        }
        let Some(raw) = self.raw.get(&oid).filter(|_| depth < DEPTH_MAX) else {
            let (name, schema) = (format!("type {oid}"), String::new());
            return Arc::new(PgType { oid, name, schema, kind: TypeKind::Pseudo });
        };
        let (name, schema) = (raw.name.clone(), raw.schema.clone());
        let (element, base, subtype) = (raw.element, raw.base, raw.subtype);
        let (labels, fields) = (raw.labels.clone(), raw.fields.clone());
        let next = depth + 1;
        let kind = match raw.kind.as_str() {
            "e" => TypeKind::Enum(labels),
            "d" => TypeKind::Domain(self.build(base, next)),
            "r" => TypeKind::Range(self.build(subtype, next)),
            "m" => TypeKind::Multirange(self.build(subtype, next)),
            "p" => TypeKind::Pseudo,
            "c" => TypeKind::Composite(
                fields.into_iter().map(|(name, oid)| (name, self.build(oid, next))).collect(),
            ),
            _ if element != 0 => TypeKind::Array(self.build(element, next)),
            _ => TypeKind::Simple,
        };
        let built = Arc::new(PgType { oid, name, schema, kind });
        self.built.insert(oid, Arc::clone(&built));
        built
    }

    /// What the domains that a type is of say, the outermost first.
    pub(super) fn domains(&self, oid: u32) -> Domains {
        let mut found = Domains::default();
        let mut at = self.raw.get(&oid);
        for _ in 0..DEPTH_MAX {
            let Some(raw) = at.filter(|raw| raw.kind == "d") else { break };
            found.checks.extend(raw.checks.iter().cloned());
            found.not_null |= raw.not_null;
            at = self.raw.get(&raw.base);
        }
        found
    }

    /// The extension that brought a type, or what it is made of.
    pub(super) fn extension(&self, oid: u32) -> Option<String> {
        let mut at = self.raw.get(&oid);
        for _ in 0..DEPTH_MAX {
            let raw = at?;
            if raw.extension.is_some() {
                return raw.extension.clone();
            }
            let part = [raw.element, raw.base, raw.subtype].into_iter().find(|oid| *oid != 0)?;
            at = self.raw.get(&part);
        }
        None
    }
}
