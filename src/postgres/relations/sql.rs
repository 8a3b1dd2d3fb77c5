//! What the catalogues are asked.

/// Schemas of the server's and of segue's own, as a list in SQL.
const SYSTEM: &str = "'pg_catalog', 'information_schema', 'crdb_internal', 'segue'";

/// A number that changes with every change of what [`relations`] and the others tell. The
/// versions of rows are taken, so that a change back is a change as well.
pub(super) const STAMP: &str = "\
SELECT pg_catalog.concat_ws('/',
    (SELECT pg_catalog.sum(pg_catalog.hashtext(c.oid::text || ':' || c.xmin::text)::int8)
     FROM pg_catalog.pg_class AS c WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S')),
    (SELECT pg_catalog.sum(pg_catalog.hashtext(t.oid::text || ':' || t.xmin::text)::int8)
     FROM pg_catalog.pg_trigger AS t WHERE NOT t.tgisinternal),
    (SELECT pg_catalog.sum(pg_catalog.hashtext(r.oid::text || ':' || r.xmin::text)::int8)
     FROM pg_catalog.pg_rewrite AS r WHERE r.oid >= 16384),
    (SELECT pg_catalog.sum(pg_catalog.hashtext(p.oid::text || ':' || p.xmin::text)::int8)
     FROM pg_catalog.pg_proc AS p WHERE p.oid >= 16384),
    (SELECT pg_catalog.sum(pg_catalog.hashtext(y.oid::text || ':' || y.xmin::text)::int8)
     FROM pg_catalog.pg_policy AS y),
    (SELECT pg_catalog.sum(pg_catalog.hashtext(f.oid::text || ':' || f.xmin::text)::int8)
     FROM pg_catalog.pg_constraint AS f WHERE f.contype = 'f'),
    (SELECT pg_catalog.sum(pg_catalog.hashtext(n.oid::text || ':' || n.xmin::text)::int8)
     FROM pg_catalog.pg_namespace AS n WHERE n.nspname !~ '^pg_(toast|temp)'),
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_operator AS o WHERE o.oid >= 16384),
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_cast AS k WHERE k.oid >= 16384))";

/// The same of segue's own tables: which are of the migration, and which wait to be reconciled
/// whole.
pub(super) const OWN_STAMP: &str = "\
SELECT pg_catalog.concat_ws('/',
    (SELECT pg_catalog.sum(pg_catalog.hashtext(m.table_id::text || ':' || m.xmin::text)::int8)
     FROM segue.migrated_table AS m),
    (SELECT pg_catalog.string_agg(DISTINCT o.table_id::text, ',') FROM segue.outbox AS o
     WHERE o.key IS NULL AND o.forgotten_at IS NULL))";

/// The tables of the migration, and those that wait to be reconciled whole.
pub(super) const REGISTERED: &str = "\
SELECT m.source_schema, m.source_name, m.target_schema, m.target_name,
    NOT EXISTS (SELECT 1 FROM segue.outbox AS o WHERE o.table_id = m.table_id
        AND o.key IS NULL AND o.forgotten_at IS NULL)
FROM segue.migrated_table AS m";

/// Relations: schema, name, kind, whether of an extension, what it belongs to, whether captured.
pub(super) fn relations() -> String {
    format!(
        "SELECT n.nspname::text, c.relname::text, c.relkind::text,
            EXISTS (SELECT 1 FROM pg_catalog.pg_depend AS d
                WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                AND d.objid = c.oid AND d.deptype = 'e'),
            bn.nspname::text, bc.relname::text, coalesce(t.captured, false)
        FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        LEFT JOIN LATERAL (SELECT CASE
                WHEN c.relispartition THEN pg_catalog.pg_partition_root(c.oid)::pg_catalog.oid
                WHEN c.relkind = 'S' THEN (SELECT d.refobjid FROM pg_catalog.pg_depend AS d
                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                    AND d.objid = c.oid AND d.deptype IN ('a', 'i')
                    AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass LIMIT 1)
            END AS oid) AS b ON true
        LEFT JOIN pg_catalog.pg_class AS bc ON bc.oid = b.oid
        LEFT JOIN pg_catalog.pg_namespace AS bn ON bn.oid = bc.relnamespace
        LEFT JOIN LATERAL (SELECT pg_catalog.bool_and(g.tgenabled <> 'D') AS captured
            FROM pg_catalog.pg_trigger AS g
            JOIN pg_catalog.pg_proc AS p ON p.oid = g.tgfoid
            JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.pronamespace AND pn.nspname = 'segue'
            WHERE g.tgrelid = c.oid) AS t ON true
        WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
            AND n.nspname NOT IN ({SYSTEM}) AND n.nspname !~ '^pg_(toast|temp)'"
    )
}

