//! What keeps a role from tables.

/// What keeps the session's role from these tables; names come as two lists. Row security is asked
/// for as `row_security_active` does, which CockroachDB has not.
pub(in crate::postgres) const RIGHTS: &str = "\
    SELECT w.schema, w.name, current_user::text, c.relrowsecurity \
            AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')) \
            AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_roles AS r \
                WHERE r.rolname = current_user AND (r.rolsuper OR r.rolbypassrls)), \
        ARRAY(SELECT p FROM pg_catalog.unnest($3::text[]) AS u(p) \
            WHERE NOT pg_catalog.has_table_privilege(c.oid, p)) \
    FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS w(schema, name) \
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema \
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name";
