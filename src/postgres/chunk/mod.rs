//! Key ranges of a migrated table as SQL: which rows are in one, in which order they come, and
//! where to cut.
//!
//! A range is written into statements as literals, since `COPY` takes no parameters. Two orders
//! are to be had:
//!
//! - [`Order::Same`]: the same on both sides, so that a range is the same keys there. Texts are
//!   ordered `COLLATE "C"`; where the primary key's index is in another collation it does not
//!   serve, and each statement reads the whole table ([`KeySql::index_serves`] tells).
//! - [`Order::Own`]: the order of the side's own primary key, which its index always serves. A
//!   range means something on that side only.

use crate::domain::key_range::KeyRange;
use crate::domain::table::quote_literal;
use crate::postgres::mapping::table::{KeyColumn, Role, Sort, TableShape};

/// Rows that are gone through for bounds, at most: what fits an int8.
const READ_MAX: u64 = i64::MAX.unsigned_abs();

/// What "after" means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The same on both sides.
    Same,
    /// As the index of the side's primary key has it.
    Own,
}

/// The key of a table on one side, in one order.
#[derive(Debug, Clone, Copy)]
pub struct KeySql<'a> {
    shape: &'a TableShape,
    role: Role,
    order: Order,
}

/// How one column is compared.
struct Compared<'a> {
    sort: Sort,
    cast: &'a str,
    equals: &'a str,
    after: &'a str,
    until: &'a str,
}

/// CockroachDB takes no schema before a collation's name; the sessions that say it have
/// `pg_catalog` alone on their path.
const BY_BYTES: &str = " COLLATE \"C\"";

// === impl KeySql ===

impl<'a> KeySql<'a> {
    /// The key of a table as a side has it.
    pub fn new(shape: &'a TableShape, role: Role, order: Order) -> Self {
        Self { shape, role, order }
    }

    /// Whether the primary key's index gives rows in this order.
    pub fn index_serves(&self) -> bool {
        self.shape.key.iter().all(|column| self.compared(column).sort == Sort::Own)
    }

    /// A condition on `t`, the table: its row is in the range. `true` for all rows.
    pub fn rows_within(&self, range: &KeyRange) -> String {
        let column = |index: usize| format!("t.{}", self.shape.key[index].name);
        self.within(range, column)
    }

    /// A condition on a key as the outbox has it, such as `o.key`: it is in the range. A text
    /// that is no value of the column's type fails the statement.
    pub fn key_within(&self, range: &KeyRange, key: &str) -> String {
        let column = |index: usize| {
            let cast = self.compared(&self.shape.key[index]).cast;
            format!("({key})[{}]::{cast}", index + 1)
        };
        self.within(range, column)
    }

