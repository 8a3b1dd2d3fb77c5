CREATE TABLE IF NOT EXISTS segue.foreign_write (
    table_id int4 NOT NULL,
    operation text NOT NULL,
    keys text[],
    key_count int8 NOT NULL,
    role text NOT NULL,
    application_name text NOT NULL,
    address text NOT NULL,
    transaction_id text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE IF NOT EXISTS segue.foreign_writer (
    writer_id text NOT NULL,
    side text NOT NULL,
    table_name text NOT NULL,
    role text NOT NULL,
    application_name text NOT NULL,
    address text NOT NULL,
    keys int8 NOT NULL,
    whole int8 NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    resolved_at timestamptz,
    resolved_by text,
    resolved_reason text,
    PRIMARY KEY (writer_id, side, table_name)
);
