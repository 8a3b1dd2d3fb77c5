//! A trial of keys that stay until somebody resolves them, in databases of their own whose texts may
//! be any bytes: a table that is dropped, one that is renamed, one that is excluded, and a key that
//! no session can read.

use crate::support::{Database, Pair, Segue, eventually};
use crate::trial::{LIMIT, done, printed, said};
use crate::world::{SECTIONS, World};

const TABLES: &str = "
CREATE TABLE kept (k text PRIMARY KEY, n int NOT NULL);
CREATE TABLE doomed (id int PRIMARY KEY, v text);
CREATE TABLE moving (id int PRIMARY KEY, v text);
CREATE TABLE left_out (id int PRIMARY KEY, v text);";
const ROWS: &str = "
INSERT INTO kept SELECT 'k' || i, i FROM generate_series(1, 50) AS i;
INSERT INTO kept VALUES (convert_from('\\x6bff'::bytea, 'SQL_ASCII'), 0);
INSERT INTO doomed SELECT i, 'a' FROM generate_series(1, 5) AS i;
INSERT INTO moving SELECT i, 'a' FROM generate_series(1, 5) AS i;
INSERT INTO left_out SELECT i, 'a' FROM generate_series(1, 5) AS i;";
const POOLS: &str = "read_pool_max = 2\nwrite_pool_max = 2\nown_pool_max = 6";
const OPEN: &str = "[transactions]\nopen_max = 1\n";
const EXCLUDED: &str = "[tables]\nexclude = [\"public.left_out\"]\n";

/// Two databases beside the soak's, on the same servers and behind the same proxies.
pub struct Aside {
    segue: Segue,
    pair: Pair,
}

fn state_of(segue: &Segue, table: &str) -> Option<String> {
    let listed = printed(segue, &["tables", "--json"])?;
    let found = listed.as_array()?.iter().find(|it| it["source"] == table)?;
    found["state"].as_str().map(str::to_owned)
}

// === impl Aside ===

impl Aside {
    /// Begins a migration there whose tables do not stay as they are.
    pub async fn begin(world: &World) -> Self {
        let source = Database::create_ascii(&world.source.server, TABLES).await;
        let target = Database::create_ascii(&world.target.server, TABLES).await;
        let pair = Pair { source, target };
        let dsn = |side: &crate::world::Side, database: &Database| {
            let dsn = side.server.dsn_by_port(database.name(), side.proxy.port());
            format!("dsn = \"{dsn}\"\n{POOLS}")
        };
        let mut segue = Segue::prepare_with(
            &dsn(&world.source, &pair.source),
            &dsn(&world.target, &pair.target),
            &format!("{SECTIONS}{OPEN}"),
        );
        segue.init_in("dual_write").await;
        segue.serve().await;
        pair.target.run("DROP TABLE doomed; DROP TABLE left_out").await;
        pair.source.run(ROWS).await;
        pair.source.run("DROP TABLE doomed; ALTER TABLE moving RENAME TO moved").await;
        pair.target.run("ALTER TABLE moving RENAME TO moved").await;
        Self { segue, pair }
    }

    /// What can be reconciled is, whatever befell; the rest is named, and the commands that its
    /// reasons name resolve it.
    pub async fn end(mut self) {
        let all = "SELECT (SELECT count(*) FROM kept), (SELECT count(*) FROM moved)";
        done(&self.segue, &["capture", "install"]).await;
        self.pair.source.run("INSERT INTO moved VALUES (6, 'b')").await;
        eventually("what can be reconciled is", LIMIT, || async {
            done(&self.segue, &["outbox", "retry"]).await;
            (self.pair.target.rows(all).await == ["50|6"]).then_some(())
        })
        .await;
        let named = ["0x6bff", "segue tables retire", "left_out"];
        eventually("the rest is named", LIMIT, || async {
            let told = said(&self.segue.run(&["outbox", "--stuck"]));
            named.iter().all(|name| told.contains(name)).then_some(())
        })
        .await;
        self.retired("public.doomed").await;
        // Excluded after a first `init`.
        self.segue.kill();
        self.segue.configure(EXCLUDED);
        self.segue.serve().await;
        self.retired("public.left_out").await;
        self.pair.source.run("UPDATE left_out SET v = 'nobody is told'").await;
        assert_eq!(state_of(&self.segue, "public.moved").as_deref(), Some("migrated"));
        // As the key's reason says; the target never had it.
        self.pair.source.run("DELETE FROM kept WHERE n = 0").await;
        eventually("nothing waits", LIMIT, || async {
            done(&self.segue, &["outbox", "retry"]).await;
            let waiting = "SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL";
            (self.pair.source.rows(waiting).await == ["0"]).then_some(())
        })
        .await;
        let moved = "SELECT id, v FROM moved ORDER BY id";
        assert_eq!(self.pair.source.rows(moved).await, self.pair.target.rows(moved).await);
        assert!(!self.segue.logs().contains("panicked"), "{}", self.segue.logs());
    }

    async fn retired(&self, table: &str) {
        done(&self.segue, &["tables", "retire", table, "--reason", "a soak"]).await;
        assert_eq!(state_of(&self.segue, table).as_deref(), Some("retired"));
    }
}
