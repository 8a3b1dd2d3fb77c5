CREATE TABLE IF NOT EXISTS segue.retired_table (
    table_id int4 NOT NULL PRIMARY KEY,
    source_schema text NOT NULL,
    source_name text NOT NULL,
    target_schema text NOT NULL,
    target_name text NOT NULL,
    reason text NOT NULL,
    retired_by text NOT NULL,
    retired_at timestamptz NOT NULL DEFAULT now(),
    adopted_at timestamptz
);
