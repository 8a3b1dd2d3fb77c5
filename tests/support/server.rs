//! PostgreSQL servers of their own in temporary folders.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::account::Account;
use super::guard::{Guard, processes_in, signal};
use super::{eventually_blocking, free_port};

const START_LIMIT: Duration = Duration::from_secs(60);
/// Another process may take the port between its choice and the start.
const PORT_ATTEMPTS: usize = 5;

/// A major version of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Major {
    /// Debian 12's: the source in most tests.
    V15,
    /// The target in most tests.
    V18,
}

impl Major {
    /// 15 or 18.
    pub fn number(self) -> u32 {
        match self {
            Self::V15 => 15,
            Self::V18 => 18,
        }
    }
}

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// As in production; for whatever claims that nothing is lost.
    Fsync,
    /// Commits survive the end of the server's processes, but not of the machine.
    Fast,
}

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether a commit waits for the disk.
    pub durability: Durability,
    /// With one, everybody must give it (SCRAM); without, everybody is trusted.
    pub password: Option<String>,
    /// Lines of `postgresql.conf`, such as `("max_connections", "10")`.
    pub settings: Vec<(String, String)>,
    /// What it says of errors is in this language of Debian's package `locales`, such as `de_DE`.
    pub language: Option<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self { durability: Durability::Fast, password: None, settings: Vec::new(), language: None }
    }
}

impl Options {
    /// The same with one more line of `postgresql.conf`.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running server, which ends with the value or with the test's process.
#[derive(Debug)]
pub struct Server {
    major: Major,
    account: Account,
    programs: PathBuf,
    port: u16,
    password: Option<String>,
    language: Option<&'static str>,
    process: Mutex<Option<Child>>,
    // Dropped last: it ends what is still running and removes the folder.
    guard: Guard,
}

/// The server that all tests of this binary share. Use a database of your own in it,
/// unique names for roles, and do not stop it.
pub fn shared(major: Major) -> &'static Server {
    static V15: OnceLock<Server> = OnceLock::new();
    static V18: OnceLock<Server> = OnceLock::new();
    let server = match major {
        Major::V15 => &V15,
        Major::V18 => &V18,
    };
    server.get_or_init(|| Server::start(major, &Options::default()))
}

impl Server {
    /// Makes a cluster and starts it.
    pub fn start(major: Major, options: &Options) -> Self {
        let account = Account::for_servers();
        let mut server = Self {
            major,
            programs: account.programs(major),
            port: 0,
            password: options.password.clone(),
            language: options.language,
            process: Mutex::new(None),
            guard: Guard::over_new_folder(&account),
            account,
        };
        server.initdb();
        server.configure(options);
        server.learn();
        for _ in 0..PORT_ATTEMPTS {
            server.port = free_port();
            if server.try_launch() {
                return server;
            }
        }
        panic!("PostgreSQL {} did not start:\n{}", major.number(), server.logs());
    }

