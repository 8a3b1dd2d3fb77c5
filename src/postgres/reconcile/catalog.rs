//! Reads the shapes of the migrated tables from both catalogues.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio_postgres::Client;

use crate::domain::pg_type::{Column, TypeKind};
use crate::domain::side::Side;
use crate::domain::table::{TableName, quote_identifier};
use crate::postgres::reconcile::cells;
use crate::postgres::reconcile::lock::Canon;
use crate::postgres::reconcile::shape::{ForeignKey, KeyColumn, Pair, TableShape, UniqueIndex};
use crate::postgres::types;

/// A table's shape, or why its rows cannot be reconciled.
pub type Shape = Result<Arc<TableShape>, String>;

/// Columns of the primary that are knowingly not copied.
pub type IgnoredColumns = BTreeMap<TableName, BTreeSet<String>>;

const TABLES: &str = "\
    SELECT table_id, source_schema, source_name, target_schema, target_name, key_columns \
    FROM segue.migrated_table";

const COLUMNS: &str = "\
    SELECT a.attname::text, pg_catalog.format_type(a.atttypid, -1), \
        pg_catalog.format_type(a.atttypid, a.atttypmod), a.attgenerated::text <> '', \
        a.attidentity::text = 'a', CASE WHEN NOT c.collisdeterministic THEN \
            pg_catalog.concat_ws(' ', c.collname, c.collprovider, coalesce( \
                pg_catalog.to_jsonb(c) ->> 'colllocale', pg_catalog.to_jsonb(c) ->> 'colliculocale', \
                c.collcollate), pg_catalog.to_jsonb(c) ->> 'collicurules') END, \
        a.attnotnull AND NOT a.atthasdef AND a.attidentity::text = '' \
    FROM pg_catalog.pg_attribute AS a \
    LEFT JOIN pg_catalog.pg_collation AS c ON c.oid = a.attcollation \
    WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped \
    ORDER BY a.attnum";

/// The primary key's columns, each with the operators of its class for "equal" and "after".
const KEY: &str = "\
    SELECT a.attname::text, ao.amopstrategy = 5, \
        CASE WHEN n.nspname = 'pg_catalog' THEN o.oprname::text \
        ELSE 'OPERATOR(' || pg_catalog.quote_ident(n.nspname) || '.' || o.oprname || ')' END \
    FROM pg_catalog.pg_index AS i \
    CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey::int2[]), \
        pg_catalog.unnest(i.indclass::oid[])) AS k(attnum, opclass) \
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
    LEFT JOIN pg_catalog.pg_opclass AS oc ON oc.oid = k.opclass \
    LEFT JOIN pg_catalog.pg_amop AS ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy IN (3, 5) \
        AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype \
    LEFT JOIN pg_catalog.pg_operator AS o ON o.oid = ao.amopopr \
    LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = o.oprnamespace \
    WHERE i.indrelid = $1::text::regclass AND i.indisprimary AND k.opclass IS NOT NULL";

const UNIQUES: &str = "\
    SELECT c.relname::text, ARRAY(SELECT pg_catalog.pg_get_indexdef(i.indexrelid, g.n, false) \
            FROM pg_catalog.generate_series(1, i.indnkeyatts) AS g(n) ORDER BY g.n), \
        pg_catalog.pg_get_expr(i.indpred, i.indrelid), \
        coalesce(pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct' = 'true', false), \
        ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a \
            WHERE a.attrelid = i.indrelid AND a.attnum > 0 AND (a.attnum = ANY (i.indkey) \
                OR EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.objid = i.indexrelid \
                    AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum))), \
        ARRAY(SELECT CASE WHEN n.nspname = 'pg_catalog' THEN o.oprname::text ELSE 'OPERATOR(' \
                || pg_catalog.quote_ident(n.nspname) || '.' || o.oprname || ')' END \
            FROM pg_catalog.generate_series(1, i.indnkeyatts) AS g(n) \
            LEFT JOIN pg_catalog.pg_opclass AS oc ON oc.oid = i.indclass[g.n - 1] \
            LEFT JOIN pg_catalog.pg_amop AS ao ON ao.amopfamily = oc.opcfamily \
                AND ao.amopstrategy = 3 AND ao.amoplefttype = oc.opcintype \
                AND ao.amoprighttype = oc.opcintype \
            LEFT JOIN pg_catalog.pg_operator AS o ON o.oid = coalesce(x.conexclop[g.n], ao.amopopr) \
            LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = o.oprnamespace ORDER BY g.n) \
    FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid \
    LEFT JOIN pg_catalog.pg_constraint AS x ON x.conindid = i.indexrelid AND x.contype = 'x' \
    WHERE i.indrelid = $1::text::regclass AND (i.indisunique OR x.oid IS NOT NULL) \
        AND NOT i.indisprimary";

