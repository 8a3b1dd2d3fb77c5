-- The database being moved to: other widths, precisions, a document type and an order
-- of text, and a few operators that answer as CockroachDB does. They are found first
-- on the search path.
CREATE SCHEMA elsewhere;
DO $$ BEGIN
  EXECUTE format('ALTER DATABASE %I SET search_path = elsewhere, public, pg_catalog', current_database());
END $$;

CREATE FUNCTION elsewhere.quotient(int8, int8) RETURNS numeric LANGUAGE sql IMMUTABLE AS
  $$ SELECT pg_catalog.trim_scale($1::numeric OPERATOR(pg_catalog./) $2::numeric) $$;
CREATE FUNCTION elsewhere.quotient(int8, int4) RETURNS numeric LANGUAGE sql IMMUTABLE AS
  $$ SELECT elsewhere.quotient($1, $2::int8) $$;
CREATE OPERATOR elsewhere./ (LEFTARG = int8, RIGHTARG = int8, FUNCTION = elsewhere.quotient);
CREATE OPERATOR elsewhere./ (LEFTARG = int8, RIGHTARG = int4, FUNCTION = elsewhere.quotient);

CREATE FUNCTION elsewhere.to_char(numeric, text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN RAISE EXCEPTION 'unknown signature: to_char(decimal, string)' USING ERRCODE = '42883'; END $$;

CREATE TABLE public.customers (
  id         int8 PRIMARY KEY,
  name       text COLLATE "C" NOT NULL,
  nick       text COLLATE "C",
  credit     numeric NOT NULL,
  prefs      jsonb NOT NULL,
  visits     int8 NOT NULL DEFAULT 0,
  seen_at    timestamp(3) NOT NULL
);

CREATE TABLE public.orders (
  id           int8 PRIMARY KEY,
  customer_id  int8 NOT NULL REFERENCES public.customers (id),
  qty          int8 NOT NULL CHECK (qty > 0),
  price        numeric NOT NULL,
  placed_at    timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  note         text COLLATE "C"
);

CREATE TABLE public.events (
  id           int8 PRIMARY KEY,
  customer_id  int8 NOT NULL REFERENCES public.customers (id),
  kind         text COLLATE "C" NOT NULL,
  amount       numeric NOT NULL,
  touched      int8 NOT NULL DEFAULT 0,
  at           timestamptz(3) NOT NULL,
  detail       jsonb
);

CREATE SEQUENCE elsewhere.row_id START 1000000000;
CREATE TABLE public.tickets (
  id     int8 PRIMARY KEY DEFAULT nextval('elsewhere.row_id'),
  title  text NOT NULL,
  token  uuid NOT NULL DEFAULT gen_random_uuid()
);

-- As applications have grown them: it leaves a temporary table of another table's name, a search
-- path and a mode in which ordinary triggers are silent behind in its session.
CREATE FUNCTION public.prepare_report() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  CREATE TEMP TABLE IF NOT EXISTS orders AS SELECT * FROM public.orders LIMIT 0;
  PERFORM set_config('search_path', 'pg_temp, public', false);
  PERFORM set_config('session_replication_role', 'replica', false);
END $$;

GRANT USAGE ON SCHEMA elsewhere TO PUBLIC;
GRANT USAGE ON SEQUENCE elsewhere.row_id TO PUBLIC;
