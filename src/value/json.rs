//! JSON read for comparing: exact decimals, the last of duplicate keys, no order of keys.

use std::collections::BTreeMap;

use crate::value::decimal::Decimal;

/// Documents nested deeper than this are not read; they are compared as text.
const DEPTH_MAX: usize = 512;

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Exact.
    Number(Decimal),
    /// Escapes resolved.
    String(String),
    /// In order.
    Array(Vec<Json>),
    /// Without the order of the keys; the last of equal keys.
    Object(BTreeMap<String, Json>),
}

/// Reads a document. `None` where it is none, is nested too deep, or holds what Rust's
/// text or a decimal cannot (a lone surrogate, an exponent beyond counting).
pub fn parse(text: &str) -> Option<Json> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0)?;
    parser.space();
    (parser.at == text.len()).then_some(value)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, token: &str) -> Option<()> {
        self.rest().starts_with(token).then(|| self.at += token.len())
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.space();
        match self.peek()? {
            b'n' => self.eat("null").map(|()| Json::Null),
            b't' => self.eat("true").map(|()| Json::Bool(true)),
            b'f' => self.eat("false").map(|()| Json::Bool(false)),
            b'"' => self.string().map(Json::String),
            b'[' => self.array(depth),
            b'{' => self.object(depth),
            _ => self.number(),
        }
    }

    fn array(&mut self, depth: usize) -> Option<Json> {
        self.eat("[")?;
        let mut elements = Vec::new();
        self.space();
        if self.eat("]").is_some() {
            return Some(Json::Array(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            self.space();
            if self.eat(",").is_none() {
                self.eat("]")?;
                return Some(Json::Array(elements));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        self.eat("{")?;
        let mut members = BTreeMap::new();
        self.space();
        if self.eat("}").is_some() {
            return Some(Json::Object(members));
        }
        loop {
            self.space();
            let key = self.string()?;
            self.space();
            self.eat(":")?;
            members.insert(key, self.value(depth + 1)?);
            self.space();
            if self.eat(",").is_none() {
                self.eat("}")?;
                return Some(Json::Object(members));
            }
        }
    }

    fn number(&mut self) -> Option<Json> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
            .unwrap_or(rest.len());
        let number = rest.get(..end)?;
        self.at += end;
        if number.starts_with('+') {
            return None;
        }
        Decimal::parse(number).map(Json::Number)
    }

    fn string(&mut self) -> Option<String> {
        self.eat("\"")?;
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let plain = rest.find(['"', '\\'])?;
            out.push_str(rest.get(..plain)?);
            self.at += plain;
            if self.eat("\"").is_some() {
                return Some(out);
            }
            self.eat("\\")?;
            let escape = self.peek()?;
            // An escape is one ASCII character; any other is a fault below.
            self.at += 1;
            out.push(match escape {
                b'"' => '"',
                b'\\' => '\\',
                b'/' => '/',
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => self.unicode()?,
                _ => return None,
            });
        }
    }

    fn unicode(&mut self) -> Option<char> {
        let first = self.hex()?;
        if !(0xD800..0xDC00).contains(&first) {
            return char::from_u32(first);
        }
        self.eat("\\u")?;
        let second = self.hex()?.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
        char::from_u32(0x10000 + ((first - 0xD800) << 10) + second)
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.rest().get(..4)?;
        self.at += 4;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_space_and_repeated_keys_do_not_count() {
        let left = parse(r#" {"a": 1, "b": [true, null], "a": 2.50} "#).unwrap();
        let right = parse(r#"{"b":[true,null],"a":25e-1}"#).unwrap();
        assert_eq!(left, right);
    }

    #[test]
    fn numbers_are_exact() {
        assert_ne!(parse("9007199254740993"), parse("9007199254740992"));
        assert_ne!(parse("0.1"), parse("0.10000000000000000001"));
        assert_eq!(parse("1.00"), parse("1"));
        assert_ne!(parse("1"), parse("\"1\""));
    }

    #[test]
    fn escapes_are_resolved() {
        assert_eq!(parse(r#""\u00e9\n\ud83d\ude00""#), parse("\"é\\n😀\""));
        assert_eq!(parse(r#""\ud83d""#), None);
    }

    #[test]
    fn what_is_no_json_is_none() {
        for text in ["", "{", "[1,]", "tru", "1 2", "\"", "{\"a\"}", "+1", "\"\\é\"", "nul", "-"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"[".repeat(100_000)), None);
    }
}
