CREATE TABLE IF NOT EXISTS segue.pause (
    id int2 NOT NULL PRIMARY KEY CHECK (id = 1),
    pause_id uuid NOT NULL,
    stage text NOT NULL,
    epoch int8 NOT NULL,
    announced_by text NOT NULL,
    lease_until timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS segue.pause_report (
    pause_id uuid NOT NULL,
    member_id uuid NOT NULL,
    stage text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (pause_id, member_id)
);