/// What would make something else of a row than what reconcile writes, or lose it: rules and
/// triggers that fire even for a replica's writes, and tables that a crash empties.
const UNFIT: &str = "\
    WITH parts AS (SELECT $1::text::regclass::oid AS oid \
        UNION SELECT p.relid FROM pg_catalog.pg_partition_tree($1::text::regclass) AS p) \
    SELECT 'trigger ' || t.tgname || ' fires even for copied rows; run ALTER TABLE ' \
        || t.tgrelid::regclass || ' ENABLE TRIGGER ' || pg_catalog.quote_ident(t.tgname) \
        FROM pg_catalog.pg_trigger AS t JOIN parts AS p ON p.oid = t.tgrelid \
        WHERE NOT t.tgisinternal AND t.tgenabled IN ('A', 'R') \
    UNION ALL SELECT 'rule ' || r.rulename || ' holds even for copied rows; run ALTER TABLE ' \
        || r.ev_class::regclass || ' ENABLE RULE ' || pg_catalog.quote_ident(r.rulename) \
        FROM pg_catalog.pg_rewrite AS r JOIN parts AS p ON p.oid = r.ev_class \
        WHERE r.ev_enabled IN ('A', 'R') \
    UNION ALL SELECT 'it is unlogged: a crash empties it; run ALTER TABLE ' \
        || c.oid::regclass || ' SET LOGGED' \
        FROM pg_catalog.pg_class AS c JOIN parts AS p ON p.oid = c.oid \
        WHERE c.relpersistence = 'u' LIMIT 1";

const REFERENCES: &str = "\
    SELECT con.conname::text, pn.nspname::text, p.relname::text, \
        ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(con.conkey) WITH ORDINALITY AS k(n, o) \
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = con.conrelid AND a.attnum = k.n \
            ORDER BY k.o), \
        ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(con.confkey) WITH ORDINALITY AS k(n, o) \
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = con.confrelid AND a.attnum = k.n \
            ORDER BY k.o) \
    FROM pg_catalog.pg_constraint AS con \
    JOIN pg_catalog.pg_class AS p ON p.oid = con.confrelid \
    JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.relnamespace \
    WHERE con.conrelid = $1::text::regclass AND con.contype = 'f'";

/// One side's part of a shape.
struct SideColumns {
    columns: Vec<Column>,
    casts: HashMap<String, ColumnFacts>,
    key_equals: HashMap<String, String>,
    key_after: HashMap<String, String>,
}

struct ColumnFacts {
    cast: String,
    full_type: String,
    generated: bool,
    identity_always: bool,
    /// The collation, where texts may be equal to it that are not the same.
    blind_collation: Option<String>,
    /// An INSERT must name it.
    required: bool,
}

