//! The form of capture: which functions and triggers a table gets, as SQL.
//!
//! Statement-level triggers with transition tables: one call and one `INSERT` for a
//! statement, however many rows it touched. `docs/explanation/capture.md` has the forms that were
//! measured against it.

use super::{key, note};
use crate::domain::control::Phase;
use crate::domain::side::Side;
use crate::domain::table::{TableName, quote_identifier, quote_literal};
use crate::postgres::capture::event::Event;
use crate::postgres::catalog::KeyColumn;
use crate::postgres::fence::{CLASS, TRANSACTIONS, when_copying};
use crate::postgres::schema::{OUTBOX_SLOTS, SLOT_SECONDS};

/// What every function of capture is named by.
pub(super) const FUNCTION_PREFIX: &str = "capture_";
/// A body that captures nothing.
pub(super) const NO_OP_BODY: &str = "BEGIN RETURN NULL; END";

/// The fixed path on which functions and operators are looked up: an application's are not.
const SEARCH_PATH: &str = "search_path=pg_catalog, pg_temp";

/// What one table's functions are made from.
#[derive(Debug, Clone)]
pub(super) struct Form<'a> {
    /// The side that the table is on: there writes are refused while the other is the primary.
    pub(super) side: Side,
    /// The table's small id.
    pub(super) table_id: i32,
    /// The columns of its key.
    pub(super) key: &'a [KeyColumn],
    /// Rows can move between partitions. Such a move fires no row trigger for the update,
    /// so that old keys must come from the statement's own transition table.
    pub(super) partitioned: bool,
}

/// A function of capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Function {
    /// Without the schema.
    pub(super) name: String,
    /// As `pg_proc.prosrc` has it.
    pub(super) body: String,
    /// As `pg_proc.proconfig` has it.
    pub(super) settings: Vec<String>,
}

// === impl Function ===

impl Function {
    /// The statement that makes it, or makes it anew without a lock on any table.
    pub(super) fn create(&self) -> String {
        let mut sql = format!(
            "CREATE OR REPLACE FUNCTION segue.{}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER",
            self.name
        );
        for setting in &self.settings {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            // Lists are given as lists: a quoted list would be a single strange name.
            sql.push_str(&format!("\n    SET {} = {}", quote_identifier(name), list(value)));
        }
        sql.push_str(&format!(
            "\nAS {};\nREVOKE ALL ON FUNCTION segue.{}() FROM PUBLIC;\n",
            quote_literal(&self.body),
            self.name
        ));
        sql
    }
}

fn list(value: &str) -> String {
    value.split(", ").map(|item| format!("'{item}'")).collect::<Vec<_>>().join(", ")
}

// === impl Form ===

