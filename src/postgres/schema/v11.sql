CREATE TABLE IF NOT EXISTS segue.pending_table (
    table_id int4 NOT NULL PRIMARY KEY,
    since timestamptz NOT NULL,
    keys int8 NOT NULL,
    reason text NOT NULL,
    keys_seen int8 NOT NULL DEFAULT 0,
    pass_began_at timestamptz
);
CREATE INDEX IF NOT EXISTS outbox_whole ON segue.outbox (table_id)
    WHERE key IS NULL AND forgotten_at IS NULL;
