
-- Whose database this is, and where. Segue's role may not be allowed to ask for the server's own id.
CREATE OR REPLACE FUNCTION segue.whose(OUT migration_id uuid, OUT own_id uuid, OUT generation int8,
        OUT place text, OUT system text, OUT database text)
    RETURNS SETOF record LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $segue$
BEGIN
    BEGIN
        system := (SELECT c.system_identifier::text FROM pg_catalog.pg_control_system() AS c);
    EXCEPTION WHEN insufficient_privilege THEN
        system := '';
    END;
    database := (SELECT d.oid::text FROM pg_catalog.pg_database AS d
        WHERE d.datname = pg_catalog.current_database());
    FOR migration_id, own_id, generation, place IN
        SELECT i.migration_id, i.own_id, i.generation, i.place FROM segue.identity AS i
        WHERE i.id = 1
    LOOP
        RETURN NEXT;
    END LOOP;
END
$segue$;

REVOKE ALL ON FUNCTION segue.whose() FROM PUBLIC;
