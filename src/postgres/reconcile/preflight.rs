//! Whether reconcile could do its work: looked at before a phase relies on it.

use std::collections::{BTreeSet, HashMap};

use crate::domain::fault::SqlFault;
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::domain::sqlstate;
use crate::domain::table::{TableMapping, TableName, quote_identifier};
use crate::postgres::capture::Refusal;
use crate::postgres::catalog::rights::RIGHTS;
use crate::postgres::mapping::load::{self, IgnoredColumns, Shape};
use crate::postgres::pool::{Lease, Pool};
use crate::postgres::session::asked::Row;
use crate::postgres::session::settings::{BEGIN_LOOK, LOOK_SILENCE};

const AS_REPLICA: &str = "SET LOCAL session_replication_role = replica";

/// Looks at these tables on both sides, and answers what stands against reconciling them.
/// They must be in `segue.migrated_table` of the primary.
///
/// # Errors
///
/// What a database reports.
pub async fn refusals(
    own: &Sides<Pool>,
    primary_side: Side,
    mappings: &[TableMapping],
    ignored: &IgnoredColumns,
) -> Result<Vec<Refusal>, SqlFault> {
    let shadow_side = primary_side.other();
    let primary = own.of(primary_side).get().await?;
    let shadow = own.of(shadow_side).get().await?;
    let copied = shadow.dialect().has_replication_role();
    let name = |mapping: &TableMapping, side| match side {
        Side::Source => mapping.source.clone(),
        Side::Target => mapping.target.clone(),
    };
    for client in [&primary, &shadow] {
        client.batch_execute(BEGIN_LOOK).await?;
    }
    let loaded = load::load(&primary, &shadow, primary_side, ignored, copied).await;
    let shapes = loaded.map_err(|(_, fault)| fault)?;
    let names = |side| mappings.iter().map(|mapping| name(mapping, side)).collect::<Vec<_>>();
    let ids = table_ids(&primary).await?;
    let mut refused = unfit(&shapes, &ids, mappings, shadow_side);
    refused.extend(rights(&primary, &names(primary_side), &["SELECT"]).await?);
    let all = ["SELECT", "INSERT", "UPDATE", "DELETE"];
    refused.extend(rights(&shadow, &names(shadow_side), &all).await?);
    if copied {
        refused.extend(as_replica(&shadow, &names(shadow_side)).await?);
    }
    for client in [&primary, &shadow] {
        client.batch_execute("ROLLBACK").await?;
    }
    // One reason a table is enough, the first being the plainest.
    let mut told = BTreeSet::new();
    refused.retain(|refusal| told.insert((refusal.table.clone(), refusal.reason)));
    Ok(refused)
}

async fn table_ids(primary: &Lease) -> Result<Vec<(TableName, i32)>, SqlFault> {
    let sql = "SELECT source_schema, source_name, table_id FROM segue.migrated_table";
    let rows = primary.query(sql, &[]).await?;
    let read = |row: &Row| -> Result<_, SqlFault> {
        let name = TableName::new(row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?);
        Ok((name, row.try_get(2)?))
    };
    rows.iter().map(read).collect::<Result<_, _>>()
}

fn unfit(
    shapes: &HashMap<i32, Shape>,
    ids: &[(TableName, i32)],
    mappings: &[TableMapping],
    shadow_side: Side,
) -> Vec<Refusal> {
    let mut refused = Vec::new();
    for mapping in mappings {
        let id = ids.iter().find(|(name, _)| *name == mapping.source).map(|(_, id)| id);
        if let Some(Err(reason)) = id.and_then(|id| shapes.get(id)) {
            let table = match shadow_side {
                Side::Source => mapping.source.clone(),
                Side::Target => mapping.target.clone(),
            };
            let message = reason.clone();
            refused.push(Refusal { table, reason: Reason::RefusedTargetUnfit, message });
        }
    }
    refused
}

async fn rights(
    client: &Lease,
    tables: &[TableName],
    wanted: &[&str],
) -> Result<Vec<Refusal>, SqlFault> {
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let side = client.facts().side;
    let rows = client.query(RIGHTS, &[&schemas, &names, &wanted]).await?;
    let mut refused = Vec::new();
    for row in rows {
        let text = |index| row.try_get::<_, String>(index);
        let table = TableName::new(text(0)?, text(1)?);
        let role = quote_identifier(&text(2)?);
        let secured: bool = row.try_get(3)?;
        let missing: Vec<String> = row.try_get(4)?;
        if !missing.is_empty() {
            let message = format!(
                "segue's role may not {} on the {side}; run GRANT {} ON TABLE {} TO {role}",
                missing.join(", "),
                missing.join(", "),
                table.quoted()
            );
            refused.push(Refusal {
                table: table.clone(),
                reason: Reason::RefusedPrivilege,
                message,
            });
        }
        if secured {
            let message = format!(
                "row security hides rows of it from segue's role on the {side}; run ALTER ROLE \
                 {role} BYPASSRLS"
            );
            refused.push(Refusal { table, reason: Reason::RefusedRowSecurity, message });
        }
    }
    Ok(refused)
}

/// Rows are copied, not derived anew: that takes a right which is not everybody's.
async fn as_replica(shadow: &Lease, tables: &[TableName]) -> Result<Option<Refusal>, SqlFault> {
    let Some(table) = tables.first() else { return Ok(None) };
    let Err(fault) = shadow.batch_execute(AS_REPLICA).await else { return Ok(None) };
    if fault.sqlstate != sqlstate::INSUFFICIENT_PRIVILEGE {
        return Err(fault);
    }
    // The transaction is aborted: what comes after begins anew.
    let again = format!("ROLLBACK; BEGIN; {LOOK_SILENCE}");
    shadow.batch_execute(&again).await?;
    let row = shadow.query_one("SELECT current_user::text", &[]).await?;
    let role: String = row.try_get(0)?;
    let role = quote_identifier(&role);
    let side = shadow.facts().side;
    let way_out = if shadow.dialect().grants_settings() {
        format!("run GRANT SET ON PARAMETER session_replication_role TO {role}")
    } else {
        format!("run ALTER ROLE {role} SUPERUSER, or take PostgreSQL 15 or later")
    };
    Ok(Some(Refusal {
        table: table.clone(),
        reason: Reason::RefusedReplicationRole,
        message: format!(
            "segue's role may not set session_replication_role on the {side}, so that triggers \
             there would change what is copied; {way_out}"
        ),
    }))
}
