//! Constraints, triggers that always fire, policies, publications.

use std::collections::BTreeMap;

use tokio_postgres::types::ToSql;

use crate::domain::fault::SqlFault;
use crate::domain::table::TableName;
use crate::postgres::session::asked::Row;
use crate::postgres::survey::ask::Asker;
use crate::preflight::describe::{Constraint, TableFacts};

const CONSTRAINTS: &str = "
SELECT k.conrelid, k.contype::text, k.conname::text, pg_catalog.pg_get_constraintdef(k.oid),
    k.convalidated
FROM pg_catalog.pg_constraint AS k
WHERE k.conrelid = ANY ($1) AND k.contype IN ('c', 'x') ORDER BY k.conrelid, k.conname";

const ACTIONS: &str = "
SELECT k.conrelid, k.conname::text, pg_catalog.concat_ws(' ',
    CASE k.confmatchtype::text WHEN 'f' THEN 'MATCH FULL' END,
    CASE k.confupdtype::text WHEN 'r' THEN 'ON UPDATE RESTRICT' WHEN 'c' THEN 'ON UPDATE CASCADE'
        WHEN 'n' THEN 'ON UPDATE SET NULL' WHEN 'd' THEN 'ON UPDATE SET DEFAULT' END,
    CASE k.confdeltype::text WHEN 'r' THEN 'ON DELETE RESTRICT' WHEN 'c' THEN 'ON DELETE CASCADE'
        WHEN 'n' THEN 'ON DELETE SET NULL' WHEN 'd' THEN 'ON DELETE SET DEFAULT' END,
    CASE WHEN k.condeferrable THEN 'DEFERRABLE' END,
    CASE WHEN k.condeferred THEN 'INITIALLY DEFERRED' END)
FROM pg_catalog.pg_constraint AS k WHERE k.conrelid = ANY ($1) AND k.contype = 'f'";

/// Capture's own know a copy by themselves. Of partitions as well: the first column is the table that a partition belongs to.
const ALWAYS: &str = "
SELECT w.root, 'trigger ' || t.tgname, 'ALTER TABLE ' || t.tgrelid::regclass
    || ' ENABLE TRIGGER ' || pg_catalog.quote_ident(t.tgname)
FROM unnest($1::oid[], $2::oid[]) AS w (root, oid)
JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = w.oid
JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace AND n.nspname <> 'segue'
WHERE NOT t.tgisinternal AND t.tgenabled IN ('A', 'R') AND t.tgparentid = 0
UNION ALL
SELECT w.root, 'rule ' || r.rulename, 'ALTER TABLE ' || r.ev_class::regclass
    || ' ENABLE RULE ' || pg_catalog.quote_ident(r.rulename)
FROM unnest($1::oid[], $2::oid[]) AS w (root, oid)
JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = w.oid
WHERE r.ev_enabled IN ('A', 'R') ORDER BY 1, 2, 3";

const POLICIES: &str = "
SELECT p.polrelid, p.polname::text, pg_catalog.concat_ws(' ',
    CASE WHEN p.polpermissive THEN 'AS PERMISSIVE' ELSE 'AS RESTRICTIVE' END,
    'FOR ' || CASE p.polcmd::text WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT'
        WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
    'TO ' || pg_catalog.array_to_string(ARRAY(SELECT CASE r WHEN 0 THEN 'PUBLIC'
        ELSE pg_catalog.pg_get_userbyid(r)::text END
        FROM pg_catalog.unnest(p.polroles) AS u (r) ORDER BY 1), ', '),
    'USING (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')',
    'WITH CHECK (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')')
FROM pg_catalog.pg_policy AS p WHERE p.polrelid = ANY ($1)";

const PUBLICATIONS: &str = "
SELECT c.oid, p.pubname::text FROM pg_catalog.pg_publication_tables AS p
JOIN pg_catalog.pg_namespace AS n ON n.nspname = p.schemaname
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = p.tablename
WHERE c.oid = ANY ($1) ORDER BY 1, 2";

type Tables = BTreeMap<u32, TableFacts>;

pub(super) async fn fill(asker: &mut Asker<'_>, tables: &mut Tables) -> Result<(), SqlFault> {
    let oids: Vec<u32> = tables.keys().copied().collect();
    let all: &[&(dyn ToSql + Sync)] = &[&oids];
    let question = "check and exclusion constraints (pg_constraint)";
    each(asker, question, CONSTRAINTS, all, tables, |row, facts| {
        let constraint = Constraint {
            name: row.try_get(2)?,
            definition: row.try_get(3)?,
            is_valid: row.try_get(4)?,
        };
        let list = match row.try_get::<_, &str>(1)? {
            "c" => &mut facts.checks,
            _ => &mut facts.exclusions,
        };
        list.push(constraint);
        Ok(())
    })
    .await?;
    each(asker, "foreign keys (pg_constraint)", ACTIONS, all, tables, |row, facts| {
        facts.actions.insert(row.try_get(1)?, row.try_get(2)?);
        Ok(())
    })
    .await?;
    let (roots, parts) = with_partitions(tables);
    let question = "triggers and rules (pg_trigger, pg_rewrite)";
    if asker.lease().dialect().tells_when_triggers_fire() {
        each(asker, question, ALWAYS, &[&roots, &parts], tables, |row, facts| {
            facts.always.push((row.try_get(1)?, row.try_get(2)?));
            Ok(())
        })
        .await?;
    }
    each(asker, "policies (pg_policy)", POLICIES, all, tables, |row, facts| {
        facts.policies.insert(row.try_get(1)?, row.try_get(2)?);
        Ok(())
    })
    .await?;
    each(asker, "publications (pg_publication)", PUBLICATIONS, all, tables, |row, facts| {
        facts.publications.push(row.try_get(1)?);
        Ok(())
    })
    .await
}

/// Each table beside itself and each of its partitions.
pub(super) fn with_partitions(tables: &Tables) -> (Vec<u32>, Vec<u32>) {
    let pairs = tables.iter().flat_map(|(oid, facts)| {
        let parts = facts.table.partitions.iter().map(|part| part.oid);
        std::iter::once(*oid).chain(parts).map(|part| (*oid, part)).collect::<Vec<_>>()
    });
    pairs.unzip()
}

/// Asks, and hands each row to the table whose id it begins with.
pub(super) async fn each(
    asker: &mut Asker<'_>,
    question: &'static str,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
    tables: &mut Tables,
    mut put: impl FnMut(&Row, &mut TableFacts) -> Result<(), SqlFault>,
) -> Result<(), SqlFault> {
    for row in asker.rows(question, sql, params).await? {
        let oid: u32 = row.try_get(0)?;
        if let Some(facts) = tables.get_mut(&oid) {
            put(&row, facts)?;
        }
    }
    Ok(())
}

/// A name in two columns of a row.
pub(super) fn name_at(row: &Row, column: usize) -> Result<TableName, SqlFault> {
    Ok(TableName::new(row.try_get::<_, String>(column)?, row.try_get::<_, String>(column + 1)?))
}
