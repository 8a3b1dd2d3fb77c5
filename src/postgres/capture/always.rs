//! Triggers that fire in every session, whatever its `session_replication_role` says.
//!
//! `CREATE TRIGGER` cannot say so, `ALTER TABLE` can, and only the table's owner may run that. A
//! role with the `TRIGGER` privilege alone goes by a function that does nothing else
//! ([`schema::always_for`]), made by whoever grants segue its rights.

use tokio_postgres::{Client, Error};

use super::event::Event;
use super::form::Form;
use crate::domain::side::Side;
use crate::domain::table::{TableName, quote_identifier};
use crate::postgres::schema::{self, SetupError};

const RIGHTS: &str = "\
    SELECT current_user::text, pg_catalog.pg_has_role(c.relowner, 'USAGE'), \
        pg_catalog.has_table_privilege(c.oid, 'TRIGGER'), \
        coalesce(pg_catalog.has_function_privilege( \
            pg_catalog.to_regprocedure('segue.enable_always(oid)'), 'EXECUTE'), false) \
    FROM pg_catalog.pg_class AS c WHERE c.oid = $1";

/// What segue's role may do on one table.
#[derive(Debug)]
pub(super) struct Rights {
    role: String,
    owns: bool,
    may_put: bool,
    has_function: bool,
}

// === impl Rights ===

impl Rights {
    /// Asks for them.
    pub(super) async fn on(client: &Client, oid: u32) -> Result<Self, Error> {
        let row = client.query_one(RIGHTS, &[&oid]).await?;
        Ok(Self {
            role: row.try_get(0)?,
            owns: row.try_get(1)?,
            may_put: row.try_get(2)?,
            has_function: row.try_get(3)?,
        })
    }

    /// The statements that let these triggers fire in every session.
    ///
    /// # Errors
    ///
    /// [`SetupError::Privilege`], with all that is missing.
    pub(super) fn statements(
        &self,
        form: &Form<'_>,
        side: Side,
        relation: &TableName,
        oid: u32,
        events: &[Event],
    ) -> Result<String, SetupError> {
        if self.owns {
            return Ok(events.iter().map(|event| form.always(*event, relation)).collect());
        }
        if self.may_put && self.has_function {
            return Ok(format!("SELECT segue.enable_always({oid});\n"));
        }
        let mut sql = String::new();
        if !self.may_put {
            let role = quote_identifier(&self.role);
            sql.push_str(&format!("GRANT TRIGGER ON TABLE {} TO {role};\n", relation.quoted()));
        }
        if !self.has_function {
            sql.push_str(&schema::always_for(&self.role));
        }
        Err(SetupError::Privilege {
            side,
            action: format!("put triggers on {relation} that fire in every session"),
            message: "it does not own the table".to_owned(),
            sql,
            role: self.role.clone(),
        })
    }
}
