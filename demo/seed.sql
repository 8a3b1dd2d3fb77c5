-- The same rows on both sides, since the backfill is not part of this demonstration.
INSERT INTO customers (id, name, nick, credit, prefs, visits, seen_at)
SELECT n,
       (ARRAY['apple', 'Banana', 'cherry', 'Damson', 'elder', 'Fig'])[1 + n % 6] || ' ' || n,
       CASE WHEN n % 3 > 0 THEN 'nick' || n END,
       1000,
       format('{ "b" : %s, "a": [1, 2.50] }', n)::json,
       0,
       timestamp '2026-01-02 03:04:05.678901' + n * interval '1.000123 s'
FROM generate_series(1, 200) AS n;

INSERT INTO orders (id, customer_id, qty, price, placed_at, note)
SELECT n, 1 + n % 200, 1 + n % 9, 1.2500 * (1 + n % 40),
       timestamptz '2026-02-03 04:05:06.123456+00' + n * interval '61.5 s', 'seeded'
FROM generate_series(1, 2000) AS n;
