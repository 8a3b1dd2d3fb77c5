//! Preparing and binding one statement.

use std::sync::Arc;

use crate::dialect::Dialect;
use crate::domain::call::BoundStatement;
use crate::domain::fault::{FaultKind, Routine, SqlFault};
use crate::domain::pg_type::PgType;
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::sqlstate;
use crate::domain::value::Value;
use crate::postgres::session::param::RawParam;
use crate::postgres::session::{Prepared, Session};
use crate::statement::{StatementKind, analyse};
use crate::value;

/// A statement with its parameters, ready to be sent.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) prepared: Arc<Prepared>,
    pub(super) params: Vec<RawParam>,
    /// It had been prepared before, so the schema may have changed since.
    pub(super) was_known: bool,
}

// === impl Ready ===

impl Ready {
    /// Prepares and binds. What was prepared earlier and does not fit is prepared once more:
    /// the schema, and with it the type of a parameter, may have changed.
    pub(super) async fn make(
        session: &Session,
        statement: &BoundStatement,
    ) -> Result<Self, SqlFault> {
        if let Some(prepared) = session.known(&statement.sql)
            && let Ok(params) =
                bind(&prepared.parameters, &statement.params, (session.dialect(), session.side()))
        {
            return Ok(Self { prepared, params, was_known: true });
        }
        if !session.dialect().captures_truncate()
            && let Some(fault) = uncaptured(&statement.sql)
        {
            return Err(fault.on(session.side()));
        }
        let prepared = session.prepare_anew(&statement.sql).await?;
        let params =
            bind(&prepared.parameters, &statement.params, (session.dialect(), session.side()))?;
        Ok(Self { prepared, params, was_known: false })
    }

    /// Whether it returns rows.
    pub(super) fn returns_rows(&self) -> bool {
        !self.prepared.columns.is_empty()
    }
}

/// The refusal of a statement that triggers do not see there: `TRUNCATE`.
fn uncaptured(sql: &str) -> Option<SqlFault> {
    let truncates = analyse(sql).is_ok_and(|it| it.kind == StatementKind::Truncate);
    truncates.then(|| {
        let message = "TRUNCATE is not captured on CockroachDB";
        SqlFault::new(FaultKind::Refused, Reason::RefusedTruncate, message)
            .with_hint("use DELETE, in parts where the table is large")
    })
}

/// Whether the server has seen something of the call that failed.
pub(super) fn was_seen(fault: &SqlFault) -> bool {
    !fault.sqlstate.is_empty() || crate::postgres::session::fault::ends_session(fault)
}

/// The call's values as parameters of the types that the server prepared.
fn bind(
    wanted: &[Arc<PgType>],
    values: &[Value],
    (dialect, side): (Dialect, Side),
) -> Result<Vec<RawParam>, SqlFault> {
    let count = wanted.len();
    if count != values.len() {
        let message =
            format!("the statement has {count} parameters, but the call {}", values.len());
        return Err(SqlFault::new(
            FaultKind::InvalidArgument,
            Reason::InvalidParameterCount,
            message,
        )
        .with_hint("give one value for each of $1, $2, …")
        .on(side));
    }
    wanted
        .iter()
        .zip(values)
        .enumerate()
        .map(|(index, (ty, value))| {
            let refused = |message: &str| {
                let message = format!("parameter ${}: {message}", index + 1);
                SqlFault::new(FaultKind::InvalidArgument, Reason::InvalidParameter, message)
                    .on(side)
            };
            let bound = value::bind(ty, value)
                .map_err(|error| refused(&error.message).with_hint(error.suggestion))?;
            RawParam::exact(dialect, ty, bound)
                .map_err(|error| refused(&error).with_hint("give a value that the server can hold"))
        })
        .collect()
}

/// Whether a prepared statement no longer fits the schema: outside a transaction it can be
/// prepared again and executed, for nothing has run.
pub(super) fn is_stale(fault: &SqlFault) -> bool {
    match fault.sqlstate.as_str() {
        // `invalid_sql_statement_name`: somebody deallocated it.
        sqlstate::INVALID_SQL_STATEMENT_NAME => true,
        // Messages are translated, names of functions are not; CockroachDB has no other language.
        sqlstate::FEATURE_NOT_SUPPORTED => {
            fault.routine == Routine::Revalidates || fault.message.contains("cached plan")
        }
        // A type was dropped and made again under another object id. Internal errors are not
        // translated.
        sqlstate::INTERNAL_ERROR => fault.message.starts_with("cache lookup failed for type"),
        _ => false,
    }
}

