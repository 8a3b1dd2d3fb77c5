//! pgbouncer in front of a server.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use super::account::Account;
use super::guard::Guard;
use super::server::Server;
use super::{eventually_blocking, free_port};

const START_LIMIT: Duration = Duration::from_secs(20);

/// When a server connection goes back into the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// When the client leaves.
    Session,
    /// At the end of each transaction.
    Transaction,
}

/// A running pgbouncer, which ends with the value or with the test's process.
#[derive(Debug)]
pub struct Bouncer {
    port: u16,
    process: Child,
    // Dropped last: it removes the folder.
    _guard: Guard,
}

impl Bouncer {
    /// Starts one that lets every client in as the superuser.
    pub fn start(server: &Server, mode: PoolMode) -> Self {
        let account = Account::for_servers();
        let guard = Guard::over_new_folder(&account);
        let port = free_port();
        let mode = match mode {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
        };
        let settings = guard.folder().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\nmax_client_conn = 500\n\
             default_pool_size = 64\nignore_startup_parameters = extra_float_digits,options\n",
            server.port()
        );
        std::fs::write(&settings, text).expect("the folder can be written");
        account.own(&settings);
        let mut process = account
            .command(&program())
            .arg("--quiet")
            .arg(&settings)
            .current_dir(guard.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer can be run; scripts/setup installs it");
        eventually_blocking("pgbouncer listens", START_LIMIT, || {
            assert!(process.try_wait().unwrap().is_none(), "pgbouncer has ended");
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { port, process, _guard: guard }
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn program() -> PathBuf {
    let installed = Path::new("/usr/sbin/pgbouncer");
    if installed.exists() { installed.to_owned() } else { PathBuf::from("pgbouncer") }
}
