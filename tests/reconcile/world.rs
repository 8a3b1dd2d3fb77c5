//! A source and a target with different types, capture on both, and members that reconcile.

use std::sync::Arc;
use std::time::Duration;

use segue::domain::side::Side;
use segue::domain::table::TableName;
use segue::ports::reconcile::{BatchDone, OutboxWork};
use segue::postgres::connect::Connector;
use segue::postgres::dsn::Dsn;
use segue::postgres::outbox::Outbox;
use segue::postgres::outbox::backoff::Backoff;
use segue::postgres::pool::{Params as PoolParams, Pool};
use segue::postgres::reconcile::batch::{BatchParams, OutboxWorker};
use segue::postgres::reconcile::{Params, Reconciler};
use segue::postgres::schema::{Flavour, script};
use segue::postgres::settings::Purpose;

use crate::support::stand_in::Cockroach;
use crate::support::{Database, Major, Pair, Proxy, shared};

const SOURCE: &str = "
CREATE SCHEMA app;
CREATE TYPE app.status AS ENUM ('new', 'paid', 'sent');
CREATE TABLE app.parent (id int PRIMARY KEY, name varchar(50) NOT NULL UNIQUE);
CREATE TABLE app.item (
    id int PRIMARY KEY,
    parent_id int REFERENCES app.parent,
    code text NOT NULL UNIQUE,
    note text,
    amount numeric(12,2),
    state app.status NOT NULL DEFAULT 'new',
    doc json,
    tags text[],
    at timestamptz(6) NOT NULL DEFAULT clock_timestamp(),
    doubled numeric GENERATED ALWAYS AS (amount * 2) STORED
);
CREATE TABLE app.pair (a text, b uuid, v int, PRIMARY KEY (a, b));
";

