CREATE TABLE IF NOT EXISTS segue.identity (
    id int2 NOT NULL PRIMARY KEY CHECK (id = 1),
    migration_id uuid NOT NULL,
    side text NOT NULL CHECK (side IN ('source', 'target')),
    own_id uuid NOT NULL,
    other_id uuid NOT NULL,
    paired bool NOT NULL DEFAULT false,
    place text NOT NULL DEFAULT '',
    generation int8 NOT NULL DEFAULT 1,
    raised_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    other_generation int8 NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
