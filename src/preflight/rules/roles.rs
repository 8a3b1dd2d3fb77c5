//! What segue's role may do.

use crate::domain::side::Side;
use crate::domain::table::quote_identifier;
use crate::preflight::codes::Code;
use crate::preflight::describe::{Catalogue, SegueSchema, World};
use crate::preflight::finding::Finding;
use crate::preflight::rules::BOTH;

pub(super) fn all(world: &World, found: &mut Vec<Finding>) {
    for side in BOTH {
        role(side, world.side(side), found);
    }
    for (side, facts) in world.each() {
        let name = &world.side(side).role.name;
        let role = quote_identifier(name);
        let table = &facts.table.name;
        if !facts.missing_rights.is_empty() {
            let rights = facts.missing_rights.join(", ");
            let text = format!("role {name} may not {rights}");
            let sql = format!("GRANT {rights} ON TABLE {} TO {role}", table.quoted());
            found.push(Finding::new(Code::TableRights, side, text).table(table).sql(sql));
        }
        if facts.hidden_rows {
            let text = format!("row security applies to role {name}");
            let sql = format!("ALTER ROLE {role} BYPASSRLS");
            found.push(Finding::new(Code::RowSecurity, side, text).table(table).sql(sql));
        }
    }
}

fn role(side: Side, catalogue: &Catalogue, found: &mut Vec<Finding>) {
    let (server, name) = (&catalogue.server, &catalogue.role.name);
    let role = quote_identifier(name);
    if catalogue.role.may_be_replica == Some(false) {
        let text = format!("role {name} may not set session_replication_role");
        let sql = if server.dialect.grants_settings() {
            format!("GRANT SET ON PARAMETER session_replication_role TO {role}")
        } else {
            format!("ALTER ROLE {role} SUPERUSER")
        };
        found.push(
            Finding::new(Code::ReplicationRole, side, text)
                .object("session_replication_role")
                .sql(sql),
        );
    }
    for schema in &catalogue.role.closed_schemas {
        let text = format!("role {name} may not use the schema");
        let sql = format!("GRANT USAGE ON SCHEMA {} TO {role}", quote_identifier(schema));
        found.push(Finding::new(Code::SchemaUsage, side, text).object(schema).sql(sql));
    }
    segue_schema(side, catalogue, found);
    if let Some(sql) = &catalogue.role.always_missing {
        let text = format!("role {name} does not own every table");
        let finding = Finding::new(Code::AlwaysRights, side, text).object("segue.enable_always");
        found.push(finding.sql(sql.clone()));
    }
}

fn segue_schema(side: Side, catalogue: &Catalogue, found: &mut Vec<Finding>) {
    let name = &catalogue.role.name;
    let role = quote_identifier(name);
    let (text, sql) = match catalogue.role.schema {
        SegueSchema::Usable => return,
        SegueSchema::CannotBeMade => (
            format!("it is not there, and role {name} may not make it"),
            format!("CREATE SCHEMA IF NOT EXISTS segue AUTHORIZATION {role}"),
        ),
        SegueSchema::OfAnother => {
            (format!("it is not of role {name}"), format!("ALTER SCHEMA segue OWNER TO {role}"))
        }
    };
    found.push(Finding::new(Code::SegueSchema, side, text).object("segue").sql(sql));
}
