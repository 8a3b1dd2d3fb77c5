//! Each action names the function that it stands for, and a comment there names the action.

#![allow(clippy::unwrap_used, reason = "helpers outside of test functions may fail as tests do")]

use std::collections::BTreeMap;
use std::path::Path;

/// Only flaws take them: no function does what they stand for.
const OF_FLAWS: [&str; 2] = ["Capture", "FoldEnd"];

/// Files below a folder with their texts.
fn read_below(folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            read_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.insert(path.display().to_string(), text);
        }
    }
}

/// The actions with the functions that their comments name: the last part of each path.
fn actions(text: &str) -> Vec<(String, Vec<String>)> {
    let (_, body) = text.split_once("pub(crate) enum Action {").unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let mut actions = Vec::new();
    let mut comment = String::new();
    for line in body.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            comment.push_str(text);
            continue;
        }
        let name: String = line.chars().take_while(char::is_ascii_alphanumeric).collect();
        if !name.is_empty() {
            let paths = comment.split('`').skip(1).step_by(2).filter(|path| path.contains("::"));
            let functions = paths
                .filter_map(|path| path.split('(').next()?.rsplit("::").next())
                .filter(|last| last.starts_with(|first: char| first.is_ascii_lowercase()))
                .map(str::to_owned)
                .collect();
            actions.push((name, functions));
            comment.clear();
        }
    }
    actions
}

#[test]
fn each_action_names_its_function_and_is_named_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let actions = actions(&std::fs::read_to_string(root.join("tests/model/action.rs")).unwrap());
    assert!(actions.len() > 10, "the actions were not understood: {actions:?}");
    let mut sources = BTreeMap::new();
    read_below(&root.join("src"), &mut sources);
    for (action, functions) in
        actions.iter().filter(|(action, _)| !OF_FLAWS.contains(&action.as_str()))
    {
        assert!(!functions.is_empty(), "{action} names no function");
        let comment = format!("`Action::{action}`");
        let naming: Vec<_> = sources.values().filter(|text| text.contains(&comment)).collect();
        let there = |text: &&&String| {
            let defined = |name: &String| text.contains(&format!("fn {name}"));
            functions.iter().any(defined)
        };
        assert!(
            naming.iter().any(|text| there(&text)),
            "{action}: none of {functions:?} is in a file that names it"
        );
    }
}
