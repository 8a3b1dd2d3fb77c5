//! Whoever takes all connections of a server and leaves none to segue.

use tokio_postgres::Client;

use super::database::try_connect;

const END_SEGUES: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE application_name LIKE 'segue%'";

/// All connections that a server has, those included that segue had. They come free with the
/// value.
#[derive(Debug)]
pub struct Hogs(Vec<Client>);

impl Hogs {
    /// Takes what is free, ends segue's sessions, and takes theirs before it can have them again.
    pub async fn take_all(dsn: &str) -> Self {
        Self::try_take_all(dsn).await.expect("the server is there")
    }

    /// The same of a server that may be killed at any moment; an error where it was.
    pub async fn try_take_all(dsn: &str) -> Result<Self, tokio_postgres::Error> {
        let first = try_connect(dsn).await?;
        let mut hogs = Self(Vec::new());
        hogs.take_the_rest(dsn).await;
        first.batch_execute(END_SEGUES).await?;
        hogs.0.push(first);
        hogs.take_the_rest(dsn).await;
        Ok(hogs)
    }

    async fn take_the_rest(&mut self, dsn: &str) {
        while let Ok(hog) = try_connect(dsn).await {
            self.0.push(hog);
        }
    }
}
