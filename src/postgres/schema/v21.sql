CREATE TABLE IF NOT EXISTS segue.key_range (
    range_id uuid NOT NULL PRIMARY KEY,
    table_id int4 NOT NULL,
    place int4 NOT NULL,
    after_key text[],
    until_key text[],
    key_form text[] NOT NULL,
    UNIQUE (table_id, place)
);
