//! Values in reports, without saying what they are.

/// What a value is like: its kind and its length.
pub fn redacted(value: &str) -> String {
    if value == "NULL" {
        return "NULL".to_owned();
    }
    let count = value.chars().count();
    let kind = if value.chars().all(|c| c.is_ascii_digit() || "+-.".contains(c)) {
        "number"
    } else {
        "value"
    };
    format!("({kind} of {count} characters)")
}
