//! Whose a relation is that a walk has found, and what a write to it brings with it.

use crate::domain::reach::catalogue::Relation;
use crate::domain::reach::policy::Owner;
use crate::domain::reach::walk::Walk;
use crate::domain::side::Side;
use crate::domain::table::TableName;

impl Walk<'_> {
    /// What the functions of triggers touch, and the tables that a foreign key passes it on to.
    pub(super) fn on_write(&mut self, relation: &Relation, effects: bool) {
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
    pub(super) fn is_migrated(&self, name: &TableName, relation: &Relation) -> bool {
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
    pub(super) fn sequence(&mut self, name: &TableName, relation: &Relation) {
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
    pub(super) fn stays(&mut self, name: &TableName, relation: &Relation) {
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

    pub(super) fn declared(&mut self, owner: Owner, name: &str) {
        self.reach.pure = false;
        self.reach.bound = true;
        match owner {
            Owner::Side(side) => self.reach.owned.note(side, name),
            Owner::Primary => {
                self.reach.primary.get_or_insert_with(|| name.to_owned());
            }
        }
    }
}
