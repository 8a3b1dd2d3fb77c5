ALTER TABLE segue.foreign_write REPLICA IDENTITY FULL;
CREATE SEQUENCE IF NOT EXISTS segue.refusing_epoch MINVALUE 0 START 0;
CREATE OR REPLACE FUNCTION segue.note_primary() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $segue$
BEGIN
    IF (OLD.phase IN ('reversed', 'target_only')) <> (NEW.phase IN ('reversed', 'target_only'))
        OR NEW.epoch < (SELECT s.last_value FROM segue.primary_epoch AS s)
    THEN
        PERFORM pg_catalog.setval('segue.primary_epoch', NEW.epoch);
    END IF;
    IF (OLD.phase IN ('shift', 'cutover')) <> (NEW.phase IN ('shift', 'cutover'))
        OR NEW.epoch < (SELECT s.last_value FROM segue.refusing_epoch AS s)
    THEN
        PERFORM pg_catalog.setval('segue.refusing_epoch', NEW.epoch);
    END IF;
    RETURN NULL;
END
$segue$;
