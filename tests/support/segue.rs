//! The `segue` command as a process of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::account::Account;
use super::database::Pair;
use super::guard::{Guard, signal};
use super::{eventually, free_port};

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A configuration file and the sidecar that runs with it. The process ends with the
/// value or with the test's process.
#[derive(Debug)]
pub struct Segue {
    sql_port: u16,
    admin_port: u16,
    config: PathBuf,
    process: Option<Child>,
    // Dropped last: it ends the process and removes the folder.
    guard: Guard,
}

impl Segue {
    /// Writes a configuration: the two databases, free ports, and `sections`, which is
    /// TOML without `[source]`, `[target]` and `[listen]`.
    pub fn prepare(source_dsn: &str, target_dsn: &str, sections: &str) -> Self {
        let table = |dsn: &str| format!("dsn = \"{dsn}\"");
        Self::prepare_with(&table(source_dsn), &table(target_dsn), sections)
    }

    /// As [`Segue::prepare`], with what stands in `[source]` and `[target]`.
    pub fn prepare_with(source: &str, target: &str, sections: &str) -> Self {
        let guard = Guard::over_new_folder(&Account::Own);
        let (sql_port, admin_port) = (free_port(), free_port());
        let config = guard.folder().join("segue.toml");
        // A sweep of its own would note proofs, and read, beside what a test looks at.
        let quiet = if sections.contains("[verify]") { "" } else { "[verify]\nsweep = false\n" };
        let text = format!(
            "[source]\n{source}\n[target]\n{target}\n\
             [listen]\nsql = \"127.0.0.1:{sql_port}\"\nadmin = \"127.0.0.1:{admin_port}\"\n\
             {quiet}{sections}\n"
        );
        std::fs::write(&config, text).expect("the folder can be written");
        Self { sql_port, admin_port, config, process: None, guard }
    }

    /// Adds to the configuration; the next start reads it.
    pub fn configure(&self, more: &str) {
        let text = std::fs::read_to_string(&self.config).expect("it was written");
        std::fs::write(&self.config, format!("{text}{more}\n")).expect("it can be written");
    }

    /// Writes something else in the place of what the configuration says; the next start reads it.
    pub fn reconfigure(&self, old: &str, new: &str) {
        let text = std::fs::read_to_string(&self.config).expect("it was written");
        assert!(text.contains(old), "the configuration has no {old:?}:\n{text}");
        std::fs::write(&self.config, text.replace(old, new)).expect("it can be written");
    }

    /// Prepares, initialises for `phase`, and serves.
    pub async fn serving(pair: &Pair, phase: &str, sections: &str) -> Self {
        let mut segue = Self::prepare(pair.source.dsn(), pair.target.dsn(), sections);
        segue.init_in(phase).await;
        segue.serve().await;
        segue
    }

