CREATE TABLE IF NOT EXISTS segue.outbox (
    row_id uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
    slot int2 NOT NULL,
    table_id int4 NOT NULL,
    key text[],
    write_id uuid,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts int4 NOT NULL DEFAULT 0,
    last_error text,
    forgotten_at timestamptz
);
CREATE INDEX IF NOT EXISTS outbox_due ON segue.outbox (next_attempt_at) WHERE forgotten_at IS NULL;
CREATE INDEX IF NOT EXISTS outbox_write ON segue.outbox (write_id) WHERE forgotten_at IS NULL;
CREATE INDEX IF NOT EXISTS outbox_forgotten ON segue.outbox (forgotten_at)
    WHERE forgotten_at IS NOT NULL;

ALTER TABLE segue.control ADD COLUMN IF NOT EXISTS fenced_by uuid;
ALTER TABLE segue.control ADD COLUMN IF NOT EXISTS fenced_until timestamptz;
