//! The answer to a look at the control row.

use tokio_postgres::SimpleQueryMessage;

pub(super) fn first(answer: &[SimpleQueryMessage], column: usize) -> Option<String> {
    answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(column).map(str::to_owned),
        _ => None,
    })
}
