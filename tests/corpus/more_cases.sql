-- More of the catalogue, in the form of cases.sql.

-- @id=R01 @category=null_order @verdict=fix_query @via=override
-- @note the same rows in another order
-- @shadow SELECT id, nick FROM customers WHERE id <= 5 ORDER BY nick NULLS FIRST, id;
SELECT id, nick FROM customers WHERE id <= 5 ORDER BY nick, id;
-- @id=R02 @category=collation_order @verdict=fix_query @via=schema @icu
SELECT name FROM customers ORDER BY name;
-- @id=R03 @category=numeric_scale @verdict=normalized @via=override
-- @shadow SELECT 2.5 AS v;
SELECT 10/4.0 AS v;
-- @id=R04 @category=numeric_quotient @verdict=normalized @via=override
-- @shadow SELECT 3.3333333333333333333 AS v;
SELECT 10/3.0 AS v;
-- @id=R05 @category=data @verdict=diverged @via=override
-- @note a sum is exact: its digits are data
-- @shadow SELECT 100.1 AS v;
SELECT 100.12 AS v;
-- @id=R06 @category=float_overflow @verdict=error @via=schema @p=22003
SELECT 1e300::float8 * 1e10::float8 AS v;
-- @id=R07 @category=json_concat @verdict=error @via=schema @s=22023
SELECT '{"a":1}'::jsonb || '"c"'::jsonb AS v;
-- @id=R08 @category=int_width @verdict=normalized @via=schema
SELECT id, length(name) AS n FROM customers WHERE id = 1;
-- @id=R09 @category=int_division @verdict=fix_query @via=schema
SELECT id, qty / 2 AS half FROM orders WHERE id IN (1,3) ORDER BY id;
-- @id=R10 @category=array_dimensions @verdict=fix_query @via=override
-- @shadow SELECT '{1,2,3,4}'::int[] AS g;
SELECT '{{1,2},{3,4}}'::int[] AS g;
-- @id=R11 @category=json_timestamp @verdict=normalized @via=override
-- @shadow SELECT '"2024-01-02T03:04:05Z"'::jsonb AS t;
SELECT to_jsonb('2024-01-02 03:04:05+00'::timestamptz) AS t;
-- @id=R12 @category=data @verdict=diverged @via=override
-- @note one day is not 24 hours
-- @shadow SELECT '24:00'::interval AS i;
SELECT '1 day'::interval AS i;
-- @id=R13 @category=data @verdict=diverged @via=override
-- @note '' is not NULL
-- @shadow SELECT NULL::text AS t;
SELECT ''::text AS t;
-- @id=R14 @category=data @verdict=diverged @via=schema
-- @note 'fay' has '' on one side and NULL on the other
SELECT id, nick FROM customers WHERE id = 6;
-- @id=R15 @category=volatile @verdict=noise @via=schema
SELECT random() AS r;
-- @id=R16 @category=timestamp_equality @verdict=fix_query @via=schema
SELECT id FROM customers WHERE created_at = '2024-01-02 03:04:05.123456+00';
-- @id=R17 @category=data @verdict=diverged @via=schema
-- @note 99.99 against 99.98 behind a division that a rewrite must not hide
SELECT credit / 3 AS third FROM customers WHERE id = 5;
-- @id=R18 @category=data @verdict=diverged @via=schema
-- @note a row is missing on the shadow and another is only there
SELECT id, note FROM orders WHERE id >= 6 ORDER BY id;
-- @id=R19 @category=system_column @verdict=error @via=schema @s=42703
SELECT ctid IS NOT NULL AS has FROM audit_log WHERE id = 1;
-- @id=R20 @category=environment @verdict=skip @via=schema
SHOW server_version;
-- @id=R21 @category=limit_without_order @verdict=skip @via=override
-- @note ties at the cut
-- @shadow SELECT code, id FROM customers WHERE id IN (1,4) OR code = 'AB12' ORDER BY code LIMIT 2;
SELECT code, id FROM customers WHERE id IN (1,3) ORDER BY code LIMIT 2;
-- @id=R22 @category=tie_order @verdict=normalized @via=override
-- @shadow SELECT code, id FROM customers WHERE id IN (3,4) ORDER BY code, id DESC;
SELECT code, id FROM customers WHERE id IN (3,4) ORDER BY code;
-- @id=R23 @category=citext @verdict=fix_query @via=schema
SELECT id, email FROM customers WHERE email = 'ADA@example.COM';
-- @id=R24 @category=data @verdict=diverged @via=schema
-- @note a stored text that reads like a time is a text
SELECT id, score FROM customers WHERE id = 5;
-- @id=R25 @category=int_width @verdict=normalized @via=schema
-- @note LIMIT that does not cut
SELECT id FROM audit_log WHERE id = 1 LIMIT 5;
-- @id=R26 @category=json_as_text @verdict=fix_query @via=schema
SELECT id, profile::text AS t FROM customers WHERE id = 4;
-- @id=R27 @category=data @verdict=diverged @via=schema
-- @note the digest of a document that really differs
SELECT id, md5(profile::text) AS h FROM customers WHERE id = 5;
-- @id=R28 @category=aggregate_order @verdict=fix_query @via=schema
SELECT array_agg(id) AS ids FROM audit_log;
-- @id=R29 @category=float_width @verdict=normalized @via=schema
SELECT max(rating) AS r FROM customers WHERE id IN (1,2);
-- @id=R30 @category=timestamp_precision @verdict=normalized @via=schema
SELECT max(created_at) AS t FROM customers WHERE id = 1;