    /// `t."a", t."b" COLLATE "C"`: what to order by.
    pub fn order_by(&self) -> String {
        let names = self.shape.key.iter().map(|column| {
            let name = format!("t.{}", column.name);
            ordered(&name, self.compared(column).sort)
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// Every so-many-th key of the range, in order, as texts: where to cut it into parts of
    /// `rows` rows. At most `bounds_max` of them; fewer than that are all there are.
    pub fn next_bounds(&self, range: &KeyRange, rows: u64, bounds_max: usize) -> String {
        let keys: Vec<String> = (1..=self.shape.key.len()).map(|n| format!("b.k{n}")).collect();
        let texts = self.shape.key.iter().enumerate();
        let texts: Vec<String> = texts
            .map(|(index, column)| format!("t.{}::pg_catalog.text AS k{}", column.name, index + 1))
            .collect();
        format!(
            "SELECT {keys} FROM (SELECT {texts}, \
                 pg_catalog.row_number() OVER (ORDER BY {order}) AS n \
                 FROM {table} AS t WHERE {within} ORDER BY {order} LIMIT {read_max}) AS b \
             WHERE b.n % {rows} = 0 ORDER BY b.n",
            keys = keys.join(", "),
            texts = texts.join(", "),
            order = self.order_by(),
            table = self.shape.quoted(self.role),
            within = self.rows_within(range),
            rows = rows.max(1),
            // Without it the server would go through the range to its end each time.
            read_max = rows.max(1).saturating_mul(bounds_max as u64).min(READ_MAX),
        )
    }

    /// The first keys of the range, in order, as texts.
    pub fn page(&self, range: &KeyRange, keys_max: usize) -> String {
        format!(
            "SELECT {} FROM {} AS t WHERE {} ORDER BY {} LIMIT {keys_max}",
            self.shape.key_texts(),
            self.shape.quoted(self.role),
            self.rows_within(range),
            self.order_by()
        )
    }

    /// The condition over any form of the key's columns.
    pub fn within(&self, range: &KeyRange, column: impl Fn(usize) -> String) -> String {
        let mut conditions = Vec::new();
        if let Some(key) = &range.after {
            conditions.push(self.bounded(key, End::After, &column));
        }
        if let Some(key) = &range.until {
            conditions.push(self.bounded(key, End::Until, &column));
        }
        if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") }
    }

    /// A condition on a key as the outbox has it: it lies after one such key, up to and with
    /// another. All three are SQL for arrays of texts; an end that is NULL is open.
    pub fn key_between(&self, key: &str, after: &str, until: &str) -> String {
        let columns: Vec<_> = self.shape.key.iter().map(|column| self.compared(column)).collect();
        let values = |array: &str| -> Vec<String> {
            let value = |(index, compared): (usize, &Compared<'_>)| {
                ordered(&format!("({array})[{}]::{}", index + 1, compared.cast), compared.sort)
            };
            columns.iter().enumerate().map(value).collect()
        };
        let (names, low, high) = (values(key), values(after), values(until));
        format!(
            "({after} IS NULL OR ({})) AND ({until} IS NULL OR ({}))",
            end(&columns, &names, &low, End::After),
            end(&columns, &names, &high, End::Until),
        )
    }

    fn compared(&self, column: &'a KeyColumn) -> Compared<'a> {
        let (sort, cast, equals, after, until) = match self.role {
            Role::Primary => (
                column.primary_sort,
                &column.primary_cast,
                &column.primary_equals,
                &column.primary_after,
                &column.primary_until,
            ),
            Role::Shadow => (
                column.shadow_sort,
                &column.shadow_cast,
                &column.shadow_equals,
                &column.shadow_after,
                &column.shadow_until,
            ),
        };
        let sort = if self.order == Order::Own { Sort::Own } else { sort };
        // A label is compared as a text, whose operators are the system's.
        let of = |operator: &'a str, plain| if sort == Sort::Labels { plain } else { operator };
        Compared {
            sort,
            cast,
            equals: of(equals, "="),
            after: of(after, ">"),
            until: of(until, "<="),
        }
    }

    /// One end.
    fn bounded(&self, key: &[String], side: End, column: &impl Fn(usize) -> String) -> String {
        let columns: Vec<_> = self.shape.key.iter().map(|column| self.compared(column)).collect();
        let (mut names, mut bounds) = (Vec::new(), Vec::new());
        for (index, compared) in columns.iter().enumerate() {
            let text = key.get(index).map_or("", String::as_str);
            let bound = format!("{}::{}", quote_literal(text), compared.cast);
            names.push(ordered(&column(index), compared.sort));
            bounds.push(ordered(&bound, compared.sort));
        }
        end(&columns, &names, &bounds, side)
    }
}

/// Row comparison, which an index serves as it is; with operators of an extension it is spelt
/// out, since row comparison would look for others on the search path.
fn end(columns: &[Compared<'_>], names: &[String], bounds: &[String], side: End) -> String {
    let plain = |c: &Compared<'_>| c.equals == "=" && c.after == ">" && c.until == "<=";
    if columns.iter().all(plain) {
        let operator = if side == End::After { ">" } else { "<=" };
        return format!("({}) {operator} ({})", names.join(", "), bounds.join(", "));
    }
    spelt_out(columns, names, bounds, side)
}

/// Which end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    After,
    Until,
}

fn ordered(value: &str, sort: Sort) -> String {
    match sort {
        Sort::Own => value.to_owned(),
        Sort::Bytes => format!("{value}{BY_BYTES}"),
        Sort::Labels => format!("{value}::pg_catalog.text{BY_BYTES}"),
    }
}

/// `a <= A AND (A > a OR (a = A AND b <= B))`; the first part says nothing new, but an index
/// serves it.
fn spelt_out(columns: &[Compared<'_>], names: &[String], bounds: &[String], end: End) -> String {
    let last = columns.len() - 1;
    let beyond = |index: usize| match end {
        End::After => format!("{} {} {}", names[index], columns[index].after, bounds[index]),
        End::Until => format!("{} {} {}", bounds[index], columns[index].after, names[index]),
    };
    let mut condition = match end {
        End::After => beyond(last),
        End::Until => format!("{} {} {}", names[last], columns[last].until, bounds[last]),
    };
    for index in (0..last).rev() {
        let equal = format!("{} {} {}", names[index], columns[index].equals, bounds[index]);
        condition = format!("({} OR ({equal} AND {condition}))", beyond(index));
    }
    if last == 0 {
        return condition;
    }
    let first = match end {
        End::After => format!("{} {} {}", bounds[0], columns[0].until, names[0]),
        End::Until => format!("{} {} {}", names[0], columns[0].until, bounds[0]),
    };
    format!("{first} AND {condition}")
}

#[cfg(test)]
mod tests;