/// Whether a statement that had been prepared may be wrong only because the schema has changed
/// since. Prepared anew it says so for good, or works.
pub(super) fn may_be_outdated(fault: &SqlFault) -> bool {
    // A type, function, column or table that no longer fits.
    is_stale(fault)
        || [
            sqlstate::DATATYPE_MISMATCH,
            sqlstate::UNDEFINED_FUNCTION,
            sqlstate::UNDEFINED_COLUMN,
            sqlstate::UNDEFINED_TABLE,
        ]
        .contains(&fault.sqlstate.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fault::FaultKind;
    use crate::domain::pg_type::TypeKind;
    use crate::domain::value::Array;
    use crate::value::Parameter;

    fn ty(name: &str, oid: u32, kind: TypeKind) -> Arc<PgType> {
        Arc::new(PgType { oid, name: name.to_owned(), schema: "pg_catalog".to_owned(), kind })
    }

    fn array(elements: &[&str], dimensions: &[(u32, i32)]) -> Value {
        Value::Array(Array {
            element_type: "numeric".to_owned(),
            dimensions: dimensions.to_vec(),
            elements: elements.iter().map(|text| Value::Numeric((*text).to_owned())).collect(),
        })
    }

    /// CockroachDB takes the digits that it is sent, and PostgreSQL's binary form has none that are
    /// zero at the end.
    #[test]
    fn a_callers_number_reaches_each_server_with_all_of_its_digits() {
        let numeric = ty("numeric", 1700, TypeKind::Simple);
        let domain = ty("money_of_ours", 70_001, TypeKind::Domain(numeric.clone()));
        let many = ty("_numeric", 1231, TypeKind::Array(numeric.clone()));
        for (ty, value, text) in [
            (&numeric, Value::Numeric("1.000".to_owned()), "1.000"),
            (&numeric, Value::Int64(10_000), "10000"),
            (&numeric, Value::Numeric("NaN".to_owned()), "NaN"),
            (&domain, Value::Numeric("0.00".to_owned()), "0.00"),
            (&many, array(&["1.000", "20000"], &[]), "{1.000,20000}"),
        ] {
            let (wanted, values) = (std::slice::from_ref(ty), std::slice::from_ref(&value));
            let of = |dialect| bind(wanted, values, (dialect, Side::Target));
            let there = of(Dialect::COCKROACHDB).unwrap().remove(0).0;
            assert_eq!(there, Parameter::text(text.as_bytes().to_vec()), "{} {text}", ty.name);
            let here = of(Dialect::POSTGRESQL).unwrap().remove(0).0;
            assert_eq!(Some(here), value::bind(ty, &value).ok(), "{} {text}", ty.name);
        }
    }

    /// Its binary form of an array forgets where that begins.
    #[test]
    fn a_callers_array_that_a_server_would_number_anew_is_refused() {
        let int = ty("int8", 20, TypeKind::Simple);
        let many = [ty("_int8", 1016, TypeKind::Array(int))];
        let value = |dimensions: &[(u32, i32)]| {
            Value::Array(Array {
                element_type: "int8".to_owned(),
                dimensions: dimensions.to_vec(),
                elements: vec![Value::Int64(1), Value::Int64(2)],
            })
        };
        for (dimensions, fits) in
            [(&[(2, 1)][..], true), (&[(2, 0)], false), (&[(1, 1), (2, 1)], false)]
        {
            let of = |dialect| bind(&many, &[value(dimensions)], (dialect, Side::Target));
            assert!(of(Dialect::POSTGRESQL).is_ok(), "{dimensions:?}");
            match of(Dialect::COCKROACHDB) {
                Ok(_) => assert!(fits, "{dimensions:?}"),
                Err(fault) => {
                    assert!(!fits, "{fault}");
                    assert!(fault.message.starts_with("parameter $1: CockroachDB has"), "{fault}");
                }
            }
        }
    }

    #[test]
    fn a_stale_statement_is_told_in_every_language() {
        let german = "gecachter Plan darf den Ergebnistyp nicht ändern";
        for (sqlstate, routine, message, expected) in [
            ("0A000", "RevalidateCachedQuery", german, true),
            ("0A000", "", "cached plan must not change result type", true),
            ("0A000", "transformOnConflictArbiter", "Anweisung ist nicht implementiert", false),
            (
                "26000",
                "FetchPreparedStatement",
                "vorbereitete Anweisung »s7« existiert nicht",
                true,
            ),
            ("XX000", "getTypeOutputInfo", "cache lookup failed for type 16411", true),
            ("42601", "scanner_yyerror", "Syntaxfehler bei »SELEC«", false),
        ] {
            let mut fault = SqlFault::new(FaultKind::Database, Reason::Database, message);
            sqlstate.clone_into(&mut fault.sqlstate);
            fault.routine = Routine::of_name(Some(routine));
            assert_eq!(is_stale(&fault), expected, "{sqlstate} {routine} {message}");
        }
    }
}
