//! The password file of libpq, `~/.pgpass`.

/// The password in `hostname:port:database:username:password` lines that fits, with `*` for
/// anything and `\` before `:` and `\` in a field.
pub fn password_for(
    contents: &str,
    host: &str,
    port: u16,
    database: &str,
    user: &str,
) -> Option<String> {
    let port = port.to_string();
    contents.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = fields(line);
        if fields.len() != 5 {
            return None;
        }
        let password = fields.pop()?;
        let wanted = [host, port.as_str(), database, user];
        let fits = fields.iter().zip(wanted).all(|(field, value)| field == "*" || field == value);
        fits.then_some(password)
    })
}

fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let literal = match character {
            ':' if fields.len() < 5 => {
                fields.push(String::new());
                continue;
            }
            '\\' => characters.next(),
            other => Some(other),
        };
        if let Some(last) = fields.last_mut() {
            last.extend(literal);
        }
    }
    fields
}
