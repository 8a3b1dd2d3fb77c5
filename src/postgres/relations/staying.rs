//! What is not migrated and not declared, for the check before a migration.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::load;
use crate::domain::control::Phase;
use crate::domain::fault::SqlFault;
use crate::domain::reach::{Catalogues, FunctionRef, Named, Policy, Reach};
use crate::domain::side::Sides;
use crate::domain::table::{TableName, TableRef};
use crate::postgres::pool::Pool;

/// Relations and functions of the source that statements could not use without failing the gate
/// to `shift`, where these tables are migrated; each with what is so.
///
/// # Errors
///
/// Whatever the database says.
pub async fn staying(
    source: &Pool,
    migrated: &[TableName],
    policy: &Policy,
) -> Result<Vec<(TableName, String)>, SqlFault> {
    let catalogue =
        Arc::new(load::load(source, load::search_path(source).await?, Some(migrated)).await?);
    let catalogues = Sides { source: Some(Arc::clone(&catalogue)), target: None };
    let mut found = Vec::new();
    for (name, relation) in catalogue.relations() {
        // Parts of a table are told with it.
        if relation.belongs_to.is_some() {
            continue;
        }
        let relation = TableRef { schema: Some(name.schema.clone()), name: name.name.clone() };
        let named = Named { relations: [relation].into(), ..Named::default() };
        found.extend(told(name, &undeclared(&named, &catalogues, policy)));
    }
    for (name, function) in catalogue.all_functions() {
        let full = TableName::new(function.schema.as_str(), name);
        let called = FunctionRef {
            schema: Some(function.schema.clone()),
            name: name.to_owned(),
            arguments: function.arguments.0,
        };
        let named = Named { functions: [called].into(), ..Named::default() };
        found.extend(told(&full, &undeclared(&named, &catalogues, policy)));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn undeclared(named: &Named, catalogues: &Catalogues, policy: &Policy) -> BTreeSet<String> {
    Reach::of(named, Phase::SourceOnly, catalogues, policy).undeclared
}

fn told(name: &TableName, undeclared: &BTreeSet<String>) -> Option<(TableName, String)> {
    let own = name.to_string();
    let text = if undeclared.is_empty() {
        return None;
    } else if undeclared.len() == 1 && undeclared.contains(&own) {
        "it is not migrated, or segue cannot look into it, and it is not declared".to_owned()
    } else {
        let others: Vec<&str> =
            undeclared.iter().filter(|it| **it != own).map(String::as_str).collect();
        format!("it touches {}, which is not migrated and not declared", others.join(", "))
    };
    Some((name.clone(), text))
}
