ALTER TABLE segue.verify_table ADD COLUMN IF NOT EXISTS voided_at timestamptz;
ALTER TABLE segue.verify_table ADD COLUMN IF NOT EXISTS void_reason text NOT NULL DEFAULT '';

CREATE TABLE IF NOT EXISTS segue.capture_seen (
    table_id int4 NOT NULL PRIMARY KEY,
    triggers text NOT NULL,
    is_on bool NOT NULL,
    is_needed bool NOT NULL,
    functions text NOT NULL,
    partitions text NOT NULL,
    columns text NOT NULL,
    changes int8,
    committed int8,
    analyzed int8,
    is_primary bool NOT NULL,
    counted_at timestamptz NOT NULL,
    horizon int8 NOT NULL,
    horizon_before int8
);
