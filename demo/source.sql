-- The database being left: PostgreSQL as an application has grown it.
CREATE TABLE customers (
  id         int PRIMARY KEY,
  name       text COLLATE "en-x-icu" NOT NULL,
  nick       text,
  credit     numeric(12,2) NOT NULL,
  prefs      json NOT NULL,
  visits     int NOT NULL DEFAULT 0,
  seen_at    timestamp(6) NOT NULL
);

CREATE TABLE orders (
  id           bigint PRIMARY KEY,
  customer_id  int NOT NULL REFERENCES customers (id),
  qty          int NOT NULL CHECK (qty > 0),
  price        numeric(12,4) NOT NULL,
  placed_at    timestamptz(6) NOT NULL DEFAULT clock_timestamp(),
  note         text
);
CREATE INDEX ON orders (customer_id);

-- What has gathered over the years.
CREATE TABLE events (
  id           bigint PRIMARY KEY,
  customer_id  int NOT NULL REFERENCES customers (id),
  kind         varchar(20) NOT NULL,
  amount       numeric(12,4) NOT NULL,
  touched      int NOT NULL DEFAULT 0,
  at           timestamptz(6) NOT NULL,
  detail       json
);

CREATE TABLE tickets (
  id     serial PRIMARY KEY,
  title  text NOT NULL,
  token  uuid NOT NULL DEFAULT gen_random_uuid()
);

-- As applications have grown them: it leaves a temporary table of another table's name, a search
-- path and a mode in which ordinary triggers are silent behind in its session.
CREATE FUNCTION prepare_report() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  CREATE TEMP TABLE IF NOT EXISTS orders AS SELECT * FROM public.orders LIMIT 0;
  PERFORM set_config('search_path', 'pg_temp, public', false);
  PERFORM set_config('session_replication_role', 'replica', false);
END $$;

-- The target's operators are found first on its search path. Both sides have the same one, so that
-- what differs is the operators.
CREATE SCHEMA elsewhere;
DO $$ BEGIN
  EXECUTE format('ALTER DATABASE %I SET search_path = elsewhere, public, pg_catalog', current_database());
END $$;
