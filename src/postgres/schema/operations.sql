CREATE TABLE IF NOT EXISTS segue.operation (
    operation_id uuid NOT NULL PRIMARY KEY,
    is_running bool NOT NULL,
    member_id uuid NOT NULL,
    last_event int8 NOT NULL,
    document bytea NOT NULL,
    created_at timestamptz NOT NULL,
    cancelled_at timestamptz,
    cancel_actor text NOT NULL DEFAULT '',
    cancel_reason text NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS operation_created_at ON segue.operation (created_at);

CREATE TABLE IF NOT EXISTS segue.operation_event (
    operation_id uuid NOT NULL,
    number int8 NOT NULL,
    document bytea NOT NULL,
    PRIMARY KEY (operation_id, number)
);
