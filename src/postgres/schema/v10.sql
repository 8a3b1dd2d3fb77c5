CREATE TABLE IF NOT EXISTS segue.copy_token (
    id int2 NOT NULL PRIMARY KEY CHECK (id = 1),
    token text NOT NULL
);
INSERT INTO segue.copy_token (id, token) VALUES (1, gen_random_uuid()::text) ON CONFLICT (id) DO NOTHING;
REVOKE ALL ON TABLE segue.copy_token FROM PUBLIC;
