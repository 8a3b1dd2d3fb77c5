CREATE TABLE IF NOT EXISTS segue.control (
    id int2 NOT NULL PRIMARY KEY CHECK (id = 1),
    epoch int8 NOT NULL,
    phase text NOT NULL,
    target_percentage float8 NOT NULL DEFAULT 0,
    reason text NOT NULL DEFAULT '',
    changed_by text NOT NULL DEFAULT '',
    changed_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO segue.control (id, epoch, phase, reason)
VALUES (1, 1, 'source_only', 'schema made') ON CONFLICT (id) DO NOTHING;

CREATE TABLE IF NOT EXISTS segue.migrated_table (
    table_id int4 NOT NULL PRIMARY KEY,
    source_schema text NOT NULL,
    source_name text NOT NULL,
    target_schema text NOT NULL,
    target_name text NOT NULL,
    key_columns text[] NOT NULL,
    UNIQUE (source_schema, source_name),
    UNIQUE (target_schema, target_name)
);

CREATE TABLE IF NOT EXISTS segue.key_lock (
    slot int4 NOT NULL PRIMARY KEY,
    held int8 NOT NULL DEFAULT 0
);

CREATE TABLE IF NOT EXISTS segue.idempotency (
    key text NOT NULL PRIMARY KEY,
    content bytea NOT NULL,
    response bytea,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS idempotency_created_at ON segue.idempotency (created_at);

CREATE TABLE IF NOT EXISTS segue.mismatch (
    fingerprint text NOT NULL,
    verdict text NOT NULL,
    category text NOT NULL,
    statement text NOT NULL,
    statement_name text,
    count int8 NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    reason text NOT NULL DEFAULT '',
    rewrite text NOT NULL DEFAULT '',
    example text NOT NULL DEFAULT '',
    rules text[] NOT NULL DEFAULT '{}',
    suspected bool NOT NULL DEFAULT false,
    resolved_at timestamptz,
    resolved_by text,
    resolved_reason text,
    PRIMARY KEY (fingerprint, verdict, category)
);