    /// Runs a subcommand with the configuration.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("segue can be run")
    }

    /// Starts a subcommand whose output is read while it runs.
    pub fn start_piped(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).spawn().expect("segue can be run")
    }

    /// Runs a subcommand that must succeed; gives what it printed.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "segue {arguments:?} failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts a subcommand and does not wait for it. It ends with the value.
    pub fn running(&self, arguments: &[&str]) -> Running {
        let out = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        // Both outputs share one place in the file.
        let handle = || out.as_file().try_clone().expect("a file handle can be copied");
        let process = self
            .command(arguments)
            .stdout(handle())
            .stderr(handle())
            .spawn()
            .expect("segue can be run");
        Running { process: std::sync::Mutex::new(process), out }
    }

    /// Whether the sidecar runs.
    pub fn is_running(&self) -> bool {
        let Some(process) = &self.process else { return false };
        // A zombie waits for its parent.
        let status = std::fs::read_to_string(format!("/proc/{}/stat", process.id()));
        status.is_ok_and(|status| !status.contains(") Z "))
    }

    /// Whether the sidecar is stopped, as by `kill -STOP`.
    pub fn is_stopped(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.process_id()));
        status.is_ok_and(|status| status.contains(") T "))
    }

    /// Starts the sidecar and waits until its health says so.
    pub async fn serve(&mut self) {
        self.serve_with(&[]).await;
    }

    /// The same with variables in its environment.
    pub async fn serve_with(&mut self, variables: &[(&str, &str)]) {
        self.spawn_with(variables);
        self.serves().await;
    }

    /// Waits until the sidecar's health says that it serves.
    pub async fn serves(&mut self) {
        if let Err(status) = self.serves_or_ends().await {
            panic!("segue ended with {status}:\n{}", self.logs());
        }
    }

    /// Starts it; gives whether it serves, or has ended because of something that is away.
    pub async fn try_serve(&mut self) -> bool {
        self.spawn();
        self.serves_or_ends().await.is_ok()
    }

    async fn serves_or_ends(&mut self) -> Result<(), ExitStatus> {
        let endpoint = Endpoint::from_shared(self.admin_address()).expect("an address is valid");
        let asked = || async {
            let mut health = HealthClient::new(endpoint.connect().await.ok()?);
            let answer = health.check(HealthCheckRequest::default()).await.ok()?;
            (answer.into_inner().status() == ServingStatus::Serving).then_some(())
        };
        let healthy = eventually("segue serves", START_LIMIT, asked);
        let ended = async {
            loop {
                if let Some(status) = self.process.as_mut().and_then(|it| it.try_wait().ok()?) {
                    return status;
                }
                tokio::time::sleep(super::POLL_INTERVAL).await;
            }
        };
        tokio::select! {
            () = healthy => Ok(()),
            status = ended => Err(status),
        }
    }

    /// Starts the sidecar without waiting for anything.
    pub fn spawn(&mut self) {
        self.spawn_with(&[]);
    }

    /// The same with variables in its environment.
    pub fn spawn_with(&mut self, variables: &[(&str, &str)]) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("the log can be written");
        let process = self
            .command(&["serve"])
            .envs(variables.iter().copied())
            .stdout(log.try_clone().expect("a file handle can be copied"))
            .stderr(log)
            .spawn()
            .expect("segue can be run");
        self.process = Some(process);
    }

    /// The process's number.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("segue runs").id()
    }

    /// Kilobytes of memory that the sidecar holds now.
    pub fn memory_kb(&self) -> u64 {
        self.memory_figure("VmRSS:")
    }

    /// The most that it has held.
    pub fn memory_peak_kb(&self) -> u64 {
        self.memory_figure("VmHWM:")
    }

    fn memory_figure(&self, name: &str) -> u64 {
        let id = self.process_id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("/proc is there");
        let line = status.lines().find(|line| line.starts_with(name)).expect("a size is there");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number is there")
    }

    /// Where `Sql` is served.
    pub fn sql_address(&self) -> String {
        format!("http://127.0.0.1:{}", self.sql_port)
    }

    /// Where `Migration`, health and metrics are served.
    pub fn admin_address(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin_port)
    }

    /// What all runs of the sidecar have written.
    pub fn logs(&self) -> String {
        let bytes = std::fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("segue runs");
        let process = std::cell::RefCell::new(&mut process);
        eventually("segue ends by itself", STOP_LIMIT, || async {
            process.borrow_mut().try_wait().expect("a child can be asked")
        })
        .await
    }

    /// Asks it to end by SIGTERM and waits; gives whether it ended well.
    pub async fn terminate(&mut self) -> bool {
        let Some(mut process) = self.process.take() else { return false };
        signal("TERM", &[process.id()]);
        let process = std::cell::RefCell::new(&mut process);
        eventually("segue ends after SIGTERM", STOP_LIMIT, || async {
            process.borrow_mut().try_wait().expect("a child can be asked")
        })
        .await
        .success()
    }

    /// Freezes it (`STOP`), lets it go on (`CONT`), or sends any other signal.
    pub fn signal(&self, name: &str) {
        if let Some(process) = &self.process {
            signal(name, &[process.id()]);
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_segue"));
        command
            .args(arguments)
            .arg("--config")
            .arg(&self.config)
            // The guard finds it by its folder.
            .current_dir(self.guard.folder())
            .stdin(Stdio::null());
        command.env_clear().envs(environment());
        command
    }

    pub(super) fn config_file(&self) -> &Path {
        &self.config
    }

    fn log_file(&self) -> PathBuf {
        self.guard.folder().join("segue.log")
    }
}

impl Drop for Segue {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- segue's log:\n{}", self.logs());
        }
        self.kill();
    }
}

/// The variables of this process, without those that the developer's shell may have set for segue or
/// libpq: they must not change a test.
pub(super) fn environment() -> impl Iterator<Item = (String, String)> {
    let ours = |name: &str| ["SEGUE_", "PG", "OTEL_"].iter().any(|it| name.starts_with(it));
    std::env::vars().filter(move |(name, _)| !ours(name))
}

/// A subcommand that runs.
#[derive(Debug)]
pub struct Running {
    process: std::sync::Mutex<Child>,
    out: tempfile::NamedTempFile,
}

impl Running {
    /// What it has written.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.out.path()).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        signal(name, &[self.child().id()]);
    }

    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        self.child().try_wait().expect("a child can be asked").is_none()
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&self) {
        let mut process = self.child();
        let _ = process.kill();
        let _ = process.wait();
    }

    /// Waits for its end; gives the exit code and what it wrote.
    pub async fn ended(&self, limit: Duration) -> (Option<i32>, String) {
        let status = eventually("the command ends", limit, || async {
            self.child().try_wait().expect("a child can be asked")
        })
        .await;
        (status.code(), self.output())
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.process.lock().expect("no test panics while it holds this")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A stopped process does not end by itself.
        self.kill();
    }
}
