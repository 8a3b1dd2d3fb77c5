//! A process that outlives the test by a moment, and cleans up after it.
//!
//! It reads from a pipe whose other end only the test's process holds. However that
//! process ends, panic and `kill -9` included, the pipe closes; the guard then ends
//! every process whose working folder lies in its folder, and removes the folder.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use super::account::Account;

const SCRIPT: &str = include_str!("guard.sh");

/// Owns a temporary folder and the processes that work in it.
#[derive(Debug)]
pub struct Guard {
    folder: PathBuf,
    pipe: Option<ChildStdin>,
    process: Child,
}

impl Guard {
    /// Makes a folder that `account` owns, and watches it.
    pub fn over_new_folder(account: &Account) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("segue-test-")
            .tempdir()
            .expect("no temporary folder could be made")
            .keep();
        let mut process = Command::new("setsid")
            .args(["sh", "-c", SCRIPT, "segue-test-guard"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setsid (util-linux) is needed to clean up");
        account.own(&folder);
        Self { folder, pipe: process.stdin.take(), process }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // Waiting makes 'nothing is left' true when a test ends, not a little later.
        let _ = self.process.wait();
    }
}

/// Processes whose working folder lies in `folder`.
pub fn processes_in(folder: &Path) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let cwd = std::fs::read_link(entry.path().join("cwd")).ok()?;
            cwd.starts_with(folder).then_some(pid)
        })
        .collect()
}

/// Sends a signal by its name, such as `STOP`. A process that is gone is no fault.
pub fn signal(name: &str, pids: &[u32]) {
    if pids.is_empty() {
        return;
    }
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    // The shell's own `kill`: a small system has no other.
    let _ = Command::new("sh")
        .args(["-c", "kill -s \"$@\" 2>/dev/null", "kill", name])
        .args(&pids)
        .status();
}