    /// Its major version.
    pub fn major(&self) -> Major {
        self.major
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its unix socket.
    pub fn socket_folder(&self) -> &std::path::Path {
        self.guard.folder()
    }

    /// The folder of its programs, such as `psql` and `pgbench`.
    pub fn programs(&self) -> &std::path::Path {
        &self.programs
    }

    /// The superuser's way to a database of it.
    pub fn dsn(&self, database: &str) -> String {
        self.dsn_by_port(database, self.port)
    }

    /// The same by another port, such as a proxy's.
    pub fn dsn_by_port(&self, database: &str, port: u16) -> String {
        let password = self.password.as_ref().map(|word| format!(":{word}")).unwrap_or_default();
        format!("postgres://postgres{password}@127.0.0.1:{port}/{database}")
    }

    /// Its processes: the first one and all it has made.
    pub fn process_ids(&self) -> Vec<u32> {
        processes_in(&self.data_folder())
    }

    /// What it has written to its log.
    pub fn logs(&self) -> String {
        let bytes = std::fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Ends it as a crash does: nothing is flushed, the next start recovers from the log.
    pub fn stop_immediate(&self) {
        self.stop("QUIT");
    }

    /// Ends all its processes by `kill -9`, as a machine that fails would.
    pub fn kill(&self) {
        let Some(mut process) = self.process.lock().unwrap().take() else { return };
        // The parent first, so that no new process appears meanwhile.
        signal("KILL", &[process.id()]);
        process.wait().expect("the server's process can be waited for");
        eventually_blocking("the server's processes are gone", START_LIMIT, || {
            let left = processes_in(&self.data_folder());
            signal("KILL", &left);
            left.is_empty().then_some(())
        });
    }

    /// Ends it in order, throwing its clients out.
    pub fn stop_fast(&self) {
        self.stop("INT");
    }

    /// Starts it again on its port after a stop; stops it immediately if it runs.
    pub fn restart(&self) {
        self.stop_immediate();
        assert!(self.try_launch(), "the server did not come back:\n{}", self.logs());
    }

    /// Freezes all its processes: connections stay open and nothing answers.
    pub fn stall(&self) {
        // The parent first, so that no new process appears meanwhile.
        if let Some(process) = self.process.lock().unwrap().as_ref() {
            signal("STOP", &[process.id()]);
        }
        signal("STOP", &processes_in(&self.data_folder()));
    }

    /// Lets it go on after [`Server::stall`].
    pub fn resume(&self) {
        signal("CONT", &processes_in(&self.data_folder()));
    }

    /// Starts what takes the server's log as a standby does, and says how much of it is on its
    /// disk. It ends with the server.
    pub fn receive_log(&self) -> Child {
        let folder = self.guard.folder().join("received");
        std::fs::create_dir(&folder).expect("the folder can be written");
        self.account.own(&folder);
        self.account
            .command(&self.programs.join("pg_receivewal"))
            .args(["--host=127.0.0.1", "--username=postgres", "--synchronous", "--no-loop"])
            .arg(format!("--port={}", self.port))
            .arg("--directory")
            .arg(&folder)
            .current_dir(self.guard.folder())
            .stdin(Stdio::null())
            .spawn()
            .expect("pg_receivewal can be run")
    }

    fn stop(&self, name: &str) {
        let Some(mut process) = self.process.lock().unwrap().take() else { return };
        self.resume();
        signal(name, &[process.id()]);
        process.wait().expect("the server's process can be waited for");
    }

    fn data_folder(&self) -> PathBuf {
        self.guard.folder().join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.guard.folder().join("server.log")
    }

    fn initdb(&self) {
        let mut command = self.account.command(&self.programs.join("initdb"));
        command
            .args(["--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
            .arg("--pgdata")
            .arg(self.data_folder())
            .current_dir(self.guard.folder())
            .stdin(Stdio::null());
        if let Some(password) = &self.password {
            let file = self.guard.folder().join("password");
            std::fs::write(&file, password).expect("the folder can be written");
            self.account.own(&file);
            command.arg("--auth=scram-sha-256").arg("--pwfile").arg(file);
        } else {
            command.arg("--auth=trust");
        }
        let output = command.output().expect("initdb can be run");
        assert!(
            output.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn configure(&self, options: &Options) {
        let durable = if options.durability == Durability::Fsync { "on" } else { "off" };
        let folder = self.guard.folder().display();
        let mut lines = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{folder}'\n\
             fsync = {durable}\nfull_page_writes = {durable}\nmax_connections = 200\n\
             max_prepared_transactions = 10\nshared_buffers = 64MB\ntimezone = 'UTC'\n\
             lc_messages = 'C'\nlog_line_prefix = '%m [%p] '\n"
        );
        // What a killed server leaves behind must lie in its folder, not in /dev/shm.
        lines.push_str("dynamic_shared_memory_type = mmap\n");
        if let Some(language) = options.language {
            lines.push_str(&format!("lc_messages = '{language}.UTF-8'\n"));
        }
        for (name, value) in &options.settings {
            lines.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        let file = self.data_folder().join("postgresql.auto.conf");
        std::fs::write(&file, lines).expect("the data folder can be written");
        self.account.own(&file);
    }

    /// Makes the locale of its language, which the machine need not have.
    fn learn(&self) {
        let Some(language) = self.language else { return };
        let made = self.guard.folder().join(format!("{language}.UTF-8"));
        let output = self
            .account
            .command(std::path::Path::new("localedef"))
            .args(["-i", language, "-f", "UTF-8"])
            .arg(&made)
            .current_dir(self.guard.folder())
            .stdin(Stdio::null())
            .output();
        // It ends with 1 where it has warnings.
        let said = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
        assert!(made.join("LC_TIME").exists(), "no {language}; run scripts/setup: {said:?}");
    }

    /// False if the server ended before it was ready.
    fn try_launch(&self) -> bool {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("the log can be written");
        let mut command = self.account.command(&self.programs.join("postgres"));
        if self.language.is_some() {
            command.env("LOCPATH", self.guard.folder()).env_remove("LANGUAGE");
        }
        let mut process = command
            .arg("-D")
            .arg(self.data_folder())
            .arg("-p")
            .arg(self.port.to_string())
            .current_dir(self.guard.folder())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be copied"))
            .stderr(log)
            .spawn()
            .expect("postgres can be run");
        let pid = process.id().to_string();
        let ready = eventually_blocking("PostgreSQL is ready", START_LIMIT, || {
            if process.try_wait().expect("a child can be asked").is_some() {
                return Some(false);
            }
            let state = std::fs::read_to_string(self.data_folder().join("postmaster.pid")).ok()?;
            let lines: Vec<_> = state.lines().map(str::trim).collect();
            // The file of a server that crashed names another process.
            (lines.first() == Some(&pid.as_str()) && lines.get(7) == Some(&"ready")).then_some(true)
        });
        if ready {
            *self.process.lock().unwrap() = Some(process);
        }
        ready
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The guard would do it as well; here the process is also waited for.
        self.stop("QUIT");
    }
}
