//! Pages of lists: sizes, and the tokens that callers hand back.
//!
//! A token is opaque to callers: the name of the list and a cursor, as JSON in hexadecimal.

use std::collections::HashSet;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::page::{Cursor, Page, PageRequest};
use crate::domain::reason::Reason;

/// Entries of a page whose request names no size.
const SIZE_DEFAULT: u32 = 100;
/// The most entries of a page: a page of large entries must fit into a message.
const SIZE_MAX: u32 = 1000;
/// Entries of a list that is paged by what was given already: the token names each of them, and must
/// fit into a message.
const GIVEN_MAX: usize = 50_000;
/// Hexadecimal digits that name an entry in such a token: 64 bits.
const NAME_DIGITS: usize = 16;

/// The page that a request asks for.
///
/// # Errors
///
/// `InvalidArgument` for a token that was not made for this list.
pub(super) fn request(list: &str, size: u32, token: &str) -> Result<PageRequest, SqlFault> {
    let size = if size == 0 { SIZE_DEFAULT } else { size.min(SIZE_MAX) };
    let after = if token.is_empty() { None } else { Some(decode(list, token)?) };
    Ok(PageRequest { size, after })
}

/// The token of the page that follows; empty where none does.
pub(super) fn token(list: &str, next: Option<&Cursor>) -> String {
    let Some(Cursor(parts)) = next else { return String::new() };
    let text = serde_json::json!([list, parts]).to_string();
    let mut token = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        // Writing to a String cannot fail.
        let _ = write!(token, "{byte:02x}");
    }
    token
}

fn decode(list: &str, token: &str) -> Result<Cursor, SqlFault> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = token.as_bytes().chunks(2).map(byte).collect();
    let parsed = bytes.and_then(|it| serde_json::from_slice::<(String, Vec<String>)>(&it).ok());
    match parsed {
        Some((of, parts)) if of == list => Ok(Cursor(parts)),
        _ => Err(refused()),
    }
}

/// A token that is not of this list.
pub(super) fn refused() -> SqlFault {
    let message = "page_token was not made by segue for this list";
    SqlFault::new(FaultKind::InvalidArgument, Reason::InvalidPageToken, message).with_hint(
        "hand next_page_token back as it came, with the other fields of the request unchanged, or \
         begin again without a token",
    )
}

/// How many entries must be read for a page of a list whose order changes while it is read: those that
/// were given may still be the first ones. One more says whether a page follows.
pub(super) fn needed(request: &PageRequest) -> u32 {
    let given = request.after.as_ref().map_or(0, |Cursor(given)| given.len());
    u32::try_from(given).unwrap_or(u32::MAX).saturating_add(request.size).saturating_add(1)
}

/// The page of such a list: what was not given yet, in the order of now. The cursor names all that was
/// given.
///
/// # Errors
///
/// `LimitExceeded` where the cursor would name too many.
pub(super) fn unseen<T>(
    found: Vec<T>,
    request: &PageRequest,
    key: impl Fn(&T) -> String,
) -> Result<Page<T>, SqlFault> {
    let name = |entry: &T| {
        let digest = Sha256::digest(key(entry));
        let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        text[..NAME_DIGITS].to_owned()
    };
    let mut given: Vec<String> = request.after.clone().map(|it| it.0).unwrap_or_default();
    let seen: HashSet<&str> = given.iter().map(String::as_str).collect();
    let fresh: Vec<T> = found.into_iter().filter(|it| !seen.contains(name(it).as_str())).collect();
    let mut page = Page::cut(fresh, request.size, |_| Cursor(Vec::new()));
    if page.next.is_some() {
        given.extend(page.items.iter().map(name));
        if given.len() > GIVEN_MAX {
            let message = format!("the list has more than {GIVEN_MAX} entries");
            return Err(SqlFault::new(FaultKind::LimitExceeded, Reason::ListTooLong, message)
                .with_hint("resolve entries, and list again"));
        }
        page.next = Some(Cursor(given));
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_one_list() {
        let cursor = Cursor(vec!["a\u{e9}".to_owned(), String::new()]);
        let made = token("outbox", Some(&cursor));
        assert_eq!(request("outbox", 0, &made).unwrap().after, Some(cursor));
        assert_eq!(request("outbox", 5000, "").unwrap(), PageRequest { size: 1000, after: None });
        for (list, token) in [
            ("history", made.as_str()),
            ("outbox", "7"),
            ("outbox", "zz"),
            ("outbox", "5b5d"),
            ("outbox", "é"),
        ] {
            let fault = request(list, 0, token).unwrap_err();
            assert_eq!(fault.kind, FaultKind::InvalidArgument, "{token}");
        }
    }

    #[test]
    fn what_stays_in_a_list_is_given_once_whatever_its_order() {
        let page = |found: &[&str], after| {
            let request = PageRequest { size: 2, after };
            assert!(needed(&request) as usize > 2);
            let found: Vec<String> = found.iter().map(|it| (*it).to_owned()).collect();
            unseen(found, &request, Clone::clone).unwrap()
        };
        let first = page(&["a", "b", "c", "d", "e"], None);
        assert_eq!(first.items, ["a", "b"]);
        // "e" is the most frequent now, "n" is new, "c" is gone.
        let second = page(&["e", "a", "n", "b", "d"], first.next);
        assert_eq!(second.items, ["e", "n"]);
        let last = page(&["e", "a", "n", "b", "d"], second.next);
        assert_eq!((last.items, last.next), (vec!["d".to_owned()], None));
    }
}
