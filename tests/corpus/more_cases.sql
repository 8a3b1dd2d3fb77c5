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
-- @id=R31 @category=bit_precedence @verdict=fix_query @via=override
-- @shadow SELECT 0 AS v;
SELECT ~1 + 2 AS v;
-- @id=R32 @category=nan_order @verdict=fix_query @via=override
-- @shadow SELECT v FROM (VALUES ('NaN'::float8), (1)) AS t(v) ORDER BY v <> 'NaN'::float8, v;
SELECT v FROM (VALUES ('NaN'::float8), (1)) AS t(v) ORDER BY v NULLS LAST;
-- @id=R33 @category=collation_case @verdict=fix_query @via=schema @icu
SELECT id, lower(name) AS n FROM customers WHERE id = 4;
-- @id=R34 @category=window_order @verdict=fix_query @via=schema
-- @note rows that tie get their numbers in the order of the plan
SELECT code, row_number() OVER (ORDER BY code) AS n, id FROM customers WHERE id IN (3,4) ORDER BY id;
-- @id=R35 @category=distinct_on @verdict=fix_query @via=schema
SELECT DISTINCT ON (code) id FROM customers WHERE id IN (3,4);
-- @id=R36 @category=distinct_on_ties @verdict=fix_query @via=schema
SELECT DISTINCT ON (code) id FROM customers WHERE id IN (3,4) ORDER BY code;
-- @id=R37 @category=char_length @verdict=fix_query @via=schema
SELECT id, octet_length(code) AS n FROM customers WHERE id = 3;
-- @id=R38 @category=regex @verdict=error @via=override @s=2201B
-- @note RE2 has no back-references; an unbalanced pattern stands for its fault
-- @shadow SELECT 'aa' ~ '(a' AS m;
SELECT 'aa' ~ '(a)\1' AS m;
-- @id=R39 @category=regex @verdict=fix_query @via=override
-- @note POSIX takes the longest of alternatives, RE2 the first
-- @shadow SELECT 'xb'::text AS r;
SELECT regexp_replace('ab', 'a|ab', 'x') AS r;
-- @id=R40 @category=advisory_lock @verdict=fix_query @via=override
-- @note a lock that nobody holds: PostgreSQL says so, a no-op says yes
-- @shadow SELECT true AS freed;
SELECT pg_advisory_unlock(7) AS freed;
-- @id=R41 @category=format_function @verdict=fix_query @via=override
-- @note names of days in the server's language
-- @shadow SELECT 'lundi'::text AS d;
SELECT to_char('2024-04-01'::timestamp, 'FMDay') AS d;
-- @id=R42 @category=column_count @verdict=fix_query @via=override
-- @shadow SELECT id, actor FROM audit_log WHERE id = 1;
SELECT * FROM audit_log WHERE id = 1;
-- @id=R43 @category=column_order @verdict=fix_query @via=override
-- @shadow SELECT actor, id, ip FROM audit_log WHERE id = 1;
SELECT * FROM audit_log WHERE id = 1;
-- @id=R44 @category=limit_in_subquery @verdict=fix_query @via=schema
SELECT sum(s.id) AS n FROM (SELECT id FROM customers LIMIT 2) AS s;
-- @id=R45 @category=limit_ties @verdict=fix_query @via=schema
SELECT id FROM customers WHERE id IN (3,4) ORDER BY code NULLS LAST LIMIT 1;
-- @id=R46 @category=too_many_rows @verdict=skip @via=override
-- @note numbers of two types, which neither their order nor their bytes bring together
-- @shadow SELECT (g * 0.5)::float8 AS v FROM pg_catalog.generate_series(1, 1500) AS g ORDER BY g DESC;
SELECT g * 0.5 AS v FROM generate_series(1, 1500) AS g;
-- @id=R47 @category=unsupported_operator @verdict=error @via=override @s=42883
-- @shadow SELECT 'a'::text - 1 AS v;
SELECT 'a'::text || 1 AS v;
-- @id=R48 @category=json_sort @verdict=error @via=override @s=0A000
-- @shadow DO $$ BEGIN RAISE EXCEPTION 'can''t order by column type jsonb' USING ERRCODE = '0A000'; END $$;
SELECT id, profile FROM customers WHERE id IN (3,4) ORDER BY profile;
-- @id=R49 @category=check_constraint @verdict=error @via=override @p=23514 @txn=rollback
-- @note PostgreSQL checks the row that is given, though it is never stored
-- @shadow UPDATE orders SET note = 'x' WHERE id = 1;
INSERT INTO orders(id,customer_id,qty,unit_price,total,placed_at) VALUES (1,1,0,1,1,'2025-01-01') ON CONFLICT (id) DO UPDATE SET note = 'x';
-- @id=R50 @category=multiple_mutations @verdict=error @via=override @s=0A000 @txn=rollback
-- @shadow DO $$ BEGIN RAISE EXCEPTION 'multiple mutations of the same table "orders" are not supported' USING ERRCODE = '0A000'; END $$;
WITH a AS (UPDATE orders SET note = 'm' WHERE id = 1 RETURNING id) UPDATE orders SET note = 'n' WHERE id = 2;
-- @id=R51 @category=sort_key_unseen @verdict=fix_query @via=schema
SELECT id FROM customers WHERE id IN (3,4) ORDER BY code NULLS LAST;
-- @id=R52 @category=unsupported_feature @verdict=error @via=override @s=0A000
-- @shadow DO $$ BEGIN RAISE EXCEPTION 'unimplemented: WITH TIES' USING ERRCODE = '0A000'; END $$;
SELECT id FROM customers ORDER BY id FETCH FIRST 1 ROWS WITH TIES;
-- @id=R53 @category=unsupported_syntax @verdict=error @via=override @s=42601
-- @shadow SELECT FROM WHERE;
SELECT id FROM ONLY customers WHERE id = 1;
-- @id=R54 @category=missing_column @verdict=error @via=override @s=42703
-- @shadow SELECT id, absent FROM audit_log WHERE id = 1;
SELECT id, actor FROM audit_log WHERE id = 1;
-- @id=R55 @category=missing_table @verdict=error @via=override @s=42P01
-- @shadow SELECT id FROM absent WHERE id = 1;
SELECT id FROM audit_log WHERE id = 1;
-- @id=R56 @category=unique_violation @verdict=error @via=schema @s=23505 @txn=rollback
-- @note order 8 is only on the shadow
INSERT INTO orders(id,customer_id,qty,unit_price,total,placed_at) VALUES (8,6,1,1,1,'2025-01-01');
-- @id=R57 @category=constraint @verdict=error @via=override @s=23502 @txn=rollback
-- @shadow INSERT INTO tickets(id, title) VALUES (900, NULL);
INSERT INTO tickets(id, title) VALUES (900, 't900');
-- @id=R58 @category=read_only @verdict=error @via=override @s=25006
-- @shadow DO $$ BEGIN RAISE EXCEPTION 'cannot execute nextval() in a read-only transaction' USING ERRCODE = '25006'; END $$;
SELECT id FROM audit_log WHERE id = 1;
-- @id=R59 @category=permission @verdict=error @via=override @s=42501
-- @shadow DO $$ BEGIN RAISE EXCEPTION 'permission denied for table audit_log' USING ERRCODE = '42501'; END $$;
SELECT id FROM audit_log WHERE id = 1;
-- @id=R60 @category=sqlstate @verdict=error @via=override @p=22012 @s=42703
-- @shadow SELECT absent AS x;
SELECT 1/0 AS x;
-- @id=R61 @category=error_one_side @verdict=error @via=override @p=22012
-- @shadow SELECT 1 AS x;
SELECT 1/0 AS x;
-- @id=R62 @category=statement_retry @verdict=skip @via=override @s=40001
-- @note still to be tried again when the attempts are used up
-- @shadow DO $$ BEGIN RAISE EXCEPTION 'restart transaction' USING ERRCODE = '40001'; END $$;
SELECT id FROM audit_log WHERE id = 1;
-- @id=R63 @category=interrupted @verdict=skip @via=override @s=57014
-- @shadow DO $$ BEGIN RAISE EXCEPTION 'canceling statement due to statement timeout' USING ERRCODE = '57014'; END $$;
SELECT id FROM audit_log WHERE id = 1;
-- @id=R64 @category=distinct_on @verdict=skip @via=schema
-- @note the same groups, each by the row that the plan brings first
SELECT DISTINCT ON (code) code, id FROM customers WHERE id IN (3,4);
-- @id=R65 @category=distinct_on @verdict=skip @via=override
-- @note ORDER BY ends with the groups' own columns
-- @shadow SELECT DISTINCT ON (code) code, id, name FROM customers WHERE id IN (3,4) ORDER BY code, id DESC;
SELECT DISTINCT ON (code) code, id, name FROM customers WHERE id IN (3,4) ORDER BY code;
-- @id=R66 @category=distinct_on_ties @verdict=skip @via=override
-- @shadow SELECT DISTINCT ON (code) code AS code, id, 1 AS rank FROM customers WHERE id IN (3,4) ORDER BY code, rank, id DESC;
SELECT DISTINCT ON (code) code AS code, id, 1 AS rank FROM customers WHERE id IN (3,4) ORDER BY code, rank;
-- @id=R67 @category=data @verdict=diverged @via=schema
-- @note a group is a group on both sides, whichever row shows it
SELECT DISTINCT ON (id) id, note FROM orders WHERE id >= 6;
-- @id=R68 @category=data @verdict=diverged @via=schema
-- @note the sort key says which row it is, and its data differs
SELECT DISTINCT ON (id) id, email, name, created_at FROM customers WHERE id = 5 ORDER BY id, email;
-- @id=R69 @category=data @verdict=diverged @via=override
-- @note not a tie: the shadow shows a row that sorts later
-- @shadow SELECT DISTINCT ON (c.code) c.code, c.id FROM customers AS c WHERE c.id IN (3,4) ORDER BY c.code NULLS LAST, c.id DESC;
SELECT DISTINCT ON (c.code) c.code, c.id FROM customers AS c WHERE c.id IN (3,4) ORDER BY c.code NULLS LAST, c.id NULLS LAST;
-- @id=R70 @category=distinct_on @verdict=fix_query @via=schema
-- @note in a subquery: whose group a row is of cannot be told from outside
SELECT s.code, s.id FROM (SELECT DISTINCT ON (code) code, id FROM customers WHERE id IN (3,4)) AS s;
-- @id=R90 @category=citext @verdict=fix_query @via=schema
-- @note the column that ignores case is in the condition alone
SELECT id FROM customers WHERE email = 'ADA@example.COM';
-- @id=R91 @category=data @verdict=diverged @via=schema
-- @note the order of texts explains no truth value
SELECT id, isfinite(valid_until) AS ends FROM customers ORDER BY id;
