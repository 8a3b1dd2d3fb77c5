//! The form of capture on CockroachDB: one function and one trigger for each row that is touched.
//! It has no triggers for statements, no transition tables and no `SET` of a function.
//!
//! A function that a trigger uses cannot be replaced there, and its body is not kept as it was
//! written: so both are named by a digest of the body, and a name that is there is the form that
//! is wanted.

use sha2::{Digest, Sha256};
use tokio_postgres::{Error, GenericClient};

use super::event::TRIGGER_PREFIX;
use super::form::FUNCTION_PREFIX;
use crate::domain::control::Phase;
use crate::domain::side::Side;
use crate::domain::sqlstate;
use crate::domain::table::{TableName, quote_identifier, quote_literal};
use crate::postgres::catalog::KeyColumn;
use crate::postgres::fence::COPYING;
use crate::postgres::schema::{OUTBOX_SLOTS, SLOT_SECONDS};

/// `pg_trigger.tgtype`: after a row's insert, delete or update.
const CATALOGUE_TYPE: i16 = 1 | 4 | 8 | 16;
/// Of the digest, in hexadecimal.
const DIGEST_LENGTH: usize = 12;

/// Types whose text depends on a setting in such a way that it could be read as another value,
/// with the setting, what it must be like, and in words.
const AMBIGUOUS: [(&[&str], &str, &str, &str); 4] = [
    (&["date", "timestamp", "timestamptz"], "DateStyle", "LIKE 'iso%'", "ISO"),
    (&["interval"], "IntervalStyle", "= 'postgres'", "postgres"),
    (&["bytea"], "bytea_output", "= 'hex'", "hex"),
    (&["float4", "float8"], "extra_float_digits", "IN ('1', '2', '3')", "1"),
];

/// What one table's function is made from.
#[derive(Debug, Clone)]
pub(super) struct RowForm<'a> {
    /// The side that the table is on: there writes are refused while the other is the primary.
    pub(super) side: Side,
    /// The table's small id.
    pub(super) table_id: i32,
    /// The columns of its key.
    pub(super) key: &'a [KeyColumn],
}

/// What stands of a table's capture.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// The trigger of this form is there.
    pub(super) trigger: bool,
    /// Its function is.
    pub(super) function: bool,
    /// Triggers of other forms.
    pub(super) others: Vec<String>,
}

// === impl Standing ===

impl Standing {
    /// What is wrong with it.
    pub(super) fn fault(&self) -> Option<&'static str> {
        match (self.trigger, self.others.is_empty()) {
            (true, true) => None,
            (true, false) => Some("there twice"),
            (false, true) => Some("missing"),
            (false, false) => Some("of another form"),
        }
    }
}

// === impl RowForm ===

