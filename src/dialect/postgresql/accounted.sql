CREATE TABLE IF NOT EXISTS segue.accounted (
    table_id int4 NOT NULL,
    changes int8 NOT NULL
);
ALTER TABLE segue.accounted REPLICA IDENTITY FULL;
ALTER TABLE segue.capture_seen ADD COLUMN IF NOT EXISTS counted_before timestamptz;
