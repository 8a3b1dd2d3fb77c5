//! Every reason that segue gives for a call or a command that failed: its stable name, why, and what
//! to do about it. `docs/reference/errors.md` is made from it.

use std::fmt;

macro_rules! reasons {
    ($($(#! $part:literal)? $name:ident $text:literal $why:literal $way_out:literal;)+) => {
        /// Why something failed, where it was not a database that refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            /// None of segue's: what the database said tells why.
            Database,
            $(#[doc = $why] $name,)+
        }

        impl Reason {
            /// All of segue's own, as the documentation lists them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its stable name; empty where a database refused.
            pub fn as_str(self) -> &'static str {
                match self { Self::Database => "", $(Self::$name => $text,)+ }
            }

            /// What it means.
            pub fn why(self) -> &'static str {
                match self { Self::Database => "the database refused", $(Self::$name => $why,)+ }
            }

            /// What to do about it.
            pub fn way_out(self) -> &'static str {
                match self {
                    Self::Database => "see the SQLSTATE in PostgreSQL's documentation",
                    $(Self::$name => $way_out,)+
                }
            }

            /// The part of the list that begins with it.
            pub fn part(self) -> Option<&'static str> {
                match self { $($(Self::$name => Some($part),)?)+ _ => None }
            }
        }
    };
}

mod list;

pub use list::Reason;

// === impl Reason ===

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_stable_texts_and_each_reason_has_a_why_and_a_way_out() {
        let mut names = BTreeSet::new();
        for reason in Reason::ALL {
            let name = reason.as_str();
            assert!(names.insert(name), "{name} stands there twice");
            assert!(
                name.chars().all(|it| it.is_ascii_lowercase() || matches!(it, '.' | '_')),
                "{name}"
            );
            for text in [reason.why(), reason.way_out()] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{name}: {text}");
            }
        }
    }
}