/// Rules, a view's own among them, and the conditions of policies: schema, relation, definition
/// with names in full.
pub(super) fn rules() -> String {
    format!(
        "SELECT n.nspname::text, c.relname::text, pg_catalog.pg_get_ruledef(r.oid)
        FROM pg_catalog.pg_rewrite AS r
        JOIN pg_catalog.pg_class AS c ON c.oid = r.ev_class
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname NOT IN ({SYSTEM}) AND n.nspname !~ '^pg_(toast|temp)'
            AND c.relkind <> 'm'
        UNION ALL
        SELECT n.nspname::text, c.relname::text, pg_catalog.concat('SELECT ',
            coalesce(pg_catalog.pg_get_expr(p.polqual, p.polrelid), 'true'), ', ',
            coalesce(pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid), 'true'))
        FROM pg_catalog.pg_policy AS p
        JOIN pg_catalog.pg_class AS c ON c.oid = p.polrelid AND c.relrowsecurity
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname NOT IN ({SYSTEM}) AND n.nspname !~ '^pg_(toast|temp)'"
    )
}

/// What a write brings with it: schema and name of the relation; those of a trigger's function, or
/// of a table that a foreign key passes the write on to; whether it is a trigger.
pub(super) fn on_write() -> String {
    format!(
        "SELECT n.nspname::text, c.relname::text, pn.nspname::text, p.proname::text, true
        FROM pg_catalog.pg_trigger AS t
        JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
        JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.pronamespace
        WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND pn.nspname <> 'segue'
            AND n.nspname NOT IN ({SYSTEM})
        UNION ALL
        SELECT n.nspname::text, c.relname::text, cn.nspname::text, k.relname::text, false
        FROM pg_catalog.pg_constraint AS f
        JOIN pg_catalog.pg_class AS c ON c.oid = f.confrelid
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_class AS k ON k.oid = f.conrelid
        JOIN pg_catalog.pg_namespace AS cn ON cn.oid = k.relnamespace
        WHERE f.contype = 'f' AND (f.confdeltype IN ('c', 'n', 'd')
            OR f.confupdtype IN ('c', 'n', 'd')) AND n.nspname NOT IN ({SYSTEM})"
    )
}

/// Functions that did not come with the server: schema, name, whether volatile, whether of an
/// extension or in C, language, body, definition where its body is standard SQL, fewest and most
/// arguments, whether it sets a search path. An aggregate is as volatile as what it is made of.
pub(super) fn functions() -> String {
    format!(
        "SELECT n.nspname::text, p.proname::text,
            p.provolatile = 'v' AND p.prokind <> 'a' OR EXISTS (SELECT 1
                FROM pg_catalog.pg_aggregate AS a JOIN pg_catalog.pg_proc AS q ON q.oid IN
                    (a.aggtransfn, a.aggfinalfn, a.aggmtransfn, a.aggmfinalfn, a.aggcombinefn)
                WHERE a.aggfnoid = p.oid AND q.provolatile = 'v'),
            p.prokind = 'a' OR EXISTS (SELECT 1 FROM pg_catalog.pg_depend AS d
                WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                AND d.objid = p.oid AND d.deptype = 'e'),
            l.lanname::text, p.prosrc,
            CASE WHEN l.lanname = 'sql' AND pg_catalog.to_jsonb(p) ->> 'prosqlbody' IS NOT NULL
                THEN pg_catalog.pg_get_functiondef(p.oid) END,
            (p.pronargs - p.pronargdefaults)::int8,
            CASE WHEN p.provariadic <> 0 THEN 1000 ELSE p.pronargs END::int8,
            coalesce(pg_catalog.array_to_string(p.proconfig, ',') ILIKE '%search_path=%', false)
        FROM pg_catalog.pg_proc AS p
        JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
        JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
        WHERE n.nspname NOT IN ({SYSTEM}) AND n.nspname !~ '^pg_(toast|temp)'"
    )
}

/// Functions that came with the server, and whether any of that name is volatile.
pub(super) const BUILT_IN: &str = "\
SELECT p.proname::text, pg_catalog.bool_or(p.provolatile = 'v')
FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
GROUP BY 1";

/// Operators, and whether any function of that name's is volatile.
pub(super) const OPERATORS: &str = "\
SELECT o.oprname::text, pg_catalog.bool_or(coalesce(p.provolatile = 'v', false))
FROM pg_catalog.pg_operator AS o LEFT JOIN pg_catalog.pg_proc AS p ON p.oid = o.oprcode
GROUP BY 1";

/// Operators that call a function in another language than C.
pub(super) const SCRIPTED_OPERATORS: &str = "\
SELECT DISTINCT o.oprname::text
FROM pg_catalog.pg_operator AS o JOIN pg_catalog.pg_proc AS p ON p.oid = o.oprcode
JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
WHERE o.oid >= 16384 AND l.lanname NOT IN ('c', 'internal')";

/// Types that a function of the application casts to: whether a statement need not show the cast,
/// whether the function is volatile, and whether it is in another language than C.
pub(super) const CASTS: &str = "\
SELECT DISTINCT t.typname::text, k.castcontext <> 'e', p.provolatile = 'v',
    l.lanname NOT IN ('c', 'internal')
FROM pg_catalog.pg_cast AS k
JOIN pg_catalog.pg_proc AS p ON p.oid = k.castfunc
JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
JOIN pg_catalog.pg_type AS t ON t.oid = k.casttarget
WHERE k.oid >= 16384 AND (p.provolatile = 'v' OR l.lanname NOT IN ('c', 'internal'))";