const TARGET: &str = "
CREATE SCHEMA moved;
CREATE TYPE moved.status AS ENUM ('sent', 'new', 'paid');
CREATE TABLE moved.parent (id bigint PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE moved.item (
    own text DEFAULT 'kept',
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent_id bigint REFERENCES moved.parent,
    code varchar(80) NOT NULL,
    note text,
    amount numeric,
    state moved.status NOT NULL,
    doc jsonb,
    tags text[],
    at timestamptz(3) NOT NULL,
    doubled numeric GENERATED ALWAYS AS (amount * 2) STORED
);
CREATE UNIQUE INDEX item_code ON moved.item (lower(code)) WHERE code <> 'none';
CREATE TABLE moved.pair (a text, b uuid, v bigint, PRIMARY KEY (a, b));
";

/// Capture as a trigger of the test's own: what is tested here begins at the outbox.
const CAPTURE: &str = "
CREATE FUNCTION segue.test_note(id int, k text[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO segue.outbox (slot, table_id, key)
    VALUES ((floor(extract(epoch FROM clock_timestamp()) / 600)::int8 % 12)::int2, id, k)
$$;
CREATE FUNCTION segue.capture_test() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE k_old text[]; k_new text[];
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM segue.test_note(TG_ARGV[0]::int, NULL);
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        SELECT array_agg(to_jsonb(OLD) ->> a ORDER BY o) INTO k_old
        FROM unnest(TG_ARGV[1:]) WITH ORDINALITY AS u(a, o);
        PERFORM segue.test_note(TG_ARGV[0]::int, k_old);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        SELECT array_agg(to_jsonb(NEW) ->> a ORDER BY o) INTO k_new
        FROM unnest(TG_ARGV[1:]) WITH ORDINALITY AS u(a, o);
        IF k_new IS DISTINCT FROM k_old THEN
            PERFORM segue.test_note(TG_ARGV[0]::int, k_new);
        END IF;
    END IF;
    RETURN NULL;
END $$;
INSERT INTO segue.migrated_table VALUES
    (1, 'app', 'parent', 'moved', 'parent', '{id}'),
    (2, 'app', 'item', 'moved', 'item', '{id}'),
    (3, 'app', 'pair', 'moved', 'pair', '{a,b}');
";

fn triggers(schema: &str) -> String {
    [("parent", 1, "'id'"), ("item", 2, "'id'"), ("pair", 3, "'a', 'b'")]
        .into_iter()
        .map(|(table, id, key)| {
            format!(
                "CREATE TRIGGER segue_row AFTER INSERT OR UPDATE OR DELETE ON {schema}.{table} \
                 FOR EACH ROW EXECUTE FUNCTION segue.capture_test({id}, {key}); \
                 CREATE TRIGGER segue_truncate AFTER TRUNCATE ON {schema}.{table} \
                 FOR EACH STATEMENT EXECUTE FUNCTION segue.capture_test({id}, {key});"
            )
        })
        .collect()
}

fn setup(side: Side) -> String {
    let (tables, schema) = match side {
        Side::Source => (SOURCE, "app"),
        Side::Target => (TARGET, "moved"),
    };
    format!("{tables} {} {CAPTURE} {}", script(side, Flavour::PostgreSql), triggers(schema))
}

/// A target that passes for CockroachDB, with the tables of the migration known and nothing of
/// its own captured, and the way of segue to it.
pub async fn onto_cockroach() -> (Pair, Option<Proxy>, Way) {
    let schema = script(Side::Target, Flavour::CockroachDb);
    let source = Database::create(shared(Major::V15), &setup(Side::Source)).await;
    let target = Cockroach::create(shared(Major::V18), &format!("{TARGET} {schema}")).await;
    let Cockroach { database, dsn, proxy } = target;
    let pair = Pair { source, target: database };
    let (_, registered) = CAPTURE.split_once("INSERT INTO segue.migrated_table").unwrap();
    pair.target.run(&format!("INSERT INTO segue.migrated_table{registered}")).await;
    let way = Way { target: dsn, ..Way::forth(&pair) };
    (pair, proxy, way)
}

/// Source and target with everything in place.
pub async fn pair() -> Pair {
    Pair::fresh(&setup(Side::Source), &setup(Side::Target)).await
}

/// The same in servers of the test's own.
pub async fn pair_within(source: &crate::support::Server, target: &crate::support::Server) -> Pair {
    Pair::within(source, target, &setup(Side::Source), &setup(Side::Target)).await
}

pub fn pool(side: Side, dsn: &str, size: usize) -> Pool {
    let connector = Connector::new(side, Dsn::parse(dsn, |_| None).unwrap()).unwrap();
    Pool::new(connector, PoolParams::new(Purpose::Own, size, Duration::from_secs(5))).unwrap()
}

/// Where the databases of a pair are.
#[derive(Debug, Clone)]
pub struct Way {
    pub source: String,
    pub target: String,
    pub primary: Side,
}

impl Way {
    pub fn forth(pair: &Pair) -> Self {
        let (source, target) = (pair.source.dsn().to_owned(), pair.target.dsn().to_owned());
        Self { source, target, primary: Side::Source }
    }

    pub fn back(pair: &Pair) -> Self {
        Self { primary: Side::Target, ..Self::forth(pair) }
    }

    fn pool(&self, side: Side) -> Pool {
        let dsn = match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        };
        pool(side, dsn, 12)
    }

    pub fn outbox(&self) -> Outbox {
        Outbox::new(self.pool(self.primary))
    }

    pub fn reconciler(&self, params: Params) -> Arc<Reconciler> {
        let (primary, shadow) = (self.pool(self.primary), self.pool(self.primary.other()));
        Arc::new(Reconciler::new(primary, shadow, self.primary, params))
    }

    /// On an outbox that others share.
    pub fn worker_on(&self, outbox: Outbox) -> OutboxWorker {
        OutboxWorker::new(outbox, self.reconciler(params()), batch())
    }

    pub fn worker(&self) -> OutboxWorker {
        self.worker_with(params(), batch())
    }

    pub fn worker_with(&self, params: Params, batch: BatchParams) -> OutboxWorker {
        OutboxWorker::new(self.outbox(), self.reconciler(params), batch)
    }
}

pub fn params() -> Params {
    Params::new(Arc::new(|| rand::random_range(0.0..1.0)))
}

/// With a column of the primary that is knowingly not copied.
pub fn ignoring((schema, table, column): (&str, &str, &str)) -> Params {
    let columns = std::collections::BTreeSet::from([column.to_owned()]);
    let ignored = std::iter::once((TableName::new(schema, table), columns)).collect();
    Params { ignored_columns: ignored, ..params() }
}

pub fn batch() -> BatchParams {
    let backoff = Backoff { first: Duration::from_millis(20), max: Duration::from_secs(2) };
    BatchParams { backoff, ..BatchParams::default() }
}

/// Works until nothing is due.
pub async fn drain(worker: &OutboxWorker) -> BatchDone {
    let mut sum = BatchDone::default();
    loop {
        let done = worker.work().await.unwrap();
        sum.rows += done.rows;
        sum.keys += done.keys;
        sum.reconciled += done.reconciled;
        sum.failed += done.failed;
        sum.changed += done.changed;
        if done.rows == 0 {
            return sum;
        }
    }
}

/// Rows of the outbox that wait, as `table|key|attempts|error`.
pub async fn waiting(database: &crate::support::Database) -> Vec<String> {
    database
        .rows(
            "SELECT table_id, key, attempts, last_error FROM segue.outbox \
             WHERE forgotten_at IS NULL ORDER BY 1, 2",
        )
        .await
}

/// Both sides' rows by SQL of the test's own, in a form that both types share.
pub async fn contents(pair: &Pair) -> (Vec<String>, Vec<String>) {
    let sql = |schema: &str| {
        format!(
            "SELECT 'parent', id::text, name, NULL, NULL, NULL, NULL, NULL, NULL, NULL \
             FROM {schema}.parent \
             UNION ALL SELECT 'item', id::text, parent_id::text, code, note, amount::text, \
                state::text, doc::jsonb::text, tags::text, \
                (extract(epoch FROM at::timestamptz(3)) * 1000)::bigint::text \
             FROM {schema}.item \
             UNION ALL SELECT 'pair', a, b::text, v::text, NULL, NULL, NULL, NULL, NULL, NULL \
             FROM {schema}.pair ORDER BY 1, 2, 3"
        )
    };
    (pair.source.rows(&sql("app")).await, pair.target.rows(&sql("moved")).await)
}

pub async fn assert_equal(pair: &Pair) {
    let (source, target) = contents(pair).await;
    for (one, other) in source.iter().zip(&target) {
        assert_eq!(one, other);
    }
    assert_eq!(source.len(), target.len());
}
