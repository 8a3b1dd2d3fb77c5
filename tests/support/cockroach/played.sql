-- What CockroachDB does otherwise within the server: made once in a database, as its superuser,
-- after the views of catalog.rs.

-- An enumeration's name stands without its schema (pkg/sql/types/types.go, SQLStandardNameWithTypmod).
ALTER FUNCTION pg_catalog.format_type(oid, int4) RENAME TO postgres_format_type;
CREATE FUNCTION pg_catalog.format_type(wanted oid, modifier int4) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        (SELECT e.typname || CASE WHEN e.oid OPERATOR(pg_catalog.=) t.oid THEN '' ELSE '[]' END
         FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_type AS e
             ON e.oid OPERATOR(pg_catalog.=) CASE t.typcategory WHEN 'A' THEN t.typelem ELSE t.oid END
         WHERE t.oid OPERATOR(pg_catalog.=) wanted AND e.typtype OPERATOR(pg_catalog.=) 'e'),
        pg_catalog.postgres_format_type(wanted, modifier))
$$;

-- The clock is read for the transaction and once more for the statement (conn_executor_exec.go).
ALTER FUNCTION pg_catalog.statement_timestamp() RENAME TO postgres_statement_timestamp;
CREATE FUNCTION pg_catalog.statement_timestamp() RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.postgres_statement_timestamp()
        OPERATOR(pg_catalog.+) '1 microsecond'::pg_catalog.interval
$$;

-- A table without a primary key gets one over a column that nobody declared. `SELECT *` shows it
-- here, and not there.
CREATE SEQUENCE cockroach_catalog.row_ids;
GRANT USAGE ON SEQUENCE cockroach_catalog.row_ids TO public;
CREATE FUNCTION pg_catalog.unique_rowid() RETURNS int8 LANGUAGE sql VOLATILE AS $$
    SELECT ((extract(epoch FROM pg_catalog.clock_timestamp()) * 100000)::int8 << 15)
        + pg_catalog.nextval('cockroach_catalog.row_ids'::pg_catalog.regclass) % 32768
$$;
CREATE FUNCTION cockroach_catalog.with_row_id() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE made record;
BEGIN
    FOR made IN SELECT m.object_identity AS name FROM pg_catalog.pg_event_trigger_ddl_commands() AS m
        JOIN pg_catalog.pg_class AS c ON c.oid = m.objid
        WHERE m.object_type = 'table' AND c.relkind = 'r' AND NOT c.relispartition
            AND c.relpersistence = 'p' AND NOT EXISTS (
                SELECT 1 FROM pg_catalog.pg_index AS i
                WHERE i.indrelid = c.oid AND i.indisprimary)
    LOOP
        EXECUTE 'ALTER TABLE ' || made.name || ' ADD COLUMN rowid int8 NOT NULL'
            || ' DEFAULT pg_catalog.unique_rowid() PRIMARY KEY';
        EXECUTE 'COMMENT ON COLUMN ' || made.name || '.rowid IS ''hidden''';
    END LOOP;
END $$;
CREATE EVENT TRIGGER with_row_id ON ddl_command_end
    WHEN tag IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO')
    EXECUTE FUNCTION cockroach_catalog.with_row_id();

-- A trigger depends on the columns of its row and on the tables that its function's body names
-- (logic_test/triggers): they are not dropped, or the trigger goes along.
CREATE FUNCTION cockroach_catalog.named_by(body text, kind text, names text[]) RETURNS bool
    LANGUAGE sql IMMUTABLE AS $$
    SELECT body ~ CASE kind
        WHEN 'table column' THEN '\m(NEW|OLD)\)?\."?' || names[cardinality(names)] || '\M'
        ELSE '\m' || names[1] || '"?\."?' || names[2] || '\M' END
$$;
CREATE FUNCTION cockroach_catalog.goes_along() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE
    gone record;
    is_cascade bool := pg_catalog.current_query() ~* '\mCASCADE\M';
BEGIN
    FOR gone IN SELECT d.object_identity AS what, t.tgname AS name, t.tgrelid::regclass AS relation
        FROM pg_catalog.pg_event_trigger_dropped_objects() AS d
        JOIN pg_catalog.pg_trigger AS t
            ON NOT t.tgisinternal AND (d.object_type = 'table' OR t.tgrelid = d.objid)
        JOIN pg_catalog.pg_proc AS f ON f.oid = t.tgfoid
        WHERE d.original AND d.object_type IN ('table', 'table column')
            AND cockroach_catalog.named_by(f.prosrc, d.object_type, d.address_names)
    LOOP
        IF NOT is_cascade THEN
            RAISE EXCEPTION 'cannot drop % because trigger % depends on it', gone.what, gone.name
                USING ERRCODE = '2BP01';
        END IF;
        EXECUTE pg_catalog.format('DROP TRIGGER IF EXISTS %I ON %s', gone.name, gone.relation);
    END LOOP;
END $$;
CREATE EVENT TRIGGER goes_along ON sql_drop EXECUTE FUNCTION cockroach_catalog.goes_along();

-- Nor is such a column renamed, or given another type.
CREATE FUNCTION cockroach_catalog.stays() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE asked text[]; named text;
BEGIN
    FOR asked IN SELECT pg_catalog.regexp_matches(pg_catalog.current_query(),
        '\mALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?([\w."]+)\s+(?:'
            || 'RENAME\s+(?:COLUMN\s+)?"?(\w+)"?\s+TO\M'
            || '|ALTER\s+(?:COLUMN\s+)?"?(\w+)"?\s+(?:SET\s+DATA\s+)?TYPE\M)', 'gi')
    LOOP
        SELECT t.tgname INTO named FROM pg_catalog.pg_trigger AS t
        JOIN pg_catalog.pg_proc AS f ON f.oid = t.tgfoid
        WHERE t.tgrelid = pg_catalog.to_regclass(asked[1]) AND NOT t.tgisinternal
            AND cockroach_catalog.named_by(
                f.prosrc, 'table column', ARRAY[coalesce(asked[2], asked[3])]);
        IF found THEN
            RAISE EXCEPTION 'cannot change column % because trigger % depends on it',
                coalesce(asked[2], asked[3]), named USING ERRCODE = '2BP01';
        END IF;
    END LOOP;
END $$;
CREATE EVENT TRIGGER stays ON ddl_command_start
    WHEN tag IN ('ALTER TABLE') EXECUTE FUNCTION cockroach_catalog.stays();
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA cockroach_catalog TO public;
