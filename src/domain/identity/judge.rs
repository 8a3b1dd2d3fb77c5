//! Whether two databases are the two sides of one migration.

use super::{Found, Identity, Seen};
use crate::domain::control::Phase;
use crate::domain::side::{Side, Sides};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A sidecar, or a command that works on what there is.
    ToGoOn,
    /// An operator who sets the migration up.
    ToSetUp,
}

/// What two databases are to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The two sides of this migration.
    Agreed(Identity),
    /// They belong to no migration yet, or that was begun and not finished.
    TakeOn {
        /// The ids that were begun with.
        begun: Option<Identity>,
        /// They were set up by a segue that wrote no identities.
        earlier: bool,
    },
    /// The one that is there is the primary, and was set up by a segue that wrote no identities; the
    /// other one is away, and the application must not wait for it.
    NotYet,
    /// Not the two sides of one migration.
    Refused {
        /// Both, and what is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
}

const CORRECT: &str = "correct source.dsn or target.dsn";
const ADOPT_TARGET: &str =
    "where the target is another one on purpose: segue adopt target --reason";

/// Judges what was found. `names` are the databases as the configuration names them; a side that
/// is away is `None`, and held against the other one when it comes back.
pub fn judge(names: &Sides<String>, seen: &Sides<Option<Seen>>, asked: Asked) -> Standing {
    let case = Case { names, seen };
    match (&seen.source, &seen.target) {
        (Some(source), Some(target)) => match (&source.found, &target.found) {
            (Some(one), Some(other)) => case.both(one, other),
            (Some(one), None) => case.source_alone(one, source, target, asked),
            (None, Some(_)) => {
                case.refused("these are not the two sides of one migration", CORRECT)
            }
            (None, None) => case.neither(source, target, asked),
        },
        (Some(there), None) => case.one(Side::Source, there),
        (None, Some(there)) => case.one(Side::Target, there),
        (None, None) => case.refused("neither side can be asked", "see whether they are running"),
    }
}

struct Case<'a> {
    names: &'a Sides<String>,
    seen: &'a Sides<Option<Seen>>,
}

// === impl Case ===

