//! From names to what they stand for, through views, rules and functions.

use std::collections::HashSet;

use crate::domain::control::Phase;
use crate::domain::reach::catalogue::{Body, Catalogue, Function, OwnPath, Relation, RelationKind};
use crate::domain::reach::named::{FunctionRef, Named};
use crate::domain::reach::policy::{Declared, Policy};
use crate::domain::reach::{Catalogues, Lookup, Once, Reach, SYSTEM};
use crate::domain::side::Side;
use crate::domain::table::{TableName, TableRef};

/// Schemas of the server's and of segue's own.
const SYSTEM_SCHEMAS: [&str; 5] =
    [SYSTEM, "information_schema", "pg_toast", "crdb_internal", "segue"];

/// What the walk goes by.
type World<'a> = (&'a Catalogues, &'a Policy);

pub(super) fn reach(named: &Named, phase: Phase, world: World<'_>, lookup: Lookup) -> Reach {
    let (primary, (catalogues, policy)) = (phase.primary(), world);
    let Some(catalogue) = catalogues.of(primary).as_deref() else {
        // Nobody can tell: it stays on the primary, and does not run twice.
        let once = Some(Once::Unread(primary));
        return Reach {
            bound: true,
            unread: true,
            leaves_traces: true,
            sets_path: true,
            once,
            ..Reach::default()
        };
    };
    let other = catalogues.of(primary.other()).as_deref();
    let through = |bodies: Lookup| {
        let mut walk = Walk::new((primary, catalogue), other, (phase, policy), bodies);
        walk.reach.pure = true;
        walk.names(named, lookup.path(catalogue), true, false);
        walk.reach
    };
    let mut reach = through(lookup);
    // The functions that come after the change in the same statement see it.
    if reach.sets_path && lookup == Lookup::SearchPath {
        reach = through(Lookup::AnySchema);
    }
    if reach.once.is_none() {
        reach.once = match other {
            Some(other) => {
                let (once, traces) =
                    effects(named, (primary.other(), other), (phase, policy), lookup);
                reach.leaves_traces |= traces;
                once
            }
            None => Some(Once::Unread(primary.other())),
        };
    }
    reach
}

/// Why a statement may run only once on a side that follows, and whether it may leave traces there.
fn effects(
    named: &Named,
    (side, catalogue): (Side, &Catalogue),
    going: (Phase, &Policy),
    lookup: Lookup,
) -> (Option<Once>, bool) {
    let mut walk = Walk::new((side, catalogue), None, going, lookup);
    walk.names(named, lookup.path(catalogue), true, false);
    let once = match &walk.reach.once {
        // What is not there cannot run: it fails, which is worth to be seen.
        Some(Once::Unknown(name)) if catalogue.lists_all_functions && !walk.knows(name) => None,
        once => once.clone(),
    };
    (once, walk.reach.leaves_traces)
}

impl Lookup {
    /// Nothing where an unqualified name stands for all of that name.
    fn path(self, catalogue: &Catalogue) -> Option<&[String]> {
        (self == Self::SearchPath).then_some(&*catalogue.search_path)
    }
}

pub(super) struct Walk<'a> {
    pub(super) side: Side,
    captures: bool,
    pub(super) catalogue: &'a Catalogue,
    pub(super) other: Option<&'a Catalogue>,
    pub(super) policy: &'a Policy,
    /// Where unqualified names in the bodies of functions are looked for.
    bodies: Lookup,
    /// Relations and functions that were gone into, whether their effects counted, and whether
    /// they were written to.
    seen: HashSet<(String, bool, bool)>,
    /// In a definition, and no more in the statement's own text.
    pub(super) inside: bool,
    pub(super) reach: Reach,
}

