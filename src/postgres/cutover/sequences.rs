//! Generated values: sequences and identity columns of one side go on beyond the other's.

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::table::{TableMapping, TableName, quote_identifier};
use crate::postgres::session::Session;
use crate::postgres::session::asked::Row;

/// Steps that a sequence is set further by where its numbers are part of larger values, which
/// cannot be read back: as many as PostgreSQL itself logs ahead, and skips after a crash.
const MARGIN_STEPS: i64 = 32;

/// A column that a sequence gives values to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    table: TableName,
    name: String,
    /// It has the sequence's own numbers.
    has_numbers: bool,
}

// === impl Column ===

impl Column {
    fn is(&self, table: &TableName, name: &str) -> bool {
        self.table == *table && self.name == name
    }
}

/// A sequence of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sequence {
    name: TableName,
    columns: Vec<Column>,
    increment: i64,
    min: i64,
    max: i64,
    cycles: bool,
    last: Option<i64>,
    may_set: bool,
    role: String,
    /// Numbers that a session or a node of CockroachDB takes at once, and gives out whatever the
    /// sequence is set to meanwhile. Of a session of PostgreSQL nobody asks.
    cached: i64,
}

// === impl Sequence ===

impl Sequence {
    fn ascends(&self) -> bool {
        self.increment > 0
    }

