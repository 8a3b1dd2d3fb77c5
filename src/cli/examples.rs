//! Examples of each command, as its `--help` and `docs/reference/cli.md` have them.

use clap::{ArgMatches, Command, CommandFactory};

use crate::cli::args::Cli;
use crate::cli::groups;

/// What a command line does, and the line.
type Example = (&'static str, &'static str);

/// By the names of command and subcommand.
const EXAMPLES: [(&str, &[Example]); 41] = [
    ("serve", &[("Use another configuration", "segue serve --config /etc/segue/segue.toml")]),
    (
        "config check",
        &[("Try a value without writing it", "segue config check --set outbox.max_bytes=2GiB")],
    ),
    ("config keys", &[("Print the tables of keys", "segue config keys")]),
    (
        "init",
        &[
            ("Print the SQL and the grants, and change nothing", "segue init --print"),
            ("Set up both sides", "segue init"),
        ],
    ),
    (
        "adopt target",
        &[("Go on with another target", "segue adopt target --reason 'the first was too small'")],
    ),
    (
        "adopt primary",
        &[("Go on with a restored primary", "segue adopt primary --reason 'the disk was lost'")],
    ),
    (
        "check",
        &[
            ("Look at all tables", "segue check"),
            (
                "Without a configuration file",
                "segue check --source postgres://a/shop --target postgres://b/shop",
            ),
            ("Print every finding that there is", "segue check --list"),
        ],
    ),
    ("capture install", &[("Show the SQL first", "segue capture install --print")]),
    ("capture remove", &[("Take the triggers away", "segue capture remove")]),
    ("capture print", &[("Keep the SQL for review", "segue capture print")]),
    (
        "backfill",
        &[
            ("See what would be copied", "segue backfill --dry-run"),
            ("Copy gently", "segue backfill --workers 2 --max-rows-per-s 20000 --max-mb-per-s 10"),
            ("Start again", "segue backfill --empty-target"),
        ],
    ),
    (
        "status",
        &[("Look once", "segue status"), ("Watch a schedule of reads", "segue status --watch")],
    ),
    ("phase", &[("Show the gates to the next phase", "segue phase")]),
    (
        "phase advance",
        &[
            ("Go on, and say where to", "segue phase advance --to shadow_read"),
            ("Override gates", "segue phase advance --force --reason 'rehearsed on a copy'"),
        ],
    ),
    (
        "phase back",
        &[
            ("Go back one phase", "segue phase back"),
            (
                "Discard the copy",
                "segue phase back --give-up-copy --reason 'the project was stopped'",
            ),
        ],
    ),
    (
        "phase percentage",
        &[("Keep reads off the target", "segue phase percentage 0 --reason 'slow since noon'")],
    ),
    ("phase resume", &[("Let the schedule go on", "segue phase resume --reason 'index added'")]),
    (
        "cutover",
        &[
            ("Practise: every step except the switch", "segue cutover --rehearse"),
            ("From a script", "segue cutover --yes --max-pause 2s --json"),
        ],
    ),
    (
        "rollback",
        &[
            ("Practise: every step except the switch", "segue rollback --rehearse"),
            ("Make the source the primary again", "segue rollback"),
        ],
    ),
    ("operation", &[("List what was started", "segue operation list")]),
    ("operation list", &[("The last hundred, as JSON", "segue operation list --limit 100 --json")]),
    (
        "operation watch",
        &[(
            "Follow a cutover again after the connection was lost",
            "segue operation watch 6a0e7f0e-1f0b-4f0e-9a53-0d8a3f3f6f7c",
        )],
    ),
    (
        "operation cancel",
        &[(
            "Call a cutover off before its switch",
            "segue operation cancel 6a0e7f0e-1f0b-4f0e-9a53-0d8a3f3f6f7c --reason 'too much load'",
        )],
    ),
    (
        "operation backfill",
        &[("Copy one table in the sidecar", "segue operation backfill --table public.orders")],
    ),
    ("operation verify", &[("Compare all rows in the sidecar", "segue operation verify")]),
    ("complete", &[("End the migration", "segue complete --reason 'thirty days without a fault'")]),
    ("history", &[("The last hundred changes", "segue history --limit 100")]),
    ("mismatches", &[("List what is open", "segue mismatches")]),
    (
        "mismatches resolve",
        &[(
            "Take a finding off the list",
            "segue mismatches resolve 6766eb365a5edcb1 --reason 'fixed in release 42'",
        )],
    ),
    ("drift", &[("List programs that wrote on the shadow", "segue drift")]),
    (
        "drift resolve",
        &[(
            "Take a program off the list",
            "segue drift resolve 0b1f6a5f5d2e --reason 'it writes to the source now'",
        )],
    ),
    (
        "verify",
        &[
            ("Compare all rows", "segue verify"),
            ("Compare some of one table", "segue verify --table public.orders --sample 1%"),
            ("Mend what differs", "segue verify --repair"),
        ],
    ),
    ("tables", &[("List the tables of the migration", "segue tables")]),
    ("tables list", &[("As JSON", "segue tables --json")]),
    (
        "tables retire",
        &[("A table that was dropped", "segue tables retire public.old --reason 'dropped'")],
    ),
    (
        "tables adopt",
        &[("A table that is wanted again", "segue tables adopt public.old --reason 'needed'")],
    ),
    (
        "outbox",
        &[("List pending keys", "segue outbox"), ("List what has failed", "segue outbox --stuck")],
    ),
    ("outbox retry", &[("Retry one table's keys now", "segue outbox retry --table public.orders")]),
    ("config", &[("Check the configuration", "segue config check")]),
    ("adopt", &[("Go on with another target", "segue adopt target --reason 'a larger one'")]),
    ("capture", &[("Put the triggers in place", "segue capture install")]),
];

/// The command line with its examples.
pub(super) fn command() -> Command {
    Cli::command().mut_subcommands(|command| with_examples(command, ""))
}

/// Reads the process's arguments; wrong usage and `--help` end it.
pub(super) fn matches() -> ArgMatches {
    let mut command = command();
    let matches = command.get_matches_mut();
    groups::check(&mut command, &matches).unwrap_or_else(|error| error.exit());
    matches
}

fn with_examples(command: Command, parent: &str) -> Command {
    let path = format!("{parent} {}", command.get_name()).trim_start().to_owned();
    let examples = of(&path);
    let command = if examples.is_empty() {
        command
    } else {
        let before = command.get_after_help().map(|text| format!("{text}\n\n"));
        command.after_help(before.unwrap_or_default() + &page(examples))
    };
    command.mut_subcommands(|command| with_examples(command, &path))
}

fn page(examples: &[Example]) -> String {
    let lines = examples.iter().map(|(what, line)| format!("\n  {line}\n      {what}"));
    format!("Examples:{}", lines.collect::<String>())
}

/// Examples of a command by its path, such as `phase advance`.
pub(super) fn of(path: &str) -> &'static [Example] {
    EXAMPLES.iter().find(|(of, _)| *of == path).map_or(&[], |(_, examples)| examples)
}

/// The paths that have examples.
#[cfg(test)]
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    EXAMPLES.iter().map(|(path, _)| *path)
}

/// The words of a line as a shell makes them of it, as far as examples go.
#[cfg(test)]
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('\'').enumerate() {
        match number % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}