impl Form<'_> {
    /// The triggers of the table and of each of its partitions.
    pub(super) fn events(&self) -> Vec<Event> {
        let mut events = vec![Event::Insert, Event::Update, Event::Delete, Event::Truncate];
        if !self.partitioned {
            events.push(Event::Key);
        }
        events
    }

    /// The function of an event.
    pub(super) fn function(&self, event: Event) -> Function {
        let rows = match event {
            Event::Insert => self.keys_of("segue_new"),
            Event::Delete => self.keys_of("segue_old"),
            Event::Update if self.partitioned => {
                // UNION removes the keys that stayed as they were. An anti-join by the key
                // would be cheaper for one row, but its plan, once cached for one row, takes
                // the square of the time for a million.
                format!("{} UNION {}", self.keys_of("segue_new"), self.keys_of("segue_old"))
            }
            Event::Update => self.keys_of("segue_new"),
            Event::Truncate => format!("SELECT {}", key::WHOLE_TABLE),
            Event::Key => format!("SELECT {}", key::expression("old", self.key)),
        };
        Function {
            name: self.function_name(event),
            body: self.body(event, &rows),
            settings: self.settings(),
        }
    }

    /// The function's name, without the schema.
    pub(super) fn function_name(&self, event: Event) -> String {
        format!("{FUNCTION_PREFIX}{}_{}", self.table_id, event.suffix())
    }

    fn keys_of(&self, rows: &str) -> String {
        format!("SELECT {} FROM {rows} AS r", key::expression("r", self.key))
    }

    /// A copy of segue's own passes: it is neither an application's write nor fenced.
    ///
    /// The transaction's outbox rows are due at once. They have the time of the trigger, not
    /// of the transaction's begin, so that they go to the partition of the present window.
    /// When each is due is its own moment: claims of a million rows can go on from where the
    /// last one ended, instead of passing by what is done already.
    ///
    /// The trigger is the fence of whoever goes round segue. It takes the shared lock of all
    /// captured transactions, and *then* looks whether this side is the primary, in the snapshot
    /// of the statement that captures. A transaction whose snapshot is as old as itself asks a
    /// sequence, which has no versions, for the epoch of the last change of the primary: it is set
    /// before such a change commits, under the fence, so that it cannot pass this one by. Where
    /// that is ahead of the snapshot the transaction locks the control row, which PostgreSQL
    /// refuses if the row has changed since: then the application tries again. If it has not, the
    /// change was rolled back after the sequence was set, and the next change of the row sets it
    /// right. In no other case is the row locked: shared locks of it would starve its changes.
    ///
    /// Before `shift` the target notes others' writes instead of refusing them ([`note`]). From when
    /// on it refuses them is told to old snapshots likewise.
    // Modelled as `Action::Write` in tests/model, and as `Action::OutsideLock` and
    // `Action::OutsideCheck` in tests/model_cutover.
    fn body(&self, event: Event, rows: &str) -> String {
        let here = Phase::ALL.into_iter().filter(|phase| phase.primary() == self.side);
        let here: Vec<String> = here.map(|phase| quote_literal(phase.as_str())).collect();
        let here = here.join(", ");
        let side = self.side;
        let copying = when_copying(&self.copied(event));
        let (declare, since) = (note::declare(side), note::since(side));
        let note = note::instead_of_refusing(side, self.table_id, event, rows);
        format!(
            "
BEGIN
{copying}
DECLARE
    segue_lock CONSTANT pg_catalog.text :=
        pg_catalog.pg_advisory_xact_lock_shared({CLASS}, {TRANSACTIONS})::pg_catalog.text;
    segue_at CONSTANT pg_catalog.timestamptz := pg_catalog.clock_timestamp();
    segue_slot CONSTANT pg_catalog.int2 := pg_catalog.mod(pg_catalog.floor(
        pg_catalog.date_part('epoch', segue_at) / {SLOT_SECONDS})::pg_catalog.int8, {OUTBOX_SLOTS});
    segue_write CONSTANT pg_catalog.uuid :=
        nullif(pg_catalog.current_setting('segue.write_id', true), '')::pg_catalog.uuid;{declare}
BEGIN
    IF pg_catalog.current_setting('transaction_isolation') <> 'read committed'
        AND ({since})
            > (SELECT c.epoch FROM segue.control AS c WHERE c.id = 1)
    THEN
        PERFORM FROM segue.control WHERE id = 1 FOR SHARE;
    END IF;
    INSERT INTO segue.outbox (slot, table_id, key, write_id, created_at, next_attempt_at)
    SELECT segue_slot, {}, k.key, segue_write, segue_at, pg_catalog.clock_timestamp()
    FROM ({rows}) AS k (key)
    WHERE (SELECT c.phase IN ({here}) FROM segue.control AS c WHERE c.id = 1);
    IF NOT FOUND
        AND (SELECT c.phase IN ({here}) FROM segue.control AS c WHERE c.id = 1) IS NOT TRUE
    THEN{note}
        RAISE EXCEPTION 'the {side} is not the primary, and takes no writes'
            USING ERRCODE = '25006', HINT = 'segue has changed the primary: write to the other database, or through segue';
    END IF;
    RETURN NULL;
END;
END",
            self.table_id
        )
    }

    /// What is done for a copy of segue's own: its changes are counted, in its transaction, so that
    /// the server's counters can be held against it (`postgres::drift`).
    fn copied(&self, event: Event) -> String {
        let (rows, each) = match event {
            // A row that moves to another partition counts as deleted and as inserted.
            Event::Update if self.partitioned => ("segue_new", 2),
            Event::Insert | Event::Update => ("segue_new", 1),
            Event::Delete => ("segue_old", 1),
            Event::Truncate | Event::Key => return "RETURN NULL;".to_owned(),
        };
        format!(
            "INSERT INTO segue.accounted (table_id, changes)
            SELECT {}, pg_catalog.count(*) * {each} FROM {rows} AS r HAVING pg_catalog.count(*) > 0;
            RETURN NULL;",
            self.table_id
        )
    }

    /// Settings that the text of a key depends on are pinned, where a column needs them;
    /// the others are spared the cost.
    fn settings(&self) -> Vec<String> {
        let mut settings = vec![SEARCH_PATH.to_owned()];
        for (name, value) in key::pins(self.key) {
            settings.push(format!("{name}={value}"));
        }
        settings
    }

    /// The statements that put an event's trigger on a relation. It fires whatever
    /// `session_replication_role` says ([`Self::always`]), since applications can change that.
    pub(super) fn trigger(&self, event: Event, relation: &TableName) -> String {
        let (when, rows) = match event {
            Event::Insert => ("INSERT", " REFERENCING NEW TABLE AS segue_new"),
            Event::Delete => ("DELETE", " REFERENCING OLD TABLE AS segue_old"),
            Event::Update if self.partitioned => {
                ("UPDATE", " REFERENCING OLD TABLE AS segue_old NEW TABLE AS segue_new")
            }
            Event::Update => ("UPDATE", " REFERENCING NEW TABLE AS segue_new"),
            Event::Truncate => ("TRUNCATE", ""),
            Event::Key => ("UPDATE", ""),
        };
        let each = if event == Event::Key {
            format!("ROW WHEN ({})", key::changed(self.key))
        } else {
            "STATEMENT".to_owned()
        };
        format!(
            "CREATE OR REPLACE TRIGGER {} AFTER {when} ON {}{rows} FOR EACH {each} EXECUTE FUNCTION segue.{}();\n",
            event.trigger(),
            relation.quoted(),
            self.function_name(event)
        )
    }

    /// The statement that lets an event's trigger fire in every session. Only the table's owner
    /// may say so, see [`super::always`].
    pub(super) fn always(&self, event: Event, relation: &TableName) -> String {
        // Partitions have triggers of their own.
        format!(
            "ALTER TABLE ONLY {} ENABLE ALWAYS TRIGGER {};\n",
            relation.quoted(),
            event.trigger()
        )
    }

    /// Names of an event's transition tables, old and new, as `pg_trigger` has them.
    pub(super) fn transition_tables(
        &self,
        event: Event,
    ) -> (Option<&'static str>, Option<&'static str>) {
        match event {
            Event::Insert => (None, Some("segue_new")),
            Event::Delete => (Some("segue_old"), None),
            Event::Update if self.partitioned => (Some("segue_old"), Some("segue_new")),
            Event::Update => (None, Some("segue_new")),
            Event::Truncate | Event::Key => (None, None),
        }
    }
}

/// Makes a function capture nothing.
pub(super) fn no_op(name: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION segue.{}() RETURNS trigger LANGUAGE plpgsql AS $segue${NO_OP_BODY}$segue$;\n",
        quote_identifier(name)
    )
}
