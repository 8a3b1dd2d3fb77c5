//! Which file names which: the references between the files below `src/`, and their cycles.
//!
//! A path counts for the file that defines what it names, also where another one re-exports it.
//! A parent that declares or re-exports its children does not name them; one that calls them does.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::Named;

/// A path of modules below `crate`.
pub(crate) type Module = Vec<String>;

/// All files of the crate, without tests.
pub(crate) struct Files {
    named: BTreeMap<Module, Named>,
}

/// One file names another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    pub(crate) from: Module,
    /// The file that the path as written leads to.
    pub(crate) written: Module,
    /// The one that defines what it names.
    pub(crate) to: Module,
}

/// `a/b/mod.rs` and `a/b.rs` are `a::b`.
pub(crate) fn module_of(place: &str) -> Module {
    let mut module: Module = place.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

impl Files {
    /// From the places of the files below `src/` and their texts.
    pub(crate) fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut named: BTreeMap<_, _> =
            files.into_iter().map(|(place, text)| (module_of(place), Named::of(text))).collect();
        // Another crate.
        named.remove(&["main".to_owned()][..]);
        let tests: Vec<Module> = named
            .iter()
            .flat_map(|(module, it)| it.tests.iter().map(move |name| child(module, name)))
            .collect();
        named.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
        Self { named }
    }

    pub(crate) fn modules(&self) -> impl Iterator<Item = &Module> {
        self.named.keys()
    }

    pub(crate) fn references(&self) -> BTreeSet<Reference> {
        let mut found = BTreeSet::new();
        for (module, named) in &self.named {
            let mut add = |path: Vec<String>| {
                let (written, to) = (self.holder(&path), self.definer(&path));
                // The name of a module alone: what is taken from it counts.
                if self.is_module_alone(&path) {
                    return;
                }
                if written != *module || to != *module {
                    found.insert(Reference { from: module.clone(), written, to });
                }
            };
            for it in &named.uses {
                for path in self.absolute(module, &it.path) {
                    let own = it.public && self.definer(&path).starts_with(module);
                    if !own && !self.named.contains_key(&path) {
                        add(path);
                    }
                }
            }
            for path in &named.paths {
                self.absolute(module, path).into_iter().for_each(&mut add);
            }
        }
        found.retain(|it| !it.to.is_empty());
        found
    }

    /// What a path of a file may lead to, from `crate`; nothing for paths to other crates.
    fn absolute(&self, module: &Module, path: &[String]) -> Vec<Vec<String>> {
        let (first, rest) = path.split_first().expect("a path has a segment");
        let ups = path.iter().take_while(|segment| *segment == "super").count();
        if ups > 0 {
            let kept = &module[..module.len().saturating_sub(ups)];
            return vec![[kept, &path[ups..]].concat()];
        }
        match first.as_str() {
            "crate" => return vec![rest.to_vec()],
            "self" => return vec![[module, rest].concat()],
            _ => {}
        }
        let named = self.named.get(module).map(|it| it.uses.as_slice()).unwrap_or_default();
        let imported = named.iter().filter(|it| it.name == *first && it.path[0] != *first);
        let mut found: Vec<_> = imported
            .flat_map(|it| self.absolute(module, &it.path))
            .map(|path| [path.as_slice(), rest].concat())
            .collect();
        if found.is_empty() && self.named.contains_key(&child(module, first)) {
            found.push([module, path].concat());
        }
        found
    }

    /// Whether a path names a module, and not a function that its parent re-exports by that name.
    fn is_module_alone(&self, path: &[String]) -> bool {
        let Some((name, parent)) = path.split_last() else { return true };
        let re_exported = |it: &Named| {
            let own = [name.clone()];
            it.uses.iter().any(|it| it.public && it.name == *name && it.path != own)
        };
        self.named.contains_key(path) && !self.named.get(parent).is_some_and(re_exported)
    }

    /// The file that a path leads to, as it is written.
    fn holder(&self, path: &[String]) -> Module {
        let length =
            (0..=path.len()).rev().find(|length| self.named.contains_key(&path[..*length]));
        path[..length.unwrap_or_default()].to_vec()
    }

    /// The file that defines what a path names.
    fn definer(&self, path: &[String]) -> Module {
        // A re-exported function may have the name of its module.
        let whole = self.named.contains_key(path) && !path.is_empty();
        let holder = if whole { path[..path.len() - 1].to_vec() } else { self.holder(path) };
        let exported = path.get(holder.len()).and_then(|name| {
            let uses = &self.named.get(&holder)?.uses;
            let own = [name.clone()];
            let it = uses.iter().find(|it| it.public && it.name == *name && it.path != own)?;
            let path = [
                self.absolute(&holder, &it.path).into_iter().next()?.as_slice(),
                &path[holder.len() + 1..],
            ]
            .concat();
            Some(self.definer(&path))
        });
        exported.unwrap_or_else(|| if whole { path.to_vec() } else { holder })
    }
}

fn child(module: &[String], name: &str) -> Module {
    [module, &[name.to_owned()]].concat()
}

