CREATE TABLE IF NOT EXISTS segue.outbox_state (
    id int2 NOT NULL PRIMARY KEY CHECK (id = 1),
    removed_until timestamptz,
    capture_gaps int8 NOT NULL DEFAULT 0
);
INSERT INTO segue.outbox_state (id) VALUES (1) ON CONFLICT (id) DO NOTHING;

CREATE TABLE IF NOT EXISTS segue.outbox_hold (
    owner uuid NOT NULL PRIMARY KEY,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS segue.backfill_table (
    table_id int4 NOT NULL PRIMARY KEY,
    source_schema text NOT NULL,
    source_name text NOT NULL,
    target_schema text NOT NULL,
    target_name text NOT NULL,
    place int4 NOT NULL,
    key_columns text[] NOT NULL,
    chunk_rows int8 NOT NULL,
    rows_estimated int8 NOT NULL,
    bytes_estimated int8 NOT NULL,
    capture_gaps int8,
    split_after text[],
    split_done bool NOT NULL DEFAULT false,
    chunks int8 NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (target_schema, target_name)
);

CREATE TABLE IF NOT EXISTS segue.backfill (
    table_id int4 NOT NULL,
    chunk int8 NOT NULL,
    after_key text[],
    until_key text[],
    state text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'claimed', 'done')),
    owner uuid,
    generation int8 NOT NULL DEFAULT 0,
    attempts int4 NOT NULL DEFAULT 0,
    first_begun_at timestamptz,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error text,
    way text,
    rows int8 NOT NULL DEFAULT 0,
    bytes int8 NOT NULL DEFAULT 0,
    reconciled int8 NOT NULL DEFAULT 0,
    failed int8 NOT NULL DEFAULT 0,
    claimed_at timestamptz,
    done_at timestamptz,
    PRIMARY KEY (table_id, chunk)
);
CREATE INDEX IF NOT EXISTS backfill_open ON segue.backfill (table_id, chunk) WHERE state <> 'done';

CREATE TABLE IF NOT EXISTS segue.backfill_worker (
    owner uuid NOT NULL PRIMARY KEY,
    host text NOT NULL,
    workers int4 NOT NULL,
    lease_until timestamptz NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    throttled text NOT NULL DEFAULT '',
    share float8 NOT NULL DEFAULT 1
);