impl<'a> Walk<'a> {
    fn new(
        (side, catalogue): (Side, &'a Catalogue),
        other: Option<&'a Catalogue>,
        (phase, policy): (Phase, &'a Policy),
        bodies: Lookup,
    ) -> Self {
        Self {
            side,
            captures: phase.captures(),
            catalogue,
            other,
            policy,
            bodies,
            seen: HashSet::new(),
            inside: false,
            reach: Reach::default(),
        }
    }

    /// Goes through the names of a definition, in which nothing is told by the statement's text.
    fn definition(&mut self, named: &Named, path: Option<&[String]>, effects: bool, writes: bool) {
        let before = std::mem::replace(&mut self.inside, true);
        self.names(named, path, effects, writes);
        self.inside = before;
    }

    /// Goes through names. Without a path an unqualified name stands for all of that name. Where
    /// `writes` is set, any of them may be written to, and else those that are named so.
    fn names(&mut self, named: &Named, path: Option<&[String]>, effects: bool, writes: bool) {
        for relation in &named.relations {
            let written = writes || named.written.contains(relation);
            self.relation(relation, path, effects, written);
        }
        for function in &named.functions {
            self.call(function, path, effects);
        }
        for word in &named.words {
            for name in self.catalogue.named(word) {
                if let Some(relation) = self.catalogue.relation(name) {
                    self.found(name, relation, effects, writes);
                }
            }
        }
        for name in &named.calls {
            for function in self.catalogue.functions(None, name, None, None) {
                self.function(name, function, None, effects);
            }
        }
        if effects {
            for operator in &named.operators {
                self.operator(operator);
            }
            let found = named.casts.intersection(&self.catalogue.volatile_casts).next().cloned();
            let hidden = self.catalogue.implicit_volatile_cast.then(|| "a cast".to_owned());
            if let Some(name) = found.or(hidden) {
                self.once(Once::Volatile(name));
            }
        }
        let Catalogue { scripted_operators, scripted_casts, implicit_scripted_cast, .. } =
            self.catalogue;
        self.reach.leaves_traces |= *implicit_scripted_cast
            || named.operators.iter().any(|it| scripted_operators.contains(it))
            || !named.casts.is_disjoint(scripted_casts);
        self.reach.sets_path |= named.sets_path || named.dynamic;
        if named.dynamic {
            self.unknown("SQL that is made while it runs");
        }
    }

    fn operator(&mut self, name: &str) {
        match self.catalogue.operators.get(name) {
            Some(false) => {}
            Some(true) => self.once(Once::Volatile(name.to_owned())),
            // `BETWEEN` and the like are words.
            None if name.starts_with(char::is_alphabetic) => {}
            None if self.catalogue.lists_all_functions => {
                self.reach.missing = true;
                self.once(Once::Unknown(name.to_owned()));
            }
            None => {}
        }
    }

    fn relation(&mut self, named: &TableRef, path: Option<&[String]>, effects: bool, writes: bool) {
        if let Some(schema) = &named.schema
            && SYSTEM_SCHEMAS.contains(&schema.as_str())
        {
            self.reach.bound = true;
            return;
        }
        let Some(path) = path.filter(|_| named.schema.is_none()).or(Some(&[])) else { return };
        if let Some((name, relation)) = self.catalogue.find(named, path) {
            return self.found(name, relation, effects, writes);
        }
        if path.is_empty() && named.schema.is_none() {
            return self.any_of_name(&named.name, effects, writes);
        }
        self.reach.bound = true;
        if named.schema.is_none() && named.name.starts_with("pg_") {
            return;
        }
        self.reach.pure = false;
        // Once the target is the primary, what is on the source alone stays there.
        if self.side == Side::Target
            && let Some(source) = self.other
            && let Some((name, relation)) = source.find(named, &source.search_path)
            && (!relation.registered || self.policy.leaves_out(name))
        {
            return self.stays(name, relation);
        }
        self.reach.missing = true;
    }

    /// All of an unqualified name, in whatever schema.
    fn any_of_name(&mut self, bare: &str, effects: bool, writes: bool) {
        let all = self.catalogue.named(bare);
        for name in all {
            if let Some(relation) = self.catalogue.relation(name) {
                self.found(name, relation, effects, writes);
            }
        }
        if self.inside {
            return;
        }
        let mut is_there = !all.is_empty() || bare.starts_with("pg_");
        // As above, of what is on the source alone.
        if self.side == Side::Target
            && let Some(source) = self.other
        {
            for name in source.named(bare).iter().filter(|name| !all.contains(name)) {
                if let Some(relation) = source.relation(name)
                    && (!relation.registered || self.policy.leaves_out(name))
                {
                    is_there = true;
                    self.stays(name, relation);
                }
            }
        }
        self.reach.bound |= !is_there;
        self.reach.pure &= is_there;
        self.reach.missing |= !is_there;
    }

    pub(super) fn found(
        &mut self,
        name: &TableName,
        relation: &Relation,
        effects: bool,
        writes: bool,
    ) {
        if !self.seen.insert((format!("relation {name}"), effects, writes)) {
            return;
        }
        if writes {
            self.on_write(relation, effects);
        }
        if relation.kind != RelationKind::MaterializedView {
            match &relation.names {
                // A definition has its names in full.
                Ok(names) => {
                    let through = writes && relation.kind == RelationKind::View;
                    self.definition(names, Some(&[SYSTEM.to_owned()]), effects, through);
                }
                Err(()) => self.unknown(&name.to_string()),
            }
        }
        if let Some(owner) = self.policy.owner(name) {
            return self.declared(owner, &name.to_string());
        }
        match relation.kind {
            _ if relation.of_extension => self.reach.bound = true,
            RelationKind::View => {}
            RelationKind::Sequence => self.sequence(name, relation),
            RelationKind::Table if self.is_migrated(name, relation) => {
                self.reach.pure = false;
                self.reach.bound |= self.captures && !(relation.captured && relation.copied);
                self.reach.migrated.get_or_insert_with(|| name.to_string());
                // A table that is not captured is not of the migration yet, on the side that is
                // left; on the other one nothing else could own it.
                if self.captures && !relation.captured && self.side == Side::Source {
                    self.stays(name, relation);
                }
            }
            RelationKind::Table | RelationKind::MaterializedView => self.stays(name, relation),
        }
    }

    fn call(&mut self, called: &FunctionRef, path: Option<&[String]>, effects: bool) {
        let FunctionRef { schema, name, arguments } = called;
        let functions = self.catalogue.functions(schema.as_deref(), name, Some(*arguments), path);
        if functions.is_empty() {
            // It fails on the primary, or was made since the catalogue was read.
            self.reach.missing = true;
            self.once(Once::Unknown(name.clone()));
        }
        for function in functions {
            self.function(name, function, path, effects);
        }
    }

    pub(super) fn function(
        &mut self,
        name: &str,
        function: &Function,
        path: Option<&[String]>,
        effects: bool,
    ) {
        let effects = effects && !self.policy.may_repeat(&function.schema, name);
        let full = TableName::new(function.schema.as_str(), name);
        let is_plain = matches!(function.body, Body::Nothing) && !function.volatile;
        self.reach.leaves_traces |= self.inside && !is_plain;
        let declared = self.policy.functions.get(&full).copied();
        // Volatile is what a function is called that nobody called otherwise: in SQL its body tells.
        let told = match &function.body {
            Body::Names(named, _) => named.reads_only && declared.is_none(),
            Body::Nothing | Body::Unknown => false,
        };
        if effects && function.volatile && !told {
            self.once(Once::Volatile(name.to_owned()));
        }
        if matches!(function.body, Body::Nothing) {
            return;
        }
        let arguments = function.arguments;
        if !self.seen.insert((format!("function {full}/{arguments:?}"), effects, false)) {
            return;
        }
        // What a function sets that has a path of its own ends with it.
        let sets_path = self.reach.sets_path
            || match &function.body {
                Body::Nothing | Body::Names(_, OwnPath(true)) => false,
                Body::Names(named, OwnPath(false)) => named.sets_path || named.dynamic,
                Body::Unknown => true,
            };
        self.reach.sets_path = sets_path;
        match declared {
            Some(Declared::Of(owner)) => return self.declared(owner, &full.to_string()),
            Some(Declared::Migrated) => {
                self.reach.pure = false;
                self.reach.migrated.get_or_insert_with(|| full.to_string());
                return;
            }
            None => {}
        }
        match &function.body {
            Body::Nothing => {}
            Body::Names(named, OwnPath(own)) => {
                if named.dynamic {
                    self.unknown(&full.to_string());
                }
                let named = Named { dynamic: false, ..(**named).clone() };
                // A body that is not parsed may write to whatever it names, unless it may not write.
                let writes = function.volatile && !named.words.is_empty();
                let path = path.filter(|_| !own && self.bodies == Lookup::SearchPath);
                self.definition(&named, path, effects, writes);
                self.reach.sets_path = sets_path || (!own && self.reach.sets_path);
            }
            Body::Unknown => self.unknown(&full.to_string()),
        }
    }

    fn unknown(&mut self, name: &str) {
        self.reach.pure = false;
        self.reach.bound = true;
        self.reach.unknown.insert(name.to_owned());
        self.reach.undeclared.insert(name.to_owned());
    }

    fn once(&mut self, once: Once) {
        self.reach.once.get_or_insert(once);
    }

    fn knows(&self, function: &str) -> bool {
        let operators = &self.catalogue.operators;
        operators.contains_key(function)
            || !self.catalogue.functions(None, function, None, None).is_empty()
    }
}