/// Reads all shapes. `copied` says that rows are written as a replica's, which keeps ordinary
/// triggers and rules of the shadow out. Both clients must be in a transaction with an empty search path.
/// A table that cannot be reconciled is there with its reason; only a fault of the
/// connection fails the whole.
///
/// # Errors
///
/// What a database reports, with the side that did.
pub async fn load(
    primary: &Client,
    shadow: &Client,
    primary_side: Side,
    ignored: &IgnoredColumns,
    copied: bool,
) -> Result<HashMap<i32, Shape>, (Side, tokio_postgres::Error)> {
    let tables = primary.query(TABLES, &[]).await.map_err(|error| (primary_side, error))?;
    let mut shapes = HashMap::with_capacity(tables.len());
    for row in tables {
        let text = |index| row.try_get::<_, String>(index).unwrap_or_default();
        let source = TableName::new(text(1), text(2));
        let target = TableName::new(text(3), text(4));
        let key: Vec<String> = row.try_get(5).unwrap_or_default();
        let names = match primary_side {
            Side::Source => (source, target),
            Side::Target => (target, source),
        };
        let table_id: i32 = row.try_get(0).map_err(|error| (primary_side, error))?;
        let side = primary_side;
        let shape =
            load_one(primary, shadow, side, table_id, names, &key, (ignored, copied)).await?;
        shapes.insert(table_id, shape);
    }
    Ok(shapes)
}

async fn load_one(
    primary: &Client,
    shadow: &Client,
    primary_side: Side,
    table_id: i32,
    (primary_name, shadow_name): (TableName, TableName),
    key: &[String],
    (ignored, copied): (&IgnoredColumns, bool),
) -> Result<Shape, (Side, tokio_postgres::Error)> {
    let shadow_side = primary_side.other();
    let on_primary = match side_columns(primary, &primary_name).await {
        Ok(columns) => columns,
        Err(error) => return missing(primary_side, &primary_name, error),
    };
    let on_shadow = match side_columns(shadow, &shadow_name).await {
        Ok(columns) => columns,
        Err(error) => return missing(shadow_side, &shadow_name, error),
    };
    let uniques = shadow
        .query(UNIQUES, &[&shadow_name.quoted()])
        .await
        .map_err(|error| (shadow_side, error))?;
    let mut unique_columns = BTreeSet::new();
    let mut indexes = Vec::new();
    for row in uniques {
        let at = |error| (shadow_side, error);
        unique_columns.extend(row.try_get::<_, Vec<String>>(4).map_err(at)?);
        indexes.push(UniqueIndex {
            name: row.try_get(0).map_err(at)?,
            parts: row.try_get(1).map_err(at)?,
            predicate: row.try_get(2).map_err(at)?,
            nulls_equal: row.try_get(3).map_err(at)?,
            operators: operators(row.try_get(5).map_err(at)?),
        });
    }
    let references =
        references(shadow, &shadow_name).await.map_err(|error| (shadow_side, error))?;
    if copied {
        let unfit = shadow.query_opt(UNFIT, &[&shadow_name.quoted()]).await;
        if let Some(row) = unfit.map_err(|error| (shadow_side, error))? {
            let why: String = row.try_get(0).map_err(|error| (shadow_side, error))?;
            return Ok(Err(format!("table {shadow_name} of the {shadow_side} is unfit: {why}")));
        }
    }
    let nothing = BTreeSet::new();
    let ignored = ignored.get(&primary_name).unwrap_or(&nothing);
    Ok(assemble(&on_primary, &on_shadow, key, &unique_columns, ignored).map(
        |(pairs, shadow_only, key)| {
            let shadow_only_types = own_types(&on_shadow, &shadow_only);
            Arc::new(TableShape {
                table_id,
                primary: primary_name,
                shadow: shadow_name,
                primary_columns: on_primary.columns,
                shadow_columns: on_shadow.columns,
                pairs,
                shadow_only_types,
                shadow_only,
                key,
                uniques: indexes,
                references,
            })
        },
    ))
}

/// The opclass of an index on CockroachDB names no operator.
fn operators(found: Vec<Option<String>>) -> Vec<String> {
    found.into_iter().map(|operator| operator.unwrap_or_else(|| "=".to_owned())).collect()
}

fn own_types(side: &SideColumns, own: &[usize]) -> Vec<String> {
    let full_type = |index: &usize| side.casts.get(&side.columns[*index].name);
    own.iter().filter_map(full_type).map(|facts| facts.full_type.clone()).collect()
}

