ALTER TABLE segue.control ADD COLUMN IF NOT EXISTS revision int8 NOT NULL DEFAULT 1;
ALTER TABLE segue.control ADD COLUMN IF NOT EXISTS held bool NOT NULL DEFAULT false;
ALTER TABLE segue.control ADD COLUMN IF NOT EXISTS phase_since timestamptz;
ALTER TABLE segue.control ADD COLUMN IF NOT EXISTS settled_at timestamptz;

CREATE TABLE IF NOT EXISTS segue.member (
    member_id uuid NOT NULL PRIMARY KEY,
    name text NOT NULL,
    address text NOT NULL,
    version text NOT NULL,
    epoch int8 NOT NULL,
    revision int8 NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    renewed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_until timestamptz NOT NULL,
    figures text NOT NULL DEFAULT ''
);

CREATE TABLE IF NOT EXISTS segue.leader (
    id int2 NOT NULL PRIMARY KEY CHECK (id = 1),
    member_id uuid,
    term int8 NOT NULL DEFAULT 0,
    lease_until timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00+00'
);
INSERT INTO segue.leader (id) VALUES (1) ON CONFLICT (id) DO NOTHING;

CREATE TABLE IF NOT EXISTS segue.history (
    event_id uuid NOT NULL PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL,
    epoch int8 NOT NULL,
    from_phase text NOT NULL,
    to_phase text NOT NULL,
    from_percentage float8 NOT NULL,
    to_percentage float8 NOT NULL,
    forced bool NOT NULL DEFAULT false,
    changed_by text NOT NULL,
    reason text NOT NULL,
    figures text NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS history_at ON segue.history (at);

CREATE TABLE IF NOT EXISTS segue.sample_hour (
    hour timestamptz NOT NULL,
    verdict text NOT NULL,
    count int8 NOT NULL,
    PRIMARY KEY (hour, verdict)
);
