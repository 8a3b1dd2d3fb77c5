//! Consistency tokens: a call that brings them sees the writes that they cover.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Failure;

/// Consistency tokens. A client has its own, which all its calls keep and bring;
/// [`crate::Client::with_tokens`] gives calls others, such as those of one user's session.
#[derive(Debug, Clone, Default)]
pub struct Tokens(Arc<Mutex<Vec<String>>>);

impl Tokens {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes tokens of another process, as [`Tokens::list`] gave them.
    pub fn add<T: Into<String>>(&self, tokens: impl IntoIterator<Item = T>) {
        let mut held = self.held();
        for token in tokens {
            put(&mut held, token.into());
        }
    }

    /// The tokens, to be passed on to another process.
    pub fn list(&self) -> Vec<String> {
        self.held().clone()
    }

    /// Puts an answer's token in the place of what its call brought. What other calls got meanwhile stays.
    pub(crate) fn replace(&self, brought: &[String], token: String) {
        let mut held = self.held();
        held.retain(|it| !brought.contains(it));
        put(&mut held, token);
    }

    /// Takes the token of an error; where there is none, what the call brought stays.
    pub(crate) fn failed(&self, brought: &[String], failure: &Failure) {
        if !failure.token.is_empty() {
            self.replace(brought, failure.token.clone());
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put(held: &mut Vec<String>, token: String) {
    if !token.is_empty() && !held.contains(&token) {
        held.push(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_token_replaces_what_its_call_brought_and_nothing_else() {
        let tokens = Tokens::new();
        tokens.add(["a", "b", "a", ""]);
        let brought = tokens.list();
        assert_eq!(brought, ["a", "b"]);
        tokens.add(["of another call"]);
        tokens.replace(&brought, "c".to_owned());
        assert_eq!(tokens.list(), ["of another call", "c"]);
        tokens.replace(&tokens.list(), String::new());
        assert!(tokens.list().is_empty());
    }
}
