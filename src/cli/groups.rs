//! Groups of commands, such as `segue outbox` and `segue outbox retry`.
//!
//! A flag that a group shares with its commands may stand before or after the command's name. One that
//! only the group itself uses would do nothing before a command, and is refused.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, Error};

/// Refuses a flag of a group that its command does not use.
pub(super) fn check(command: &mut Command, matches: &ArgMatches) -> Result<(), Error> {
    let Some((name, within)) = matches.subcommand() else { return Ok(()) };
    let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let unused = command
        .get_arguments()
        .filter(|arg| !arg.is_global_set() && given(arg.get_id().as_str()))
        .find_map(|arg| arg.get_long().map(str::to_owned));
    if let Some(flag) = unused {
        let group = command.get_name().to_owned();
        let message = format!("--{flag} is of `{group}` alone: `{group} {name}` does not use it");
        return Err(command.error(ErrorKind::ArgumentConflict, message));
    }
    match command.find_subcommand_mut(name) {
        Some(command) => check(command, within),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::examples;

    fn parsed(words: &[&str]) -> Result<ArgMatches, Error> {
        let mut command = examples::command();
        command.build();
        let matches = command.clone().try_get_matches_from(words)?;
        check(&mut command, &matches)?;
        Ok(matches)
    }

    /// The examples of commands below a group, with the words that name each.
    fn below_groups() -> Vec<(Vec<&'static str>, Vec<String>)> {
        let paths = examples::paths().map(|path| (path, path.split(' ').collect::<Vec<_>>()));
        let below = paths.filter(|(_, words)| words.len() > 1);
        below
            .flat_map(|(path, words)| {
                examples::of(path).iter().map(move |(_, line)| {
                    let rest = examples::words(line).split_off(1 + words.len());
                    (words.clone(), rest)
                })
            })
            .collect()
    }

    /// Whatever a group and its commands share may stand on either side of the command's name.
    #[test]
    fn a_shared_flag_may_stand_before_a_command_or_after_it() {
        let mut command = examples::command();
        command.build();
        let mut tried = 0;
        for (path, rest) in below_groups() {
            let group = command.find_subcommand(path[0]).unwrap();
            for flag in group.get_arguments().filter(|arg| arg.is_global_set()) {
                let long = format!("--{}", flag.get_long().unwrap());
                let mut shared = vec![long.as_str()];
                if flag.get_action().takes_values() {
                    shared.push("a=b");
                }
                let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
                if rest.contains(&shared[0]) {
                    continue;
                }
                let before = [&["segue", path[0]][..], &shared, &path[1..], &rest].concat();
                let after = [&["segue"][..], &path, &rest, &shared].concat();
                for line in [before, after] {
                    let matches = parsed(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
                    let group = matches.subcommand_matches(path[0]).unwrap();
                    let source = group.value_source(flag.get_id().as_str());
                    assert_eq!(source, Some(ValueSource::CommandLine), "{line:?}");
                    tried += 1;
                }
            }
        }
        assert!(tried > 50, "{tried}");
    }

    #[test]
    fn a_change_of_the_phase_is_told_as_json() {
        for line in ["segue phase --json advance", "segue phase advance --json"] {
            let matches = parsed(&line.split(' ').collect::<Vec<_>>()).unwrap();
            assert!(matches.subcommand_matches("phase").unwrap().get_flag("json"), "{line}");
        }
    }

    #[test]
    fn a_flag_that_a_command_would_not_use_is_refused() {
        for line in
            ["segue outbox --stuck retry", "segue mismatches --limit 5 resolve a --reason b"]
        {
            let error = parsed(&line.split(' ').collect::<Vec<_>>()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{line}");
            assert!(error.to_string().contains("does not use it"), "{error}");
        }
    }
}
