//! A database on each server, and the sidecar between them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::account::Account;
use super::guard::Guard;
use super::proxy::Proxy;
use super::server::{Major, shared};
use super::{eventually, free_port};

/// Rows as PostgreSQL's texts.
pub type Rows = Vec<Vec<Option<String>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Source,
    Target,
}

impl Side {
    pub fn named(name: &str) -> Self {
        match name {
            "source" => Self::Source,
            "target" => Self::Target,
            _ => panic!("{name:?} is no side"),
        }
    }

    fn dsn(self, database: &str) -> String {
        let major = if self == Self::Source { Major::V15 } else { Major::V18 };
        shared(major).dsn(database)
    }
}

/// Phases in their order: a migration goes on, and not back here.
const PHASES: [&str; 4] = ["source_only", "dual_write", "shadow_read", "shift"];

pub struct Migration {
    pub proxy: Proxy,
    name: String,
    port: u16,
    phase: Mutex<usize>,
    process: Mutex<Option<Child>>,
    // Dropped last: it ends what is still running and removes the folder.
    guard: Guard,
}

impl Migration {
    /// Makes both databases and starts a sidecar in `source_only`. Statements that begin with INSERT are run on the
    /// source only; `queries` are files of named statements.
    pub async fn start(setup: &[String], queries: &[(String, String)]) -> Self {
        let port = free_port();
        let name = format!("shop_{port}");
        for side in [Side::Source, Side::Target] {
            run(&side.dsn("postgres"), &format!("CREATE DATABASE {name}")).await;
            for statement in setup {
                if side == Side::Source || !statement.starts_with("INSERT") {
                    run(&side.dsn(&name), statement).await;
                }
            }
        }
        let guard = Guard::over_new_folder(&Account::Own);
        let folder = guard.folder().join("queries");
        std::fs::create_dir(&folder).unwrap();
        for (file, text) in queries {
            std::fs::write(folder.join(file), text).unwrap();
        }
        let text = configuration(&Side::Source.dsn(&name), &Side::Target.dsn(&name), port, &folder);
        std::fs::write(guard.folder().join("segue.toml"), text).unwrap();
        let proxy = Proxy::start(port).await;
        let migration =
            Self { proxy, name, port, phase: Mutex::default(), process: Mutex::default(), guard };
        migration.run(&["init"]).await;
        migration.serve().await;
        migration
    }

    /// The client's way, through the proxy.
    pub fn url(&self) -> String {
        format!("segue://127.0.0.1:{}", self.proxy.port())
    }

    /// Runs a statement without segue.
    pub async fn direct(&self, side: Side, sql: &str) -> Rows {
        run(&side.dsn(&self.name), sql).await
    }

    /// Runs a statement without segue in a transaction that is rolled back when the answer is dropped.
    pub async fn lock(&self, side: Side, sql: &str) -> tokio_postgres::Client {
        let client = connected(&side.dsn(&self.name)).await;
        client.batch_execute(&format!("BEGIN; {sql}")).await.unwrap();
        client
    }

    /// Runs a subcommand of segue to its end, and gives what it printed.
    pub async fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "segue {arguments:?}: {text}{errors}");
        text
    }

    /// Starts the sidecar, and waits until it takes calls.
    pub async fn serve(&self) {
        let mut running = self.process.lock().await;
        if running.is_some() {
            return;
        }
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.guard.folder().join("segue.log"))
            .unwrap();
        let mut command = self.command(&["serve"]);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = command.spawn().unwrap();
        let (port, folder) = (self.port, self.guard.folder().to_owned());
        eventually("segue serves", || {
            let ended = process.try_wait().unwrap();
            let log = folder.join("segue.log");
            async move {
                if let Some(status) = ended {
                    panic!(
                        "segue has ended, {status}:\n{}",
                        std::fs::read_to_string(log).unwrap_or_default()
                    );
                }
                tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
            }
        })
        .await;
        *running = Some(process);
    }

    /// Ends the sidecar as `kill -9` does.
    pub async fn kill(&self) {
        if let Some(mut process) = self.process.lock().await.take() {
            process.kill().await.unwrap();
        }
    }

    /// Goes on to a phase, up to `shift`, where all reads go to the target then.
    pub async fn enter(&self, phase: &str) {
        let mut stands = self.phase.lock().await;
        let goal = PHASES.iter().position(|it| *it == phase).unwrap();
        while *stands < goal {
            self.wait_settled(PHASES[*stands]).await;
            *stands += 1;
            let next = PHASES[*stands];
            self.run(&["phase", "advance", "--to", next, "--force", "--reason", "a test"]).await;
            self.wait_settled(next).await;
            if next == "dual_write" {
                self.run(&["backfill"]).await;
            }
        }
        if phase == "shift" {
            eventually("all reads go to the target", || async {
                let share = self.status().await["fleet"]["target_percentage"].as_f64();
                (share == Some(100.0)).then_some(())
            })
            .await;
        }
    }

    async fn wait_settled(&self, phase: &str) {
        eventually("the fleet is settled", || async {
            let status = self.status().await;
            let fleet = &status["fleet"];
            let settled = fleet["settled"] == true && fleet["settled_at"].is_string();
            (status["phase"] == phase && settled).then_some(())
        })
        .await;
    }

    async fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.run(&["status", "--json"]).await).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).arg("--config").arg(self.guard.folder().join("segue.toml"));
        command.current_dir(self.guard.folder()).stdin(Stdio::null()).kill_on_drop(true);
        // What the shell says to segue or to libpq is not meant.
        for (name, _) in std::env::vars() {
            if ["SEGUE_", "PG", "OTEL_"].iter().any(|it| name.starts_with(it)) {
                command.env_remove(name);
            }
        }
        command
    }
}

/// The segue to be tested: SEGUE_BIN, or what cargo has built.
fn program() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debug/segue");
    let program = std::env::var_os("SEGUE_BIN").map_or(built, PathBuf::from);
    assert!(
        program.exists(),
        "{} is missing; run cargo build, or name one by SEGUE_BIN",
        program.display()
    );
    program
}

async fn connected(dsn: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.unwrap();
    drop(tokio::spawn(connection));
    client
}

async fn run(dsn: &str, sql: &str) -> Rows {
    let messages = connected(dsn).await.simple_query(sql).await;
    let messages = messages.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.map(|row| (0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()).collect()
}

fn configuration(source: &str, target: &str, port: u16, queries: &Path) -> String {
    format!(
        r#"
[source]
dsn = "{source}"
[target]
dsn = "{target}"
[listen]
sql = "127.0.0.1:{port}"
admin = "127.0.0.1:{}"
drain_timeout = "5s"
[queries]
paths = ["{}"]
[outbox]
poll_interval = "100ms"
[control]
poll_interval = "200ms"
[read_routing]
target_percentage = 100
escalation_schedule = []
[read_routing.rollback_trigger]
window = "10s"
latency_p99_threshold = "30s"
outbox_age_threshold = "1m"
mismatch_rate_threshold = 1.0
"#,
        free_port(),
        queries.display()
    )
}
