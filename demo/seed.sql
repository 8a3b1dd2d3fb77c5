-- The rows of the source. The target begins empty: the backfill brings them there.
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

INSERT INTO events (id, customer_id, kind, amount, at, detail)
SELECT n, 1 + n % 200, (ARRAY['order', 'payment', 'refund', 'note'])[1 + n % 4],
       round(0.0375 * n, 4), timestamptz '2021-01-01 00:00:00.654321+00' + n * interval '97.000411 s',
       CASE WHEN n % 5 > 0 THEN format('{"n": %s, "tags": ["a", 1.50, null]}', n)::json END
FROM generate_series(1, 250000) AS n;
ANALYZE;
