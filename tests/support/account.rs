//! Which user runs the servers, and where their binaries are.
//!
//! PostgreSQL refuses to run as root, so that root lends it the account of `postgres`,
//! or else that of `nobody`.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::server::Major;

/// The account that servers run under.
#[derive(Debug, Clone)]
pub enum Account {
    /// The one that the test itself has.
    Own,
    /// Another one; the test runs as root.
    Lent {
        /// Its user id.
        user: u32,
        /// Its group id.
        group: u32,
    },
}

impl Account {
    /// The account for servers of this process.
    pub fn for_servers() -> Self {
        let own = std::fs::metadata("/proc/self").expect("/proc is needed").uid();
        if own != 0 {
            return Self::Own;
        }
        let accounts = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd is needed");
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| ids_of(&accounts, name))
            .map(|(user, group)| Self::Lent { user, group })
            .expect("running as root needs an account `postgres` or `nobody` for the servers")
    }

    /// A command that runs `program` under the account.
    pub fn command(&self, program: &Path) -> Command {
        match self {
            Self::Own => Command::new(program),
            Self::Lent { user, group } => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--clear-groups", "--reuid", &user.to_string()])
                    .args(["--regid", &group.to_string(), "--"])
                    .arg(program);
                command
            }
        }
    }

    /// Gives it a file or folder.
    pub fn own(&self, path: &Path) {
        if let Self::Lent { user, group } = self {
            chown(path, Some(*user), Some(*group)).expect("root can give a file away");
        }
    }

    /// The folder of a server's programs, where the account can run them.
    pub fn programs(&self, major: Major) -> PathBuf {
        let home = installed(major);
        assert!(
            home.join("bin/postgres").exists(),
            "PostgreSQL {} is not in {}; run scripts/setup",
            major.number(),
            home.display()
        );
        if self.can_run(&home) { home.join("bin") } else { copy_for_all(&home).join("bin") }
    }

    fn can_run(&self, home: &Path) -> bool {
        // Asked by a shell, since setpriv itself still starts what the account cannot reach.
        self.command(Path::new("/bin/sh"))
            .args(["-c", "test -x \"$0\""])
            .arg(home.join("bin/postgres"))
            .current_dir("/")
            .status()
            .is_ok_and(|status| status.success())
    }
}

fn ids_of(accounts: &str, name: &str) -> Option<(u32, u32)> {
    let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn installed(major: Major) -> PathBuf {
    match major {
        Major::V15 => PathBuf::from("/usr/lib/postgresql/15"),
        Major::V18 => repository().join(".build/postgresql-18"),
    }
}

/// The folder of the repository, from the server's package and from the client's alike.
fn repository() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().find(|it| it.join(".build").exists()).unwrap_or(package)
}

/// A checkout below root's home is closed to other accounts: they get a copy, once.
fn copy_for_all(home: &Path) -> PathBuf {
    let stamp = std::fs::read(home.join(".installed")).unwrap_or_default();
    let name: String = stamp.iter().take(12).map(|byte| char::from(*byte)).collect();
    let copy = std::env::temp_dir().join(format!("segue-postgresql-18-{name}"));
    // Whoever else could have put the folder there is not root.
    if std::fs::metadata(&copy).is_ok_and(|found| found.uid() == 0) {
        return copy;
    }
    let draft = tempfile::tempdir().expect("no temporary folder could be made");
    let unfinished = draft.path().join("copy");
    let status = Command::new("cp").arg("-a").arg(home).arg(&unfinished).status();
    assert!(status.is_ok_and(|status| status.success()), "PostgreSQL could not be copied");
    let _ = Command::new("chmod").args(["-R", "a+rX,go-w"]).arg(&unfinished).status();
    // Another test that was quicker has made the same copy.
    let _ = std::fs::rename(&unfinished, &copy);
    copy
}
