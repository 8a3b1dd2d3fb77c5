//! Who listens to the control row is told of a change.

use crate::postgres::session::Session;

/// Who listens is told when the transaction commits.
pub(in crate::postgres) const NOTIFY: &str = "pg_catalog.pg_notify('segue_control', '')";

/// A statement that changes the row in a part named `changed`, with an end that counts, and
/// tells who listens.
pub(in crate::postgres) fn told(session: &Session, changing: &str) -> String {
    match session.dialect().has_notify() {
        false => quietly(changing),
        true => format!("{changing}\nSELECT pg_catalog.count({NOTIFY}) FROM changed"),
    }
}

pub(super) fn quietly(changing: &str) -> String {
    format!("{changing}\nSELECT pg_catalog.count(*) FROM changed")
}
