CREATE TABLE IF NOT EXISTS segue.outbox_state (
    id int2 NOT NULL PRIMARY KEY CHECK (id = 1),
    removed_until timestamptz,
    capture_gaps int8 NOT NULL DEFAULT 0
);
INSERT INTO segue.outbox_state (id) VALUES (1) ON CONFLICT (id) DO NOTHING;

CREATE TABLE IF NOT EXISTS segue.verify (
    table_id int4 NOT NULL,
    chunk int8 NOT NULL,
    after_key text[],
    until_key text[],
    rows int8 NOT NULL DEFAULT 0,
    proven_at timestamptz,
    written_at timestamptz,
    horizon int8 NOT NULL DEFAULT 0,
    read_at timestamptz,
    capture_gaps int8 NOT NULL DEFAULT 0,
    source_server text NOT NULL DEFAULT '',
    target_server text NOT NULL DEFAULT '',
    PRIMARY KEY (table_id, chunk)
);

CREATE TABLE IF NOT EXISTS segue.verify_table (
    table_id int4 NOT NULL PRIMARY KEY,
    looked_at timestamptz NOT NULL
);
