//! Everything that speaks to a database; the only place that knows tokio-postgres.
