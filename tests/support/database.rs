//! A fresh database for each test.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use super::server::{Major, Server, shared};

/// Names the CockroachDB that takes the target's place, where one is at hand.
pub const COCKROACH_URL: &str = "COCKROACH_URL";
const DROP_LIMIT: Duration = Duration::from_secs(5);

/// Opens a connection and drives it in the background.
pub async fn try_connect(dsn: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await?;
    tokio::spawn(async move {
        // The client's calls report how it ended.
        let _ = connection.await;
    });
    Ok(client)
}

/// As [`try_connect`], where nothing should be in the way.
pub async fn connect(dsn: &str) -> Client {
    try_connect(dsn).await.unwrap_or_else(|error| panic!("no connection to {dsn}: {error}"))
}

/// A database that is dropped with the value. It must not outlive its server.
#[derive(Debug)]
pub struct Database {
    name: String,
    dsn: String,
    admin_dsn: String,
}

impl Database {
    /// Makes an empty database in a server and runs `sql` in it.
    pub async fn create(server: &Server, sql: &str) -> Self {
        let name = unique_name();
        Self::create_at(server.dsn("postgres"), server.dsn(&name), name, sql).await
    }

    /// The same in an encoding that says nothing of what bytes mean: texts need not be UTF-8.
    pub async fn create_ascii(server: &Server, sql: &str) -> Self {
        let name = unique_name();
        let encoded =
            format!("{name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'");
        let (admin_dsn, dsn) = (server.dsn("postgres"), server.dsn(&name));
        let admin = connect(&admin_dsn).await;
        admin
            .batch_execute(&format!("CREATE DATABASE {encoded}"))
            .await
            .unwrap_or_else(|error| panic!("no database could be made: {error:?}"));
        let database = Self { name, dsn, admin_dsn };
        database.run(sql).await;
        database
    }

    /// The same as a copy of another one, which is the server's.
    pub async fn create_like(server: &Server, template: &str, sql: &str) -> Self {
        let name = unique_name();
        let (admin_dsn, dsn) = (server.dsn("postgres"), server.dsn(&name));
        let admin = connect(&admin_dsn).await;
        let copied = format!("CREATE DATABASE {name} TEMPLATE {template}");
        admin
            .batch_execute(&copied)
            .await
            .unwrap_or_else(|error| panic!("no database could be made: {error:?}"));
        let database = Self { name, dsn, admin_dsn };
        database.run(sql).await;
        database
    }

    async fn create_at(admin_dsn: String, dsn: String, name: String, sql: &str) -> Self {
        let admin = connect(&admin_dsn).await;
        admin
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .unwrap_or_else(|error| panic!("no database could be made: {error:?}"));
        let database = Self { name, dsn, admin_dsn };
        database.run(sql).await;
        database
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The superuser's way to it.
    pub fn dsn(&self) -> &str {
        &self.dsn
    }

    /// The same for another role or port: `replace("postgres@", "reader@")` and the like.
    pub fn dsn_with(&self, from: &str, to: &str) -> String {
        assert!(self.dsn.contains(from), "{} has no {from}", self.dsn);
        self.dsn.replacen(from, to, 1)
    }

    /// A new connection.
    pub async fn client(&self) -> Client {
        connect(&self.dsn).await
    }

    /// Runs statements on a connection of their own.
    pub async fn run(&self, sql: &str) {
        self.client()
            .await
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Runs statements as a copy of segue's own: past capture and the fence.
    pub async fn run_as_copy(&self, sql: &str) {
        let copying = "SELECT set_config('segue.copies', token, true) FROM segue.copy_token";
        self.run(&format!("BEGIN; {copying}; {sql}; COMMIT")).await;
    }

    /// Rows as text, each cell as PostgreSQL prints it and `NULL` for NULL, joined by `|`.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        let client = self.client().await;
        let messages =
            client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        messages
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => {
                    let cells: Vec<_> =
                        (0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect();
                    Some(cells.join("|"))
                }
                _ => None,
            })
            .collect()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (admin_dsn, name) = (self.admin_dsn.clone(), self.name.clone());
        // A runtime of its own, since the test's may be on its way out. A server that is
        // down keeps its databases until its folder goes.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let _ = tokio::time::timeout(DROP_LIMIT, async {
                    let client = try_connect(&admin_dsn).await?;
                    let forced = format!("DROP DATABASE {name} WITH (FORCE)");
                    if client.batch_execute(&forced).await.is_err() {
                        // CockroachDB's form.
                        client.batch_execute(&format!("DROP DATABASE {name} CASCADE")).await?;
                    }
                    Ok::<_, tokio_postgres::Error>(())
                })
                .await;
            });
            Ok::<_, std::io::Error>(())
        });
        let _ = dropping.join();
    }
}

/// A source and a target.
#[derive(Debug)]
pub struct Pair {
    /// PostgreSQL 15, unless made otherwise.
    pub source: Database,
    /// PostgreSQL 18, unless made otherwise; CockroachDB where `COCKROACH_URL` names one.
    pub target: Database,
}

impl Pair {
    /// Databases in the servers that all tests of the binary share.
    pub async fn fresh(source_sql: &str, target_sql: &str) -> Self {
        let source = Database::create(shared(Major::V15), source_sql).await;
        let target = match cockroach(target_sql).await {
            Some(database) => database,
            None => Database::create(shared(Major::V18), target_sql).await,
        };
        Self { source, target }
    }

    /// Databases in two servers of the test's own, which it may stop and stall.
    pub async fn within(
        source: &Server,
        target: &Server,
        source_sql: &str,
        target_sql: &str,
    ) -> Self {
        Self {
            source: Database::create(source, source_sql).await,
            target: Database::create(target, target_sql).await,
        }
    }
}

/// A database in the CockroachDB that is at hand, where one is.
pub(super) async fn cockroach(sql: &str) -> Option<Database> {
    let url = std::env::var(COCKROACH_URL).ok()?;
    let (base, options) = url
        .split_once('?')
        .map_or((&*url, String::new()), |(base, options)| (base, format!("?{options}")));
    let authority_at = base.find("://").map_or(0, |at| at + 3);
    let base = match base[authority_at..].find('/') {
        Some(at) => &base[..authority_at + at],
        None => base,
    };
    let name = unique_name();
    let (admin, own) = (format!("{base}/defaultdb{options}"), format!("{base}/{name}{options}"));
    Some(Database::create_at(admin, own, name, sql).await)
}

fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