    /// Of two numbers the one that lies further on its way.
    fn further(&self, one: Option<i64>, other: Option<i64>) -> Option<i64> {
        match (one, other) {
            (Some(one), Some(other)) if self.ascends() => Some(one.max(other)),
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Whether it gives out only numbers that lie further on.
    fn has_passed(&self, wanted: i64) -> bool {
        let beyond = |number: i64| if self.ascends() { number >= wanted } else { number <= wanted };
        // One that was never asked begins within its bounds.
        let is_outside = if self.ascends() { wanted < self.min } else { wanted > self.max };
        is_outside || self.last.is_some_and(beyond)
    }

    /// What to set it to, so that it goes on beyond `wanted`.
    fn beyond(&self, wanted: i64) -> i64 {
        let is_known = self.columns.iter().all(|column| column.has_numbers);
        if is_known || !(self.min..=self.max).contains(&wanted) {
            return wanted;
        }
        let margin = self.increment.saturating_mul(MARGIN_STEPS);
        wanted.saturating_add(margin).clamp(self.min, self.max)
    }

    /// What stands against setting it.
    fn can_be_set_to(&self, number: i64, side: Side) -> Result<(), SqlFault> {
        let name = self.name.quoted();
        if !self.may_set {
            let hint =
                format!("run GRANT UPDATE ON SEQUENCE {name} TO {}", quote_identifier(&self.role));
            return Err(self.refuse(side, "may not be set", hint));
        }
        if self.cached > 1 {
            let message = format!(
                "keeps {} numbers in each node or session, which would give them out again after it \
                 is set",
                self.cached
            );
            let hint = format!(
                "run ALTER SEQUENCE {name} CACHE 1, which forgets them; give it a cache again when \
                 the change is done"
            );
            return Err(self.refuse(side, &message, hint));
        }
        if !(self.min..=self.max).contains(&number) {
            let message =
                format!("goes from {} to {}, and {number} is taken already", self.min, self.max);
            let bound = if self.ascends() { "MAXVALUE" } else { "MINVALUE" };
            let hint = format!("widen it: ALTER SEQUENCE {name} AS bigint {bound} …");
            return Err(self.refuse(side, &message, hint));
        }
        Ok(())
    }

    fn refuse(&self, side: Side, message: &str, hint: String) -> SqlFault {
        let message = format!("sequence {} {message}", self.name);
        SqlFault::new(FaultKind::Precondition, Reason::RefusedSequence, message)
            .with_hint(hint)
            .on(side)
    }
}

/// Sets each sequence of `to` that gives values to a migrated table, or has a namesake on `from`,
/// beyond what was given out on `from` and beyond what its own columns hold. One that is
/// beyond already stays; one that begins anew on both sides goes on where the other stands.
/// Answers how many were set.
///
/// Safe to repeat. *If we crash here*, some numbers are skipped.
///
/// # Errors
///
/// What a database reports, or the sequence that cannot be set.
pub async fn advance(
    from: &Session,
    to: &Session,
    mappings: &[TableMapping],
) -> Result<u64, SqlFault> {
    let (there, here) = (list(from).await?, list(to).await?);
    let mut set = 0;
    for sequence in &here {
        let mut twins: Vec<&Sequence> =
            there.iter().filter(|twin| twin.name == sequence.name).collect();
        let has_namesake = !twins.is_empty();
        let mut held = None;
        for column in &sequence.columns {
            let mapping = mappings.iter().find(|mapping| *mapping.on(to.side()) == column.table);
            let Some(mapping) = mapping else { continue };
            if column.has_numbers {
                held = sequence.further(held, outermost(to, sequence, column).await?);
            } else if has_namesake {
                // An expression may ask several; by the column alone they cannot be told apart.
                continue;
            }
            let theirs = mapping.on(from.side());
            let asked =
                |twin: &&Sequence| twin.columns.iter().any(|it| it.is(theirs, &column.name));
            twins.extend(there.iter().filter(asked));
        }
        let Some(number) = aim(sequence, &twins, held) else { continue };
        set_to(to, sequence, number).await?;
        set += 1;
    }
    Ok(set)
}

/// The number to set a sequence to: none where it may go on as it is.
fn aim(sequence: &Sequence, twins: &[&Sequence], held: Option<i64>) -> Option<i64> {
    if sequence.cycles && twins.iter().any(|twin| twin.cycles) {
        // Its numbers come again anyway: no number is further than another.
        let last = twins.iter().find(|twin| twin.cycles)?.last?;
        let fits = (sequence.min..=sequence.max).contains(&last);
        return (fits && sequence.last != Some(last)).then_some(last);
    }
    let given = twins.iter().fold(None, |last, twin| sequence.further(last, twin.last));
    let wanted = sequence.further(held, given)?;
    (!sequence.has_passed(wanted)).then(|| sequence.beyond(wanted))
}

async fn set_to(session: &Session, sequence: &Sequence, number: i64) -> Result<(), SqlFault> {
    sequence.can_be_set_to(number, session.side())?;
    let name = sequence.name.quoted();
    let sql = "SELECT pg_catalog.setval($1::text::pg_catalog.regclass, $2, true)";
    let prepared = session.prepared(sql).await?;
    let done = session.query(&prepared.statement, &[&name, &number]).await;
    done.map(drop)
}

/// What a column holds at the end that its sequence goes to, of the numbers that the sequence
/// can give.
async fn outermost(
    session: &Session,
    sequence: &Sequence,
    column: &Column,
) -> Result<Option<i64>, SqlFault> {
    let (name, end) =
        (quote_identifier(&column.name), if sequence.ascends() { "max" } else { "min" });
    let sql = format!(
        "SELECT pg_catalog.{end}({name})::pg_catalog.int8 FROM {} \
        WHERE {name} >= ({}) AND {name} <= ({})",
        column.table.quoted(),
        sequence.min,
        sequence.max
    );
    let row = session.repeatable().query_one(&sql, &[]).await?;
    row.try_get(0)
}

async fn list(session: &Session) -> Result<Vec<Sequence>, SqlFault> {
    let catalogue = session.dialect().sequences();
    let prepared = session.prepared(catalogue.sequences).await?;
    let rows = session.repeatable().query(&prepared.statement, &[]).await?;
    let mut sequences: Vec<Sequence> = Vec::new();
    for row in &rows {
        let (found, column) = read(row)?;
        // One row for each column, those of a sequence together.
        if sequences.last().is_none_or(|last| last.name != found.name) {
            sequences.push(found);
        }
        if let (Some(last), Some(column)) = (sequences.last_mut(), column) {
            last.columns.push(column);
        }
    }
    if let Some(defaults) = catalogue.defaults {
        let rows = session.repeatable().query(defaults, &[]).await?;
        for row in &rows {
            let (column, default) = default_of(row)?;
            let asked = sequences.iter_mut().find(|it| asks(&default, &it.name, &column.table));
            if let Some(asked) = asked {
                asked.columns.push(column);
            }
        }
    }
    Ok(sequences)
}

/// Whether a default, `nextval('schema.name'::REGCLASS)`, asks this sequence. Without a schema it
/// is one of the table's own; a database may stand before the schema.
fn asks(default: &str, sequence: &TableName, table: &TableName) -> bool {
    let Some(named) = default.split('\'').nth(1) else { return false };
    let bare = |part: &str| part.trim_matches('"').replace("\"\"", "\"");
    let mut parts = named.rsplit('.').map(bare);
    let (name, schema) = (parts.next(), parts.next());
    name.as_deref() == Some(&sequence.name)
        && schema.unwrap_or_else(|| table.schema.clone()) == sequence.schema
}

/// A column of CockroachDB whose default begins with `nextval`, and the default.
fn default_of(row: &Row) -> Result<(Column, String), SqlFault> {
    let (default, is_numeric): (String, bool) = (row.try_get(3)?, row.try_get(4)?);
    // What comes after the call makes something else of the number.
    let is_plain = default.split_once(')').is_some_and(|(_, rest)| rest.is_empty());
    let column = Column {
        table: TableName { schema: row.try_get(0)?, name: row.try_get(1)? },
        name: row.try_get(2)?,
        has_numbers: is_numeric && is_plain,
    };
    Ok((column, default))
}

fn read(row: &Row) -> Result<(Sequence, Option<Column>), SqlFault> {
    let column = match (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?) {
        (Some(schema), Some(table), Some(name)) => Some(Column {
            table: TableName { schema, name: table },
            name,
            has_numbers: row.try_get::<_, Option<bool>>(12)?.unwrap_or(false),
        }),
        _ => None,
    };
    let sequence = Sequence {
        name: TableName { schema: row.try_get(0)?, name: row.try_get(1)? },
        columns: Vec::new(),
        increment: row.try_get(5)?,
        min: row.try_get(6)?,
        max: row.try_get(7)?,
        cycles: row.try_get(8)?,
        last: row.try_get(9)?,
        may_set: row.try_get(10)?,
        role: row.try_get(11)?,
        cached: row.try_get(13)?,
    };
    Ok((sequence, column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_names_its_sequence() {
        let table = TableName::new("shop", "ticket");
        let sequence = |schema: &str, name: &str| TableName::new(schema, name);
        let is = |default: &str, sequence: TableName| asks(default, &sequence, &table);
        assert!(is("nextval('public.t_id_seq'::REGCLASS)", sequence("public", "t_id_seq")));
        assert!(is("nextval('db.public.t_id_seq'::REGCLASS)", sequence("public", "t_id_seq")));
        assert!(is("nextval('t_id_seq'::regclass)", sequence("shop", "t_id_seq")));
        assert!(is("nextval('\"S\".\"T\"\"s\"'::regclass)", sequence("S", "T\"s")));
        assert!(!is("nextval('t_id_seq'::regclass)", sequence("public", "t_id_seq")));
        assert!(!is("unique_rowid()", sequence("public", "t_id_seq")));
    }

    fn sequence(increment: i64, last: Option<i64>, has_numbers: bool) -> Sequence {
        let (min, max) = if increment > 0 { (1, 1000) } else { (-1000, -1) };
        let table = TableName::new("public", "t");
        Sequence {
            name: TableName::new("public", "s"),
            columns: vec![Column { table, name: "c".to_owned(), has_numbers }],
            increment,
            min,
            max,
            cycles: false,
            last,
            may_set: true,
            role: "segue".to_owned(),
            cached: 1,
        }
    }

    /// Numbers that a node of CockroachDB holds are given out whatever the sequence is set to
    /// (its issue 71135): they are the source's by then.
    #[test]
    fn a_sequence_whose_numbers_are_kept_elsewhere_is_not_set() {
        let kept = Sequence { cached: 256, ..sequence(1, Some(1), true) };
        let refused = kept.can_be_set_to(7, Side::Target).unwrap_err();
        assert_eq!(refused.reason, Reason::RefusedSequence);
        assert!(refused.hint.contains("ALTER SEQUENCE \"public\".\"s\" CACHE 1"), "{refused:?}");
        assert!(Sequence { cached: 1, ..kept }.can_be_set_to(7, Side::Target).is_ok());
    }

    #[test]
    fn a_sequence_goes_on_beyond_the_other_sides() {
        let [up, down] = [1, -1].map(|step| sequence(step, None, true));
        let other = |last: i64| sequence(last.signum(), Some(last), true);
        assert_eq!(aim(&up, &[&other(7)], Some(5)), Some(7));
        assert_eq!(aim(&up, &[&other(7)], Some(9)), Some(9));
        assert_eq!(aim(&down, &[&other(-7)], Some(-9)), Some(-9));
        assert_eq!(aim(&up, &[], None), None);
        assert_eq!(aim(&sequence(1, Some(8), true), &[&other(7)], Some(5)), None);
        assert_eq!(aim(&sequence(-1, Some(-8), true), &[&other(-7)], None), None);
        // The other side counts below what this one begins with.
        assert_eq!(aim(&up, &[&other(-7)], None), None);
        // Refused later, rather than cut to what would be given out twice.
        assert_eq!(aim(&up, &[&other(2000)], None), Some(2000));
    }

    #[test]
    fn a_sequence_inside_an_expression_leaves_a_margin_once() {
        let taken = sequence(3, Some(10), false);
        let aimed = aim(&sequence(3, None, false), &[&taken], None);
        assert_eq!(aimed, Some(10 + 3 * MARGIN_STEPS));
        assert_eq!(aim(&sequence(3, aimed, false), &[&taken], None), None);
        let nearly = sequence(1, Some(999), false);
        assert_eq!(aim(&sequence(1, None, false), &[&nearly], None), Some(1000));
    }

    #[test]
    fn a_cycling_sequence_goes_on_where_the_other_stands() {
        let ring = |last| Sequence { cycles: true, ..sequence(1, last, true) };
        assert_eq!(aim(&ring(Some(1000)), &[&ring(Some(2))], Some(900)), Some(2));
        assert_eq!(aim(&ring(Some(2)), &[&ring(Some(2))], None), None);
        assert_eq!(aim(&ring(None), &[&ring(None)], None), None);
    }
}
