//! What is asked of the catalogues, as SQL.

/// The migrated tables.
pub(super) const TABLES: &str = "\
    SELECT table_id, source_schema, source_name, target_schema, target_name, key_columns \
    FROM segue.migrated_table";

/// A table's columns. The last one says whether they are ordered as their bytes are, as far as
/// a collation has a say: by `C`, `POSIX` and `C.UTF-8`, by all of the builtin provider's, and by
/// CockroachDB's default, which has no provider. An enumeration's type is named with its schema,
/// which CockroachDB's `format_type` leaves out.
pub(super) const COLUMNS: &str = "\
    SELECT a.attname::text, coalesce(e.name, pg_catalog.format_type(a.atttypid, -1)), \
        coalesce(e.name, pg_catalog.format_type(a.atttypid, a.atttypmod)), \
        a.attgenerated::text <> '', \
        a.attidentity::text = 'a', CASE WHEN NOT coalesce(c.collisdeterministic, true) THEN \
            pg_catalog.concat_ws(' ', c.collname, coalesce(c.collprovider::text, ''), coalesce( \
                pg_catalog.to_jsonb(c) ->> 'colllocale', pg_catalog.to_jsonb(c) ->> 'colliculocale', \
                c.collcollate), pg_catalog.to_jsonb(c) ->> 'collicurules') END, \
        a.attnotnull AND NOT a.atthasdef AND a.attidentity::text = '', \
        CASE coalesce(c.collprovider::text, '') \
            WHEN '' THEN c.oid IS NULL OR c.collname IN ('default', 'C', 'POSIX') \
            WHEN 'b' THEN true \
            WHEN 'c' THEN c.collcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8') \
            WHEN 'd' THEN (SELECT CASE \
                coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c') WHEN 'b' THEN true \
                WHEN 'c' THEN d.datcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8') ELSE false END \
                FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()) \
            ELSE false END \
    FROM pg_catalog.pg_attribute AS a \
    LEFT JOIN pg_catalog.pg_collation AS c ON c.oid = a.attcollation \
    LEFT JOIN (SELECT t.oid, pg_catalog.quote_ident(n.nspname) || '.' \
            || pg_catalog.quote_ident(u.typname) \
            || CASE WHEN u.oid = t.oid THEN '' ELSE '[]' END AS name \
        FROM pg_catalog.pg_type AS t \
        JOIN pg_catalog.pg_type AS u ON u.typtype = 'e' \
            AND u.oid = CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE t.oid END \
        JOIN pg_catalog.pg_namespace AS n ON n.oid = u.typnamespace) AS e ON e.oid = a.atttypid \
    WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped \
        AND (pg_catalog.to_jsonb(a) ->> 'attishidden') IS DISTINCT FROM 'true' \
    ORDER BY a.attnum";

/// The primary key's columns, each with the operators of its class: the strategies of a B-tree
/// for "until" (2), "equal" (3) and "after" (5).
pub(super) const KEY: &str = "\
    SELECT a.attname::text, ao.amopstrategy, \
        CASE WHEN n.nspname = 'pg_catalog' THEN o.oprname::text \
        ELSE 'OPERATOR(' || pg_catalog.quote_ident(n.nspname) || '.' || o.oprname || ')' END \
    FROM pg_catalog.pg_index AS i \
    CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey::int2[]), \
        pg_catalog.unnest(i.indclass::oid[])) AS k(attnum, opclass) \
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
    LEFT JOIN pg_catalog.pg_opclass AS oc ON oc.oid = k.opclass \
    LEFT JOIN pg_catalog.pg_amop AS ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy IN (2, 3, 5) \
        AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype \
    LEFT JOIN pg_catalog.pg_operator AS o ON o.oid = ao.amopopr \
    LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = o.oprnamespace \
    WHERE i.indrelid = $1::text::regclass AND i.indisprimary AND k.opclass IS NOT NULL";