/// A table that is not there is that table's fault; anything else is the connection's.
fn missing(
    side: Side,
    table: &TableName,
    error: tokio_postgres::Error,
) -> Result<Shape, (Side, tokio_postgres::Error)> {
    match error.as_db_error() {
        Some(db) if db.code().code().starts_with("42") || db.code().code() == "3F000" => {
            Ok(Err(format!("table {table} cannot be read on the {side}: {}", db.message())))
        }
        _ => Err((side, error)),
    }
}

async fn side_columns(
    client: &Client,
    table: &TableName,
) -> Result<SideColumns, tokio_postgres::Error> {
    // A savepoint, so that a table that is missing does not end the transaction.
    client.batch_execute("SAVEPOINT shape").await?;
    let read = read_columns(client, table).await;
    let end = if read.is_ok() { "RELEASE shape" } else { "ROLLBACK TO shape" };
    client.batch_execute(end).await?;
    read
}

async fn read_columns(
    client: &Client,
    table: &TableName,
) -> Result<SideColumns, tokio_postgres::Error> {
    let quoted = table.quoted();
    let statement = client.prepare(&format!("SELECT t.* FROM {quoted} AS t")).await?;
    let mut side = SideColumns {
        columns: types::columns(statement.columns()).to_vec(),
        casts: HashMap::new(),
        key_equals: HashMap::new(),
        key_after: HashMap::new(),
    };
    for row in client.query(COLUMNS, &[&quoted]).await? {
        let facts = ColumnFacts {
            cast: row.try_get(1)?,
            full_type: row.try_get(2)?,
            generated: row.try_get(3)?,
            identity_always: row.try_get(4)?,
            blind_collation: row.try_get(5)?,
            required: row.try_get(6)?,
        };
        side.casts.insert(row.try_get(0)?, facts);
    }
    for row in client.query(KEY, &[&quoted]).await? {
        let after: Option<bool> = row.try_get(1)?;
        let operator = row.try_get::<_, Option<String>>(2)?.unwrap_or_default();
        if after == Some(true) {
            side.key_after.insert(row.try_get(0)?, operator);
        } else {
            side.key_equals.insert(row.try_get(0)?, operator);
        }
    }
    Ok(side)
}

async fn references(
    client: &Client,
    table: &TableName,
) -> Result<Vec<ForeignKey>, tokio_postgres::Error> {
    let rows = client.query(REFERENCES, &[&table.quoted()]).await?;
    rows.iter()
        .map(|row| {
            Ok(ForeignKey {
                name: row.try_get(0)?,
                child: table.clone(),
                child_columns: row.try_get(3)?,
                parent: TableName::new(row.try_get::<_, String>(1)?, row.try_get::<_, String>(2)?),
                parent_columns: row.try_get(4)?,
            })
        })
        .collect()
}

type Parts = (Vec<Pair>, Vec<usize>, Vec<KeyColumn>);

fn assemble(
    primary: &SideColumns,
    shadow: &SideColumns,
    key: &[String],
    unique: &BTreeSet<String>,
    ignored: &BTreeSet<String>,
) -> Result<Parts, String> {
    let mut pairs = Vec::new();
    for (index, column) in primary.columns.iter().enumerate() {
        let Some(found) = shadow.columns.iter().position(|other| other.name == column.name) else {
            if ignored.contains(&column.name) {
                continue;
            }
            return Err(format!(
                "column {:?} is missing on the shadow; add it there or list it as ignored",
                column.name
            ));
        };
        let facts = shadow.casts.get(&column.name);
        // What the shadow computes cannot be written. What only the primary computes is data.
        if ignored.contains(&column.name) || facts.is_some_and(|facts| facts.generated) {
            continue;
        }
        pairs.push(Pair {
            primary: index,
            shadow: found,
            judged: cells::pair(column.clone(), shadow.columns[found].clone()),
            shadow_type: facts.map(|facts| facts.full_type.clone()).unwrap_or_default(),
            unique: unique.contains(&column.name),
            identity_always: facts.is_some_and(|facts| facts.identity_always),
        });
    }
    let shadow_only: Vec<usize> = (0..shadow.columns.len())
        .filter(|index| {
            let name = &shadow.columns[*index].name;
            !pairs.iter().any(|pair| pair.shadow == *index)
                && !shadow.casts.get(name).is_some_and(|facts| facts.generated)
        })
        .collect();
    for index in &shadow_only {
        let name = &shadow.columns[*index].name;
        if shadow.casts.get(name).is_some_and(|facts| facts.required) {
            return Err(format!(
                "column {name:?} is NOT NULL on the shadow, has no default there, and the primary \
                 does not have it; give it a default, or let it be NULL"
            ));
        }
    }
    let key = key.iter().map(|name| key_column(name, primary, shadow)).collect::<Result<_, _>>()?;
    Ok((pairs, shadow_only, key))
}

