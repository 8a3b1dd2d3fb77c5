//! `docs/reference/cli.md` is what the command line says of itself.

use clap::{Arg, ArgAction, Command};

use crate::cli::examples;

/// With this in the environment the page is written instead of compared.
const WRITE: &str = "SEGUE_WRITE_DOCS";
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/cli.md");

const HEAD: &str = "# Commands

Generated from the program's `--help` by `make docs`; a test fails when it is stale. `segue COMMAND --help` prints
the same. Flags of all commands stand first.
";

/// A cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn name(arg: &Arg) -> String {
    let value = match arg.get_action() {
        ArgAction::SetTrue | ArgAction::Help | ArgAction::Version => String::new(),
        _ => {
            let names = arg.get_value_names().unwrap_or_default();
            let names: Vec<&str> = names.iter().map(clap::builder::Str::as_str).collect();
            names.join(" ")
        }
    };
    match arg.get_long() {
        None => format!("`{value}`"),
        Some(long) => {
            let short = arg.get_short().map(|short| format!("`-{short}`, "));
            let value = if value.is_empty() { value } else { format!(" {value}") };
            format!("{}`--{long}{value}`", short.unwrap_or_default())
        }
    }
}

fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help());
    let mut text = help.map(ToString::to_string).unwrap_or_default();
    let flag = matches!(arg.get_action(), ArgAction::SetTrue);
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into()).collect();
    if !flag && !defaults.is_empty() && !arg.is_hide_default_value_set() {
        text += &format!(" (default `{}`)", defaults.join(" "));
    }
    if arg.is_required_set() {
        text += " (required)";
    }
    if let Some(variable) = arg.get_env().filter(|_| !arg.is_hide_env_set()) {
        text += &format!(" (or the variable `{}`)", variable.to_string_lossy());
    }
    cell(&text)
}

fn table(page: &mut String, args: &[&Arg]) {
    if args.is_empty() {
        return;
    }
    *page += "\n| flag or value | meaning |\n|---|---|\n";
    for arg in args {
        *page += &format!("| {} | {} |\n", cell(&name(arg)), meaning(arg));
    }
}

/// A flag of all commands, which stands before them.
fn is_of_all(arg: &Arg) -> bool {
    examples::command().get_arguments().any(|of_all| of_all.get_id() == arg.get_id())
}

fn section(page: &mut String, path: &str, command: &Command) {
    *page += &format!("\n## segue {path}\n\n");
    let about = command.get_long_about().or_else(|| command.get_about());
    *page +=
        &format!("{}.\n", about.map(ToString::to_string).unwrap_or_default().trim_end_matches('.'));
    let args = |arg: &&Arg| {
        let built_in = matches!(arg.get_id().as_str(), "help" | "version");
        !built_in && !is_of_all(arg) && !arg.is_hide_set()
    };
    let args: Vec<&Arg> = command.get_arguments().filter(args).collect();
    table(page, &args);
    for (what, line) in examples::of(path) {
        *page += &format!("\n{what}:\n\n```console\n$ {line}\n```\n");
    }
    for command in command.get_subcommands() {
        section(page, &format!("{path} {}", command.get_name()), command);
    }
}

fn page() -> String {
    let mut command = examples::command();
    command.build();
    let mut page = HEAD.to_owned();
    let args: Vec<&Arg> = command.get_arguments().filter(|arg| arg.is_global_set()).collect();
    table(&mut page, &args);
    let codes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    page += &format!("\n{codes}\n");
    for command in command.get_subcommands().filter(|it| it.get_name() != "help") {
        section(&mut page, command.get_name(), command);
    }
    page
}

fn leaves(path: &str, command: &Command, found: &mut Vec<String>) {
    found.push(path.to_owned());
    for command in command.get_subcommands().filter(|it| it.get_name() != "help") {
        leaves(format!("{path} {}", command.get_name()).trim_start(), command, found);
    }
}

#[test]
fn the_page_of_commands_is_what_the_program_says() {
    let page = page();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(PAGE, page).unwrap();
        return;
    }
    let found = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(found == page, "docs/reference/cli.md is stale: run make docs");
}

#[test]
fn every_command_has_an_example_and_every_example_can_be_run() {
    let mut commands = Vec::new();
    for command in examples::command().get_subcommands() {
        leaves(command.get_name(), command, &mut commands);
    }
    let without: Vec<_> = commands.iter().filter(|path| examples::of(path).is_empty()).collect();
    assert!(without.is_empty(), "no example of {without:?}");
    for path in examples::paths() {
        assert!(commands.iter().any(|command| command == path), "there is no command {path}");
        for (_, line) in examples::of(path) {
            let parsed = examples::command().try_get_matches_from(examples::words(line));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