/// Unique indexes and exclusion constraints but the primary key.
pub(super) const UNIQUES: &str = "\
    SELECT c.relname::text, ARRAY(SELECT pg_catalog.pg_get_indexdef(i.indexrelid, g.n, false) \
            FROM pg_catalog.generate_series(1, i.indnkeyatts) AS g(n) ORDER BY g.n), \
        pg_catalog.pg_get_expr(i.indpred, i.indrelid), \
        coalesce(pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct' = 'true', false), \
        ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a \
            WHERE a.attrelid = i.indrelid AND a.attnum > 0 AND (a.attnum = ANY (i.indkey) \
                OR EXISTS (SELECT 1 FROM pg_catalog.pg_depend AS d WHERE d.objid = i.indexrelid \
                    AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum))), \
        ARRAY(SELECT CASE WHEN n.nspname = 'pg_catalog' THEN o.oprname::text ELSE 'OPERATOR(' \
                || pg_catalog.quote_ident(n.nspname) || '.' || o.oprname || ')' END \
            FROM pg_catalog.generate_series(1, i.indnkeyatts) AS g(n) \
            LEFT JOIN pg_catalog.pg_opclass AS oc ON oc.oid = i.indclass[g.n - 1] \
            LEFT JOIN pg_catalog.pg_amop AS ao ON ao.amopfamily = oc.opcfamily \
                AND ao.amopstrategy = 3 AND ao.amoplefttype = oc.opcintype \
                AND ao.amoprighttype = oc.opcintype \
            LEFT JOIN pg_catalog.pg_operator AS o ON o.oid = coalesce(x.conexclop[g.n], ao.amopopr) \
            LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = o.oprnamespace ORDER BY g.n) \
    FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON {is_index} \
    LEFT JOIN pg_catalog.pg_constraint AS x ON x.conindid = i.indexrelid AND x.contype = 'x' \
    WHERE i.indrelid = $1::text::regclass AND (i.indisunique OR x.oid IS NOT NULL) \
        AND NOT i.indisprimary";

/// What would make something else of a row than what reconcile writes, or lose it: rules and
/// triggers that fire even for a replica's writes (but for capture's, which know a copy), and tables that a crash empties.
pub(super) const UNFIT: &str = "\
    WITH parts AS (SELECT $1::text::regclass::oid AS oid \
        UNION SELECT p.relid FROM pg_catalog.pg_partition_tree($1::text::regclass) AS p) \
    SELECT 'trigger ' || t.tgname || ' fires even for copied rows; run ALTER TABLE ' \
        || t.tgrelid::regclass || ' ENABLE TRIGGER ' || pg_catalog.quote_ident(t.tgname) \
        FROM pg_catalog.pg_trigger AS t JOIN parts AS p ON p.oid = t.tgrelid \
        JOIN pg_catalog.pg_proc AS f ON f.oid = t.tgfoid \
        JOIN pg_catalog.pg_namespace AS n ON n.oid = f.pronamespace AND n.nspname <> 'segue' \
        WHERE NOT t.tgisinternal AND t.tgenabled IN ('A', 'R') \
    UNION ALL SELECT 'rule ' || r.rulename || ' holds even for copied rows; run ALTER TABLE ' \
        || r.ev_class::regclass || ' ENABLE RULE ' || pg_catalog.quote_ident(r.rulename) \
        FROM pg_catalog.pg_rewrite AS r JOIN parts AS p ON p.oid = r.ev_class \
        WHERE r.ev_enabled IN ('A', 'R') \
    UNION ALL SELECT 'it is unlogged: a crash empties it; run ALTER TABLE ' \
        || c.oid::regclass || ' SET LOGGED' \
        FROM pg_catalog.pg_class AS c JOIN parts AS p ON p.oid = c.oid \
        WHERE c.relpersistence = 'u' LIMIT 1";

/// Foreign keys in which the table is the child.
pub(super) const REFERENCES: &str = "\
    SELECT con.conname::text, pn.nspname::text, p.relname::text, \
        ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(con.conkey) WITH ORDINALITY AS k(n, o) \
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = con.conrelid AND a.attnum = k.n \
            ORDER BY k.o), \
        ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(con.confkey) WITH ORDINALITY AS k(n, o) \
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = con.confrelid AND a.attnum = k.n \
            ORDER BY k.o) \
    FROM pg_catalog.pg_constraint AS con \
    JOIN pg_catalog.pg_class AS p ON p.oid = con.confrelid \
    JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.relnamespace \
    WHERE con.conrelid = $1::text::regclass AND con.contype = 'f'";
