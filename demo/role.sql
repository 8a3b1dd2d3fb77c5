-- The application's own login, alike on both sides: what it needs, and nothing for segue's sake.
DO $$ BEGIN
  CREATE ROLE shop_app LOGIN;
EXCEPTION WHEN duplicate_object THEN NULL;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO shop_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO shop_app;
-- For the trap that prepare_report() lays.
GRANT SET ON PARAMETER session_replication_role TO shop_app;
