CREATE SEQUENCE IF NOT EXISTS segue.primary_epoch MINVALUE 0 START 0;
CREATE OR REPLACE FUNCTION segue.note_primary() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $segue$
BEGIN
    IF (OLD.phase IN ('reversed', 'target_only')) <> (NEW.phase IN ('reversed', 'target_only'))
        OR NEW.epoch < (SELECT s.last_value FROM segue.primary_epoch AS s)
    THEN
        PERFORM pg_catalog.setval('segue.primary_epoch', NEW.epoch);
    END IF;
    RETURN NULL;
END
$segue$;
REVOKE ALL ON FUNCTION segue.note_primary() FROM PUBLIC;
CREATE OR REPLACE TRIGGER note_primary AFTER UPDATE ON segue.control
    FOR EACH ROW EXECUTE FUNCTION segue.note_primary();
ALTER TABLE segue.control ENABLE ALWAYS TRIGGER note_primary;
