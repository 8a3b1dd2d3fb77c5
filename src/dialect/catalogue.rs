//! The catalogue: what it tells, in which columns, and what it leaves empty.

use super::{Dialect, Engine};

/// Whether a column's values are integers, whatever domain it is of.
macro_rules! is_numeric {
    () => {
        "(WITH RECURSIVE b (oid) AS (SELECT a.atttypid UNION ALL \
            SELECT y.typbasetype FROM b JOIN pg_catalog.pg_type AS y ON y.oid = b.oid \
            WHERE y.typtype = 'd') \
        SELECT pg_catalog.bool_or(b.oid IN (20, 21, 23, 1700)) FROM b)"
    };
}

/// Sequences with the columns that they give values to: those that own them (`serial`, identity),
/// and those whose default asks them. The last column tells whether the column has the sequence's
/// own numbers: a text, or a number that the default computes from one, says nothing of them.
const SEQUENCES: &str = concat!(
    "SELECT n.nspname::text, c.relname::text, o.nspname::text, t.relname::text, a.attname::text, \
        s.seqincrement, s.seqmin, s.seqmax, s.seqcycle, pg_catalog.pg_sequence_last_value(c.oid), \
        pg_catalog.has_sequence_privilege(c.oid, 'UPDATE'), current_user::text, \
        ",
    is_numeric!(),
    " AND (e.sql IS NULL OR pg_catalog.strpos(e.sql, 'nextval(') = 0 OR e.sql ~ \
            '^(pg_catalog\\.)?nextval\\(''([^'']|'''')+''::(pg_catalog\\.)?regclass\\)$') \
, 1::int8 \
    FROM pg_catalog.pg_sequence AS s \
    JOIN pg_catalog.pg_class AS c ON c.oid = s.seqrelid AND c.relpersistence = 'p' \
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
    LEFT JOIN (SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS place \
            FROM pg_catalog.pg_depend AS d \
            WHERE d.classid = 'pg_catalog.pg_class'::regclass \
                AND d.refclassid = 'pg_catalog.pg_class'::regclass \
                AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i') \
        UNION SELECT d.refobjid, f.adrelid, f.adnum FROM pg_catalog.pg_depend AS d \
            JOIN pg_catalog.pg_attrdef AS f ON f.oid = d.objid \
            WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass \
                AND d.refclassid = 'pg_catalog.pg_class'::regclass) AS u ON u.sequence = c.oid \
    LEFT JOIN pg_catalog.pg_class AS t ON t.oid = u.relation \
    LEFT JOIN pg_catalog.pg_namespace AS o ON o.oid = t.relnamespace \
    LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = u.relation AND a.attnum = u.place \
    LEFT JOIN (SELECT f.adrelid, f.adnum, pg_catalog.pg_get_expr(f.adbin, f.adrelid) AS sql \
            FROM pg_catalog.pg_attrdef AS f) AS e ON e.adrelid = u.relation AND e.adnum = u.place \
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'segue') ORDER BY 1, 2"
);

/// The same on CockroachDB, which keeps no such dependencies: each with no column.
const SEQUENCES_OF_COCKROACH: &str = "\
    SELECT s.schemaname::text, s.sequencename::text, NULL::text, NULL::text, NULL::text, \
        s.increment_by, s.min_value, s.max_value, s.cycle, s.last_value, \
        pg_catalog.has_sequence_privilege(c.oid, 'UPDATE'), current_user::text, NULL::bool, \
        s.cache_size \
    FROM pg_catalog.pg_sequences AS s \
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = s.schemaname \
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = s.sequencename \
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'segue') ORDER BY 1, 2";
/// Columns whose default asks a sequence, with the default, and whether they are integers.
const DEFAULTS_OF_COCKROACH: &str = "\
    SELECT n.nspname::text, t.relname::text, a.attname::text, \
        pg_catalog.pg_get_expr(d.adbin, d.adrelid), a.atttypid IN (20, 21, 23, 1700) \
    FROM pg_catalog.pg_attrdef AS d JOIN pg_catalog.pg_class AS t ON t.oid = d.adrelid \
    JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace \
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
    WHERE pg_catalog.pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%'";

/// Schema, name, kind, definition.
const RELATIONS_OF_COCKROACH: &str = "\
    SELECT n.nspname::text, c.relname::text, c.relkind::text, v.definition \
    FROM pg_catalog.pg_class AS c \
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
    LEFT JOIN pg_catalog.pg_views AS v ON v.schemaname = n.nspname AND v.viewname = c.relname \
    WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND n.nspname NOT IN \
        ('pg_catalog', 'information_schema', 'crdb_internal', 'segue')";
/// Schema, name, volatility, body.
const FUNCTIONS_OF_COCKROACH: &str = "\
    SELECT n.nspname::text, p.proname::text, p.provolatile::text, p.prosrc \
    FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace \
    WHERE n.nspname <> 'segue'";

/// How sequences are listed.
#[derive(Debug, Clone, Copy)]
pub struct SequenceCatalogue {
    /// Sequences, each with the columns that it is known to give values to.
    pub sequences: &'static str,
    /// Columns whose default begins with `nextval`, where the first does not tell them.
    pub defaults: Option<&'static str>,
}

/// How relations and functions are listed where the catalogue does not tell what depends on what.
#[derive(Debug, Clone, Copy)]
pub struct PlainCatalogue {
    /// Schema, name, kind, and a view's definition.
    pub relations: &'static str,
    /// Schema, name, volatility and body.
    pub functions: &'static str,
}

impl Dialect {
    /// How sequences are listed.
    pub fn sequences(self) -> SequenceCatalogue {
        match self.engine {
            Engine::PostgreSql => SequenceCatalogue { sequences: SEQUENCES, defaults: None },
            Engine::CockroachDb => SequenceCatalogue {
                sequences: SEQUENCES_OF_COCKROACH,
                defaults: Some(DEFAULTS_OF_COCKROACH),
            },
        }
    }

    /// How relations and functions are listed, where names in texts are all that there is of what
    /// depends on what, and nothing tells whether the catalogue has changed.
    pub fn plain_catalogue(self) -> Option<PlainCatalogue> {
        match self.engine {
            Engine::PostgreSql => None,
            Engine::CockroachDb => Some(PlainCatalogue {
                relations: RELATIONS_OF_COCKROACH,
                functions: FUNCTIONS_OF_COCKROACH,
            }),
        }
    }

    /// When a trigger `t` fires, as `pg_trigger.tgenabled` says it on PostgreSQL. CockroachDB calls
    /// every trigger that is not disabled one that always fires, and knows no other.
    pub fn trigger_enabled(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => "t.tgenabled::text",
            Engine::CockroachDb => "CASE t.tgenabled::text WHEN 'D' THEN 'D' ELSE 'O' END",
        }
    }

    /// What a trigger `t` is made by. Not every CockroachDB can tell.
    pub fn trigger_definition(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => "pg_catalog.pg_get_triggerdef(t.oid)",
            Engine::CockroachDb => "''::text",
        }
    }

    /// Whether tables may have rules.
    pub fn has_rules(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// Whether triggers may be told not to fire for copied rows, and to fire for them as well.
    pub fn tells_when_triggers_fire(self) -> bool {
        self.has_replication_role()
    }

    /// That a row of `pg_class` is an index's, by the columns with their ids. CockroachDB looks a
    /// relation up by its id, and makes all of `pg_class` anew for each id that is an index's (its
    /// issue 111047): there the columns are compared in a form that is no look-up, and so once.
    pub fn is_index(self, class: &str, index: &str) -> String {
        match self.engine {
            Engine::PostgreSql => format!("{class} = {index}"),
            Engine::CockroachDb => format!("{class}::int8 = {index}::int8"),
        }
    }

    /// Whether the server keeps an estimate of a table's rows in `pg_class`, and tells its size.
    pub fn tells_sizes(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }
}