impl Case<'_> {
    fn both(&self, source: &Found, target: &Found) -> Standing {
        let not_one = "these are not the two sides of one migration";
        if source.identity.migration != target.identity.migration {
            return self.refused(not_one, &format!("{CORRECT}; {ADOPT_TARGET}"));
        }
        match (source.side, target.side) {
            (Side::Source, Side::Target) => {}
            (Side::Target, Side::Source) => {
                return self
                    .refused("source and target are swapped", "swap source.dsn and target.dsn");
            }
            _ => return self.refused(not_one, CORRECT),
        }
        if source.identity != target.identity {
            return self.refused(
                "the target is not the one that this migration has now",
                &format!("{CORRECT}; {ADOPT_TARGET}"),
            );
        }
        if !source.paired {
            return Standing::TakeOn { begun: Some(source.identity), earlier: false };
        }
        self.moved().or_else(|| self.gone_back()).unwrap_or(Standing::Agreed(source.identity))
    }

    /// The target carries nothing.
    fn source_alone(&self, found: &Found, source: &Seen, target: &Seen, asked: Asked) -> Standing {
        let begun = found.side == Side::Source && !found.paired;
        // Between the two writes of a start nothing can have been copied, or the target has
        // segue's tables of before.
        let may_go_on = asked == Asked::ToSetUp || target.version > 0 || !copies(source);
        match begun {
            true if may_go_on => Standing::TakeOn { begun: Some(found.identity), earlier: false },
            true => self.refused(
                "another target was adopted, and that was interrupted",
                "run segue adopt target again, with its --reason",
            ),
            false => self.refused(
                "these are not the two sides of one migration",
                &format!("{CORRECT}; {ADOPT_TARGET}"),
            ),
        }
    }

    /// A segue of before wrote no identities. What it wrote says who belongs together, as far as
    /// that goes.
    fn neither(&self, source: &Seen, target: &Seen, asked: Asked) -> Standing {
        let earlier = source.version > 0 && target.version > 0;
        let same = source.control == target.control;
        let nothing_copied = !copies(source) && !copies(target);
        if nothing_copied || earlier && (same || asked == Asked::ToSetUp) {
            return Standing::TakeOn { begun: None, earlier: earlier && !nothing_copied };
        }
        let why = match earlier {
            true => "their control rows are not of one epoch and phase",
            false => {
                "one of them has no tables of segue, and the phase of the other relies on them"
            }
        };
        self.refused(
            &format!("these do not seem to be the two sides of one migration: {why}"),
            &format!("{CORRECT}; run segue init where they are"),
        )
    }

    /// The other side is away.
    fn one(&self, side: Side, there: &Seen) -> Standing {
        match &there.found {
            Some(found) if found.side != side => {
                self.refused("source and target are swapped", "swap source.dsn and target.dsn")
            }
            Some(found) if !found.paired => self.refused(
                "the migration is not set up completely",
                "run segue init when both sides are there",
            ),
            Some(found) => self.moved().unwrap_or(Standing::Agreed(found.identity)),
            None if there.names_itself(side) => Standing::NotYet,
            None => self.refused(
                "it is not known whether these are the two sides of one migration",
                "start again when both sides are there",
            ),
        }
    }

    /// A side that is not where its identity was written is a copy, or was restored elsewhere.
    fn moved(&self) -> Option<Standing> {
        let is_copy = |side: &Side| {
            self.seen.of(*side).as_ref().is_some_and(|seen| {
                seen.found.as_ref().is_some_and(|it| !it.written_at.agrees(&seen.here))
            })
        };
        let side = [Side::Source, Side::Target].into_iter().find(is_copy)?;
        let seen = self.seen.of(side).as_ref()?;
        let written_at = seen.found.as_ref().map(|it| &it.written_at)?;
        let what = format!(
            "the {side} is a copy, or was restored or upgraded elsewhere: its identity was written \
             at {written_at}, and this is {}",
            seen.here
        );
        let hint = match side {
            side if side == self.primary() => format!(
                "correct {side}.dsn; where it is the one to go on with: segue adopt primary --reason"
            ),
            Side::Target => format!("{CORRECT}; {ADOPT_TARGET}"),
            Side::Source => "correct source.dsn".to_owned(),
        };
        Some(self.refused(&what, &hint))
    }

    /// A primary whose generation is older than what the other side has seen of it has lost what
    /// was acknowledged.
    fn gone_back(&self) -> Option<Standing> {
        let primary = self.primary();
        let found = |side| self.seen.of(side).as_ref().and_then(|seen| seen.found.as_ref());
        let (own, other) = (found(primary)?, found(primary.other())?);
        if own.generation >= other.other_generation {
            return None;
        }
        let what = format!(
            "the {primary}, which is the primary, went back in time, and what was acknowledged \
             since is gone from it: its generation is {}, and the {} has seen {}",
            own.generation,
            primary.other(),
            other.other_generation
        );
        Some(self.refused(
            &what,
            "restore its newest state; to go on with what it has: segue adopt primary --reason",
        ))
    }

    /// By the control row of the higher epoch.
    fn primary(&self) -> Side {
        let control = |side| self.seen.of(side).as_ref().and_then(|seen| seen.control);
        let both = [control(Side::Source), control(Side::Target)].into_iter().flatten();
        both.max_by_key(|(epoch, _)| *epoch).map_or(Side::Source, |(_, phase)| phase.primary())
    }

    fn refused(&self, what: &str, hint: &str) -> Standing {
        let told = |side: Side| {
            let name = self.names.of(side);
            match self.seen.of(side) {
                None => format!("{name} is away"),
                Some(Seen { found: Some(found), .. }) => format!("{name} is {found}"),
                Some(Seen { version: 0, .. }) => format!("{name} has no tables of segue"),
                Some(_) => format!("{name} carries no identity of a migration"),
            }
        };
        let (source, target) = (told(Side::Source), told(Side::Target));
        let message = format!("{what}: {source}, and {target}");
        Standing::Refused { message, hint: hint.to_owned() }
    }
}

