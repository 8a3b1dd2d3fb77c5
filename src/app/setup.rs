//! Segue's own tables at start, and what works off the outbox.
