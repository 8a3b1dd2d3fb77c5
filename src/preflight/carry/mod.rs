//! Whether a column can hold what another one may hold, by what reconcile writes and what the
//! comparer takes for equal.

mod numbers;
mod texts;
mod times;

use crate::domain::pg_type::{PgType, TypeKind};

pub(super) use numbers::range;
pub(super) use texts::characters;

/// What becomes of the values of one column in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Carry {
    /// Each has its equal.
    All,
    /// Each has one that is taken for equal, but says less; what is lost.
    Less(String),
    /// Some have none; which.
    Part(String),
    /// None has any.
    Never,
}

/// A column's type with its modifier; `-1` for none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declared<'a> {
    /// The type, domains resolved.
    pub(super) ty: &'a PgType,
    /// `atttypmod`, of the domain where the column has none.
    pub(super) modifier: i32,
}

// === impl Declared ===

impl<'a> Declared<'a> {
    /// A type under any domains.
    pub(super) fn new(ty: &'a PgType, modifier: i32) -> Self {
        Self { ty: ty.base(), modifier }
    }

    fn name(&self) -> &'a str {
        &self.ty.name
    }

    fn element(&self, ty: &'a PgType) -> Self {
        Self::new(ty, self.modifier)
    }
}

/// What becomes of values of `from` in a column of `to`.
pub(super) fn carry(from: Declared<'_>, to: Declared<'_>) -> Carry {
    match (&from.ty.kind, &to.ty.kind) {
        (TypeKind::Array(a), TypeKind::Array(b)) => carry(from.element(a), to.element(b)),
        // Their bytes are taken over as they are, for one type of bound only.
        (TypeKind::Range(a), TypeKind::Range(b))
        | (TypeKind::Multirange(a), TypeKind::Multirange(b)) => same_or_never(a, b),
        (TypeKind::Composite(a), TypeKind::Composite(b)) => {
            let alike = a.len() == b.len()
                && a.iter().zip(b).all(|((_, a), (_, b))| same_or_never(a, b) == Carry::All);
            if alike { Carry::All } else { Carry::Never }
        }
        (TypeKind::Enum(a), TypeKind::Enum(b)) => labels(a, b),
        (TypeKind::Enum(labels), _) if texts::is_text(to) => {
            let longest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
            match texts::characters(to) {
                Some(most) if longest > most => {
                    Carry::Part(format!("labels of {longest} characters"))
                }
                _ => Carry::Less("the order of the labels".to_owned()),
            }
        }
        (_, TypeKind::Enum(_)) if texts::is_text(from) => {
            Carry::Part("texts that are no label".to_owned())
        }
        (TypeKind::Simple | TypeKind::Dollars, TypeKind::Simple | TypeKind::Dollars) => {
            simple(from, to)
        }
        _ => Carry::Never,
    }
}

fn same_or_never(a: &PgType, b: &PgType) -> Carry {
    match carry(Declared::new(a, -1), Declared::new(b, -1)) {
        Carry::All if a.base().name == b.base().name => Carry::All,
        _ => Carry::Never,
    }
}

fn labels(from: &[String], to: &[String]) -> Carry {
    let missing: Vec<&str> =
        from.iter().filter(|label| !to.contains(label)).map(String::as_str).collect();
    if missing.is_empty() {
        Carry::All
    } else {
        Carry::Part(format!("the labels {}", missing.join(", ")))
    }
}

fn simple(from: Declared<'_>, to: Declared<'_>) -> Carry {
    let rules = [numbers::carry, texts::carry, times::carry, bits];
    if let Some(found) = rules.iter().find_map(|rule| rule(from, to)) {
        return found;
    }
    match (from.name(), to.name()) {
        (a, b) if a == b => Carry::All,
        ("cidr", "inet") => Carry::All,
        ("inet", "cidr") => Carry::Part("addresses with bits to the right of the mask".to_owned()),
        _ => Carry::Never,
    }
}

/// `bit(n)` is filled to its length, `varbit(n)` is not.
fn bits(from: Declared<'_>, to: Declared<'_>) -> Option<Carry> {
    let length = |it: &Declared<'_>| (it.modifier >= 0).then_some(it.modifier);
    let part = |limit: i32| Some(Carry::Part(format!("strings of other than {limit} bits")));
    match (from.name(), to.name()) {
        ("bit", "bit") if from.modifier == to.modifier => Some(Carry::All),
        ("bit" | "varbit", "bit") => part(to.modifier.max(1)),
        ("bit" | "varbit", "varbit") => match (length(&from), length(&to)) {
            (_, None) => Some(Carry::All),
            (Some(has), Some(limit)) if has <= limit => Some(Carry::All),
            (_, Some(limit)) => Some(Carry::Part(format!("strings of more than {limit} bits"))),
        },
        _ => None,
    }
}