impl RowForm<'_> {
    /// The function's body.
    ///
    /// The look at the control row stands before the outbox rows, in the transaction that is
    /// captured: CockroachDB orders it as a whole against a change of the row, as long as it is
    /// SERIALIZABLE. One that is not is refused, since nothing orders it; but for the last phase,
    /// after which there is no change.
    // Modelled as `Action::Write` in tests/model.
    fn body(&self) -> String {
        let Self { side, table_id, key } = self;
        let here = Phase::ALL.into_iter().filter(|phase| phase.primary() == *side);
        let here: Vec<String> = here.map(|phase| quote_literal(phase.as_str())).collect();
        let here = here.join(", ");
        let [before, ended] =
            [Phase::SourceOnly, Phase::TargetOnly].map(|it| quote_literal(it.as_str()));
        let refuse = |condition: &str, code: &str, message: &str, hint: &str| {
            format!(
                "    IF {condition} THEN
        RAISE EXCEPTION {message} USING ERRCODE = '{code}', HINT = {hint};
    END IF;
",
                message = quote_literal(message),
                hint = quote_literal(hint)
            )
        };
        let isolation = refuse(
            "pg_catalog.current_setting('transaction_isolation') <> 'serializable'",
            sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
            "a table of the migration is written to in SERIALIZABLE transactions only",
            "in any other isolation nothing orders a write against a change of the primary: \
             begin a SERIALIZABLE transaction, or write through segue",
        );
        let mut settings = String::new();
        for (types, setting, like, wanted) in AMBIGUOUS {
            if key.iter().any(|column| types.contains(&column.base_type.as_str())) {
                settings.push_str(&refuse(
                    &format!(
                        "NOT pg_catalog.lower(pg_catalog.current_setting('{setting}')) {like}"
                    ),
                    sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    &format!("the key of the row cannot be noted under this {setting}"),
                    &format!("set {setting} to {wanted}, or write through segue"),
                ));
            }
        }
        let primary = refuse(
            &format!("segue_phase IS NULL OR segue_phase NOT IN ({here})"),
            sqlstate::READ_ONLY_SQL_TRANSACTION,
            &format!("the {side} is not the primary, and takes no writes"),
            "segue has changed the primary, or does so now: write to the other database, or \
             through segue",
        );
        let note = |row: &str| {
            format!(
                "INSERT INTO segue.outbox (slot, table_id, key, write_id)
        VALUES (segue_slot, {table_id}, {}, segue_write)",
                key_of(row, key)
            )
        };
        let changed: Vec<String> = key
            .iter()
            .map(|column| {
                let name = quote_identifier(&column.name);
                format!("(OLD).{name}::text <> (NEW).{name}::text")
            })
            .collect();
        format!(
            "
DECLARE
    segue_phase text;
    segue_slot int2;
    segue_write uuid;
BEGIN
    IF pg_catalog.current_setting('{COPYING}', true) = 'on' THEN
        RETURN NULL;
    END IF;
    SELECT c.phase INTO segue_phase FROM segue.control AS c
    WHERE c.id = 1 AND c.fenced_by IS NULL;
    IF segue_phase = {ended} THEN
        RETURN NULL;
    END IF;
{isolation}{settings}    IF segue_phase = {before} THEN
        RETURN NULL;
    END IF;
{primary}    segue_slot := pg_catalog.mod(pg_catalog.floor(
        extract(epoch FROM pg_catalog.clock_timestamp()) / {SLOT_SECONDS})::int8, {OUTBOX_SLOTS}::int8)::int2;
    segue_write := nullif(pg_catalog.current_setting('segue.write_id', true), '')::uuid;
    IF TG_OP <> 'DELETE' THEN
        {};
    END IF;
    IF TG_OP = 'DELETE' THEN
        {};
    END IF;
    IF TG_OP = 'UPDATE' AND ({}) THEN
        {};
    END IF;
    RETURN NULL;
END
",
            note("NEW"),
            note("OLD"),
            changed.join(" OR "),
            note("OLD"),
        )
    }

    fn digest(&self) -> String {
        let digest = Sha256::digest(self.body());
        let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        text[..DIGEST_LENGTH].to_owned()
    }

    /// The function's name, without the schema.
    fn function(&self) -> String {
        format!("{FUNCTION_PREFIX}{}_{}", self.table_id, self.digest())
    }

    /// The trigger's name.
    pub(super) fn trigger(&self) -> String {
        format!("{TRIGGER_PREFIX}{}", self.digest())
    }

    /// The statement that makes the function. It runs as its owner, so that applications need no
    /// right on segue's schema.
    pub(super) fn create_function(&self) -> String {
        format!(
            "CREATE FUNCTION segue.{}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER\nAS {};\n",
            self.function(),
            quote_literal(&self.body())
        )
    }

    /// The statement that makes the trigger.
    pub(super) fn create_trigger(&self, table: &TableName) -> String {
        format!(
            "CREATE TRIGGER {} AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW EXECUTE FUNCTION segue.{}();\n",
            self.trigger(),
            table.quoted(),
            self.function()
        )
    }

    /// What stands of it.
    pub(super) async fn standing<C: GenericClient>(
        &self,
        client: &C,
        table: u32,
    ) -> Result<Standing, Error> {
        let (wanted, function) = (self.trigger(), self.function());
        let rows = client
            .query(
                "SELECT t.tgname::text, t.tgtype, t.tgenabled::text FROM pg_catalog.pg_trigger AS t
                 WHERE t.tgrelid = $1",
                &[&table],
            )
            .await?;
        let mut standing = Standing::default();
        for row in &rows {
            let (name, kind): (String, i16) = (row.try_get(0)?, row.try_get(1)?);
            let enabled = ["O", "A"].contains(&row.try_get::<_, &str>(2)?);
            if name == wanted && kind == CATALOGUE_TYPE && enabled {
                standing.trigger = true;
            } else if name.starts_with(TRIGGER_PREFIX) {
                standing.others.push(name);
            }
        }
        let row = client
            .query_one(
                "SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc AS p
                 JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
                 WHERE n.nspname = 'segue' AND p.proname = $1",
                &[&function],
            )
            .await?;
        standing.function = row.try_get::<_, i64>(0)? > 0;
        Ok(standing)
    }
}

/// A row's key as the outbox has it.
fn key_of(row: &str, key: &[KeyColumn]) -> String {
    let values =
        key.iter().map(|column| format!("({row}).{}::text", quote_identifier(&column.name)));
    format!("ARRAY[{}]", values.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, base: &str) -> KeyColumn {
        KeyColumn {
            name: name.into(),
            base_type: base.into(),
            base_schema: "pg_catalog".into(),
            text_equality: true,
        }
    }

    #[test]
    fn another_key_is_another_form() {
        let one = [column("id", "int8")];
        let other = [column("id", "int8"), column("n", "date")];
        let form = |key| RowForm { side: Side::Target, table_id: 7, key };
        let (one, other) = (form(&one), form(&other));
        assert_ne!(one.trigger(), other.trigger());
        assert!(one.function().starts_with("capture_7_"), "{}", one.function());
        // Only where a text could mean another value is a setting asked for.
        assert!(other.body().contains("'DateStyle'") && !one.body().contains("'DateStyle'"));
    }

    #[test]
    fn a_trigger_that_is_not_as_it_should_be_is_named() {
        let standing = |trigger, others: &[&str]| Standing {
            trigger,
            function: true,
            others: others.iter().map(|it| (*it).to_owned()).collect(),
        };
        assert_eq!(standing(true, &[]).fault(), None);
        assert_eq!(standing(false, &[]).fault(), Some("missing"));
        assert_eq!(standing(false, &["segue_capture_old"]).fault(), Some("of another form"));
        assert_eq!(standing(true, &["segue_capture_old"]).fault(), Some("there twice"));
    }
}
