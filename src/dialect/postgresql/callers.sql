CREATE OR REPLACE FUNCTION segue.control_state(OUT epoch int8, OUT phase text)
    RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $segue$
BEGIN
    RETURN QUERY SELECT c.epoch, c.phase FROM segue.control AS c WHERE c.id = 1;
END
$segue$;

CREATE OR REPLACE FUNCTION segue.take_key(wanted text, of_content bytea)
    RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $segue$
BEGIN
    INSERT INTO segue.idempotency (key, content, created_at)
    VALUES (wanted, of_content, pg_catalog.clock_timestamp());
END
$segue$;

-- A key that was committed has its answer: only who took it in this transaction can give it one.
CREATE OR REPLACE FUNCTION segue.keep_answer(wanted text, answer bytea)
    RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $segue$
BEGIN
    UPDATE segue.idempotency AS i SET response = answer
    WHERE i.key = wanted AND i.response IS NULL;
END
$segue$;

-- The answer is told to those alone who know what was asked.
CREATE OR REPLACE FUNCTION segue.find_answer(wanted text, of_content bytea,
        OUT is_same bool, OUT answer bytea)
    RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $segue$
BEGIN
    RETURN QUERY SELECT i.content = of_content, CASE WHEN i.content = of_content THEN i.response END
    FROM segue.idempotency AS i WHERE i.key = wanted;
END
$segue$;

CREATE OR REPLACE FUNCTION segue.is_noted(of_write uuid)
    RETURNS bool LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $segue$
BEGIN
    RETURN EXISTS (SELECT FROM segue.outbox AS o WHERE o.write_id = of_write
        AND o.created_at > pg_catalog.clock_timestamp() - '10 minutes'::interval);
END
$segue$;

-- Whether the server has crashed since a process began; NULL where its role may not know.
CREATE OR REPLACE FUNCTION segue.has_crashed_since(began numeric)
    RETURNS bool LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $segue$
BEGIN
    RETURN (SELECT pg_catalog.max(extract(epoch FROM a.backend_start)) > began
        FROM pg_catalog.pg_stat_activity AS a WHERE a.backend_type = 'checkpointer');
END
$segue$;

REVOKE ALL ON FUNCTION segue.control_state(), segue.take_key(text, bytea),
    segue.keep_answer(text, bytea), segue.find_answer(text, bytea), segue.is_noted(uuid),
    segue.has_crashed_since(numeric) FROM PUBLIC;
