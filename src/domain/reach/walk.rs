//! From names to what they stand for, through views, rules and functions.

use std::collections::HashSet;

use crate::domain::control::Phase;
use crate::domain::reach::catalogue::{Body, Catalogue, Function, OwnPath, Relation, RelationKind};
use crate::domain::reach::named::{FunctionRef, Named};
use crate::domain::reach::policy::{Declared, Owner, Policy};
use crate::domain::reach::{Catalogues, Once, Reach, SYSTEM};
use crate::domain::side::Side;
use crate::domain::table::{TableName, TableRef};

/// Schemas of the server's and of segue's own.
const SYSTEM_SCHEMAS: [&str; 5] =
    [SYSTEM, "information_schema", "pg_toast", "crdb_internal", "segue"];

pub(super) fn reach(
    named: &Named,
    phase: Phase,
    catalogues: &Catalogues,
    policy: &Policy,
) -> Reach {
    let primary = phase.primary();
    let Some(catalogue) = catalogues.of(primary).as_deref() else {
        // Nobody can tell: it stays on the primary, and does not run twice.
        let once = Some(Once::Unread(primary));
        return Reach { bound: true, unread: true, leaves_traces: true, once, ..Reach::default() };
    };
    let other = catalogues.of(primary.other()).as_deref();
    let mut walk = Walk {
        side: primary,
        captures: phase.captures(),
        catalogue,
        other,
        policy,
        seen: HashSet::new(),
        inside: false,
        reach: Reach { pure: true, ..Reach::default() },
    };
    walk.names(named, Some(&catalogue.search_path), true, false);
    let mut reach = walk.reach;
    if reach.once.is_none() {
        reach.once = match other {
            Some(other) => {
                let (once, traces) = effects(named, primary.other(), other, phase, policy);
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
    side: Side,
    catalogue: &Catalogue,
    phase: Phase,
    policy: &Policy,
) -> (Option<Once>, bool) {
    let mut walk = Walk {
        side,
        captures: phase.captures(),
        catalogue,
        other: None,
        policy,
        seen: HashSet::new(),
        inside: false,
        reach: Reach::default(),
    };
    walk.names(named, Some(&catalogue.search_path), true, false);
    let once = match &walk.reach.once {
        // What is not there cannot run: it fails, which is worth to be seen.
        Some(Once::Unknown(name)) if catalogue.lists_all_functions && !walk.knows(name) => None,
        once => once.clone(),
    };
    (once, walk.reach.leaves_traces)
}

struct Walk<'a> {
    side: Side,
    captures: bool,
    catalogue: &'a Catalogue,
    other: Option<&'a Catalogue>,
    policy: &'a Policy,
    /// Relations and functions that were gone into, whether their effects counted, and whether
    /// they were written to.
    seen: HashSet<(String, bool, bool)>,
    /// In a definition, and no more in the statement's own text.
    inside: bool,
    reach: Reach,
}

impl<'a> Walk<'a> {
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
            for name in self.catalogue.named(&named.name) {
                if let Some(relation) = self.catalogue.relation(name) {
                    self.found(name, relation, effects, writes);
                }
            }
            return;
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

    fn found(&mut self, name: &TableName, relation: &Relation, effects: bool, writes: bool) {
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

    /// What the functions of triggers touch, and the tables that a foreign key passes it on to.
    fn on_write(&mut self, relation: &Relation, effects: bool) {
        let before = std::mem::replace(&mut self.inside, true);
        for trigger in &relation.on_write.triggers {
            let (schema, path) = (Some(trigger.schema.as_str()), &self.catalogue.search_path);
            for function in self.catalogue.functions(schema, &trigger.name, None, None) {
                self.function(&trigger.name, function, Some(path), effects);
            }
        }
        for name in &relation.on_write.cascades {
            if let Some(relation) = self.catalogue.relation(name) {
                self.found(name, relation, effects, true);
            }
        }
        self.inside = before;
    }

    /// A table of the migration. The source may have registered one after the target's catalogue
    /// was read, and a flip may follow at once.
    fn is_migrated(&self, name: &TableName, relation: &Relation) -> bool {
        let root = relation.belongs_to.as_ref().unwrap_or(name);
        let there = self.side == Side::Target
            && self.other.is_some_and(|source| source.registered_there.contains(root));
        (relation.registered || there) && !self.leaves_out(name, relation)
    }

    /// A partition is left out with its table.
    fn leaves_out(&self, name: &TableName, relation: &Relation) -> bool {
        self.policy.leaves_out(relation.belongs_to.as_ref().unwrap_or(name))
    }

    /// A sequence is where its table is; one that stands alone follows the primary, and so do
    /// those of migrated tables, which a cutover brings up.
    fn sequence(&mut self, name: &TableName, relation: &Relation) {
        let owner = relation.belongs_to.as_ref();
        let owner = owner.and_then(|owner| Some((owner, self.catalogue.relation(owner)?)));
        match owner {
            Some((table, owning)) if self.policy.owner(table).is_some() => {
                self.found(table, owning, false, false);
            }
            Some((table, owning)) if !self.is_migrated(table, owning) => {
                self.stays(table, owning);
            }
            _ => self.declared(Owner::Primary, &name.to_string()),
        }
    }

    /// A relation that is not migrated.
    fn stays(&mut self, name: &TableName, relation: &Relation) {
        let shown = name.to_string();
        if let Some(owner) = self.policy.owner(name) {
            return self.declared(owner, &shown);
        }
        let side = match (self.side, self.other) {
            (Side::Source, _) => Side::Source,
            // It was made where the primary is now.
            (Side::Target, Some(source)) if self.catalogue.relation(name).is_some() => {
                let there = source.relation(name);
                if there.is_some() { Side::Source } else { Side::Target }
            }
            (Side::Target, _) => Side::Source,
        };
        let migrated = self.is_migrated(name, relation);
        if side == Side::Source && !migrated {
            self.reach.undeclared.insert(shown.clone());
        }
        self.declared(Owner::Side(side), &shown);
    }

    fn declared(&mut self, owner: Owner, name: &str) {
        self.reach.pure = false;
        self.reach.bound = true;
        match owner {
            Owner::Side(side) => self.reach.owned.note(side, name),
            Owner::Primary => {
                self.reach.primary.get_or_insert_with(|| name.to_owned());
            }
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

    fn function(
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
                self.definition(&named, path.filter(|_| !own), effects, writes);
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