/// Something may have been copied from or to it.
fn copies(seen: &Seen) -> bool {
    seen.control.is_some_and(|(_, phase)| phase != Phase::SourceOnly)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::identity::Place;

    fn identity(number: u128) -> Identity {
        let id = |at| Uuid::from_u128(number * 10 + at);
        Identity { migration: id(0), sides: Sides { source: id(1), target: id(2) } }
    }

    fn place(side: Side) -> Place {
        Place { system: format!("system of {side}"), database: "5".to_owned() }
    }

    fn seen(side: Side, identity: Identity, phase: Phase) -> Seen {
        let found = Found {
            identity,
            side,
            paired: true,
            written_at: place(side),
            generation: 7,
            other_generation: 7,
        };
        Seen { version: 1, found: Some(found), here: place(side), control: Some((3, phase)) }
    }

    fn both(phase: Phase) -> Sides<Option<Seen>> {
        let of = |side| Some(seen(side, identity(1), phase));
        Sides { source: of(Side::Source), target: of(Side::Target) }
    }

    fn found(seen: &mut Option<Seen>) -> &mut Found {
        seen.as_mut().and_then(|seen| seen.found.as_mut()).unwrap()
    }

    fn judged(seen: &Sides<Option<Seen>>, asked: Asked) -> Standing {
        let names = Sides { source: "source a/one".to_owned(), target: "target b/two".to_owned() };
        judge(&names, seen, asked)
    }

    /// The message, which names both databases, and the way out.
    fn refused(seen: &Sides<Option<Seen>>) -> (String, String) {
        let Standing::Refused { message, hint } = judged(seen, Asked::ToGoOn) else {
            panic!("taken for one migration: {seen:?}")
        };
        assert!(message.contains("a/one") && message.contains("b/two"), "{message}");
        (message, hint)
    }

    fn none(version: i32, phase: Option<Phase>) -> Option<Seen> {
        Some(Seen { version, control: phase.map(|phase| (3, phase)), ..Seen::default() })
    }

    #[test]
    fn two_sides_of_one_migration_are_taken_with_either_away() {
        let pair = both(Phase::Shift);
        let agreed = Standing::Agreed(identity(1));
        assert_eq!(judged(&pair, Asked::ToGoOn), agreed);
        assert_eq!(judged(&pair, Asked::ToSetUp), agreed);
        let alone = Sides { target: None, ..pair.clone() };
        assert_eq!(judged(&alone, Asked::ToGoOn), agreed);
        let alone = Sides { source: None, ..pair };
        assert_eq!(judged(&alone, Asked::ToGoOn), agreed);
    }

    #[test]
    fn another_target_is_refused_whatever_it_is() {
        let pair = || both(Phase::DualWrite);
        let other = Some(seen(Side::Target, identity(2), Phase::DualWrite));
        let (message, hint) = refused(&Sides { target: other, ..pair() });
        assert!(message.contains(&identity(2).migration.to_string()), "{message}");
        assert!(hint.contains("segue adopt target"), "{hint}");
        for empty in [none(0, None), none(1, Some(Phase::SourceOnly))] {
            let (_, hint) = refused(&Sides { target: empty, ..pair() });
            assert!(hint.contains("segue adopt target"), "{hint}");
        }
        let mut earlier = pair();
        found(&mut earlier.target).identity.sides.target = Uuid::from_u128(99);
        assert!(refused(&earlier).0.contains("not the one that this migration has now"));
        let mut copy = pair();
        copy.target.as_mut().unwrap().here.database = "6".to_owned();
        assert!(refused(&copy).0.contains("a copy"));
        // What cannot be asked says nothing.
        copy.target.as_mut().unwrap().here = Place::default();
        assert_eq!(judged(&copy, Asked::ToGoOn), Standing::Agreed(identity(1)));
    }

    #[test]
    fn another_source_is_refused_and_so_are_sides_that_are_swapped() {
        let pair = || both(Phase::DualWrite);
        refused(&Sides { source: none(0, None), ..pair() });
        let other = Some(seen(Side::Source, identity(2), Phase::DualWrite));
        refused(&Sides { source: other, ..pair() });
        let Sides { source, target } = pair();
        let swapped = Sides { source: target, target: source };
        assert!(refused(&swapped).0.contains("swapped"));
        assert!(refused(&Sides { target: None, ..swapped }).0.contains("swapped"));
        let mut elsewhere = pair();
        elsewhere.source.as_mut().unwrap().here.system = "another".to_owned();
        assert!(refused(&elsewhere).1.contains("segue adopt primary"));
    }

    #[test]
    fn a_primary_that_went_back_is_refused_and_a_shadow_is_not() {
        let mut pair = both(Phase::DualWrite);
        found(&mut pair.source).generation = 6;
        let (message, hint) = refused(&pair);
        assert!(message.contains("went back in time"), "{message}");
        assert!(hint.contains("segue adopt primary"), "{hint}");
        let mut pair = both(Phase::DualWrite);
        found(&mut pair.target).generation = 6;
        assert_eq!(judged(&pair, Asked::ToGoOn), Standing::Agreed(identity(1)));
        // It was restored to a state in which the other side was the primary yet.
        pair.source.as_mut().unwrap().control = Some((4, Phase::Reversed));
        assert!(refused(&pair).0.contains("the target, which is the primary, went back"));
    }

    #[test]
    fn what_carries_no_identity_is_taken_on_only_where_nothing_speaks_against_it() {
        let of = |source, target| Sides { source, target };
        let new = Standing::TakeOn { begun: None, earlier: false };
        let earlier = Standing::TakeOn { begun: None, earlier: true };
        let copying = || none(1, Some(Phase::DualWrite));
        let idle = || none(1, Some(Phase::SourceOnly));
        assert_eq!(judged(&of(none(0, None), none(0, None)), Asked::ToGoOn), new);
        assert_eq!(judged(&of(idle(), none(0, None)), Asked::ToGoOn), new);
        assert_eq!(judged(&of(idle(), idle()), Asked::ToGoOn), new);
        assert_eq!(judged(&of(copying(), copying()), Asked::ToGoOn), earlier);
        for (source, target) in [(copying(), none(0, None)), (none(0, None), copying())] {
            assert!(refused(&of(source, target)).1.contains("segue init"));
        }
        let unlike = of(copying(), idle());
        refused(&unlike);
        assert_eq!(judged(&unlike, Asked::ToSetUp), earlier);
        assert_eq!(judged(&of(copying(), None), Asked::ToGoOn), Standing::NotYet);
        refused(&of(None, copying()));
    }

    #[test]
    fn what_was_begun_goes_on_with_the_same_ids() {
        let begun = || {
            let mut pair = both(Phase::SourceOnly);
            found(&mut pair.source).paired = false;
            pair
        };
        let on = Standing::TakeOn { begun: Some(identity(1)), earlier: false };
        assert_eq!(judged(&begun(), Asked::ToGoOn), on);
        let alone = Sides { target: none(0, None), ..begun() };
        assert_eq!(judged(&alone, Asked::ToGoOn), on);
        refused(&Sides { target: None, ..begun() });
        // Another target that was adopted is none that a sidecar may choose.
        let mut adopted = alone;
        adopted.source.as_mut().unwrap().control = Some((4, Phase::DualWrite));
        assert!(refused(&adopted).1.contains("segue adopt target"));
        assert_eq!(judged(&adopted, Asked::ToSetUp), on);
    }
}