/// Integers of all widths, and texts, name the same keys on both sides. All other types must
/// be the same, precision included: a key that one side rounds is another key there.
fn key_family(column: &Column, facts: &ColumnFacts) -> String {
    match column.ty.name.as_str() {
        "int2" | "int4" | "int8" => "integer".to_owned(),
        "text" | "varchar" if facts.blind_collation.is_none() => "text".to_owned(),
        _ if matches!(column.ty.kind, TypeKind::Enum(_)) => "enum".to_owned(),
        _ => described(facts),
    }
}

fn described(facts: &ColumnFacts) -> String {
    match &facts.blind_collation {
        Some(collation) => format!("{} (collation {collation})", facts.full_type),
        None => facts.full_type.clone(),
    }
}

fn key_column(
    name: &str,
    primary: &SideColumns,
    shadow: &SideColumns,
) -> Result<KeyColumn, String> {
    let find = |side: &SideColumns, role: &str| -> Result<Column, String> {
        if side.key_equals.len() != primary.key_equals.len() || !side.key_equals.contains_key(name)
        {
            return Err(format!(
                "the {role}'s primary key is not the one that {name:?} belongs to"
            ));
        }
        side.columns
            .iter()
            .find(|column| column.name == name)
            .cloned()
            .ok_or_else(|| format!("key column {name:?} is missing on the {role}"))
    };
    let (on_primary, on_shadow) = (find(primary, "primary")?, find(shadow, "shadow")?);
    let facts = |side: &'_ SideColumns| side.casts.contains_key(name);
    if !facts(primary) || !facts(shadow) {
        return Err(format!("key column {name:?} is not in the catalogue"));
    }
    let (primary_facts, shadow_facts) = (&primary.casts[name], &shadow.casts[name]);
    let families = (key_family(&on_primary, primary_facts), key_family(&on_shadow, shadow_facts));
    if families.0 != families.1 {
        return Err(format!(
            "key column {name:?} is {} on the primary and {} on the shadow, which do not name \
             the same keys; give both sides the same type",
            described(primary_facts),
            described(shadow_facts)
        ));
    }
    let is_enum = matches!(on_primary.ty.kind, TypeKind::Enum(_));
    let deterministic =
        primary_facts.blind_collation.is_none() && shadow_facts.blind_collation.is_none();
    let or = |found: Option<&String>, usual: &str| match found {
        Some(operator) if !operator.is_empty() => operator.clone(),
        _ => usual.to_owned(),
    };
    let equals = |side: &SideColumns| or(side.key_equals.get(name), "=");
    let after = |side: &SideColumns| or(side.key_after.get(name), ">");
    Ok(KeyColumn {
        name: quote_identifier(name),
        primary_cast: primary_facts.cast.clone(),
        shadow_cast: shadow_facts.cast.clone(),
        primary_equals: equals(primary),
        shadow_equals: equals(shadow),
        primary_after: after(primary),
        shadow_after: after(shadow),
        canon: Canon::of(&on_primary.ty.name, is_enum, deterministic),
    })
}