/// The files that reach each other, each group sorted: strongly connected components.
pub(crate) fn cycles(references: &BTreeSet<Reference>) -> Vec<Vec<Module>> {
    let mut edges: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for it in references.iter().filter(|it| it.from != it.to) {
        edges.entry(&it.from).or_default().insert(&it.to);
    }
    let reached = |from: &Module| {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&Module> = edges.get(from).into_iter().flatten().copied().collect();
        while let Some(module) = open.pop() {
            if seen.insert(module) {
                open.extend(edges.get(module).into_iter().flatten());
            }
        }
        seen
    };
    let reached: BTreeMap<&Module, _> = edges.keys().map(|from| (*from, reached(from))).collect();
    let mut found: Vec<Vec<Module>> = reached
        .iter()
        .filter(|(from, seen)| seen.contains(*from))
        .map(|(from, seen)| {
            let back = |to: &&&Module| reached.get(*to).is_some_and(|seen| seen.contains(from));
            seen.iter().filter(back).map(|module| (*module).clone()).collect()
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod planted {
    use super::*;

    #[track_caller]
    fn check(files: &[(&str, &str)], wanted: &[&str]) {
        let found = cycles(&Files::of(files.iter().copied()).references());
        let told = |cycle: &Vec<Module>| {
            let names: Vec<_> = cycle.iter().map(|module| module.join("::")).collect();
            names.join(" ")
        };
        assert_eq!(found.iter().map(told).collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn a_cycle_is_found_however_its_paths_are_written() {
        let there = ("a.rs", "use crate::b::B; pub struct A;");
        for back in [
            "use crate::a::A;",
            "use super::a::{self, A};",
            "use super::{a, c::C}; fn f() -> a::A {}",
            "fn f() -> crate::a::A {}",
            "fn f() { use super::a as x; x::go() }",
            "use super::a::*;",
        ] {
            check(&[there, ("b.rs", back), ("c.rs", "")], &["a b"]);
        }
        let long = [("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c::C;")];
        check(&[long[0], long[1], ("c.rs", "use crate::a::A;")], &["a b c"]);
        check(&[long[0], long[1], ("c.rs", "")], &[]);
    }

    #[test]
    fn two_cycles_are_two() {
        let files = [
            ("a.rs", "use crate::b::B; use crate::c::C;"),
            ("b.rs", "use crate::a::A;"),
            ("c.rs", "use crate::d::D;"),
            ("d.rs", "use crate::c::C;"),
        ];
        check(&files, &["a b", "c d"]);
    }

    #[test]
    fn a_parent_that_declares_and_re_exports_is_in_no_cycle_and_one_that_calls_is() {
        let child = ("a/b.rs", "use super::A; pub fn go() {}");
        check(&[("a/mod.rs", "pub mod b; pub use b::go; pub struct A;"), child], &[]);
        check(&[("a/mod.rs", "mod b; use b::go; pub struct A;"), child], &["a a::b"]);
        check(&[("a/mod.rs", "mod b; pub struct A; fn f() { b::go() }"), child], &["a a::b"]);
        // What both use lies in a file of its own.
        let split = ("a/mod.rs", "mod b; mod c; pub use c::A; fn f(_: A) { b::go() }");
        check(&[split, child, ("a/c.rs", "pub struct A;")], &[]);
    }

    #[test]
    fn what_is_re_exported_counts_for_the_file_that_defines_it() {
        let files = [
            ("a/mod.rs", "mod x; mod y; pub use x::go; pub use y::Y;"),
            ("a/x.rs", "use crate::b::B; pub fn go() {}"),
            ("a/y.rs", "pub struct Y;"),
        ];
        check(&[files[0], files[1], files[2], ("b.rs", "use crate::a::Y;")], &[]);
        check(&[files[0], files[1], files[2], ("b.rs", "fn f() { crate::a::go() }")], &["a::x b"]);
        // A function with the name of its module.
        let same = [
            ("a/mod.rs", "mod go; pub use go::go;"),
            ("a/go.rs", "use crate::b::B; pub fn go() {}"),
        ];
        check(&[same[0], same[1], ("b.rs", "use crate::a; fn f() { a::go() }")], &["a::go b"]);
    }

    #[test]
    fn tests_comments_and_texts_are_free() {
        for free in [
            "#[cfg(test)]\nmod tests { use crate::a::A; }",
            "#[cfg(test)]\nuse crate::a::A;",
            "#[cfg(test)]\nfn f() { crate::a::go() }",
            "// crate::a::A\nconst A: &str = \"crate::a::A\";",
            "#[cfg(test)]\nmod fakes;",
        ] {
            let fakes = ("b/fakes.rs", "use crate::a::A;");
            check(&[("a.rs", "use crate::b::B;"), ("b/mod.rs", free), fakes], &[]);
        }
        let inside = "mod inner { use super::*; fn f() { super::super::a::go() } }";
        check(&[("a.rs", "use crate::b::B;"), ("b/mod.rs", inside)], &["a b"]);
        let reach = "pub(in crate::a) fn f() {}\nmod inner { use super::*; }";
        check(&[("a/mod.rs", "mod b; fn f() { b::go() }"), ("a/b.rs", reach)], &[]);
        let after = "#[cfg(test)]\nmod fakes;\nuse crate::a::A;";
        check(&[("a.rs", "use crate::b::B;"), ("b/mod.rs", after)], &["a b"]);
    }
}
