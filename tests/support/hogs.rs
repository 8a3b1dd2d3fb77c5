//! Whoever takes all connections of a server and leaves none to segue.

use tokio_postgres::Client;

use super::database::{connect, try_connect};

const END_SEGUES: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE application_name LIKE 'segue%'";

/// All connections that a server has, those included that segue had. They come free with the
/// value.
#[derive(Debug)]
pub struct Hogs(Vec<Client>);

impl Hogs {
    /// Takes what is free, ends segue's sessions, and takes theirs before it can have them again.
    pub async fn take_all(dsn: &str) -> Self {
        let first = connect(dsn).await;
        let mut hogs = Self(Vec::new());
        hogs.take_the_rest(dsn).await;
        first.batch_execute(END_SEGUES).await.unwrap();
        hogs.0.push(first);
        hogs.take_the_rest(dsn).await;
        hogs
    }

    async fn take_the_rest(&mut self, dsn: &str) {
        while let Ok(hog) = try_connect(dsn).await {
            self.0.push(hog);
        }
    }
}
