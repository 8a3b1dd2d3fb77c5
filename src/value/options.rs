//! What the text of a value depends on besides its bytes.

/// What must be known of the server to write its text. The default writes no value whose
/// text would be a guess.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextOptions {
    /// How the server writes `money`; without it `money` is not decoded (it is opaque).
    pub money: Option<MoneyStyle>,
}

/// How `money` reads under the server's `lc_monetary`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoneyStyle {
    /// Digits after the decimal point: the binary value counts units of the last one.
    pub fraction_digits: u32,
    symbol: String,
    separator: String,
    point: String,
}

/// The value whose text [`MoneyStyle::from_sample`] reads, as SQL: `SELECT` this.
pub const MONEY_SAMPLE_SQL: &str = "(1234567.89::pg_catalog.numeric)::pg_catalog.money::pg_catalog.text \
     || ' ' || ((-1234567.89)::pg_catalog.numeric)::pg_catalog.money::pg_catalog.text";

impl MoneyStyle {
    /// The style of locales C and en_US: `$1,234.50` and `-$1,234.50`.
    pub fn dollars() -> Self {
        Self {
            fraction_digits: 2,
            symbol: "$".to_owned(),
            separator: ",".to_owned(),
            point: ".".to_owned(),
        }
    }

    /// Reads the server's text for [`MONEY_SAMPLE_SQL`]. Only a style that is known to be
    /// written right for all values is taken; `None` leaves `money` undecoded.
    pub fn from_sample(sample: &str) -> Option<Self> {
        let style = Self::dollars();
        let wanted = format!("{} {}", style.text(123_456_789), style.text(-123_456_789));
        (sample == wanted).then_some(style)
    }

    /// PostgreSQL's text for a binary value.
    pub fn text(&self, units: i64) -> String {
        let plain = units.unsigned_abs().to_string();
        let fraction = usize::try_from(self.fraction_digits).unwrap_or(usize::MAX).min(18);
        let padded = format!("{plain:0>width$}", width = fraction.saturating_add(1));
        let (whole, cents) = padded.split_at(padded.len().saturating_sub(fraction));
        let mut out = String::with_capacity(padded.len() + 8);
        if units < 0 {
            out.push('-');
        }
        out.push_str(&self.symbol);
        for (index, digit) in whole.chars().enumerate() {
            if index > 0 && (whole.len() - index).is_multiple_of(3) {
                out.push_str(&self.separator);
            }
            out.push(digit);
        }
        if fraction > 0 {
            out.push_str(&self.point);
            out.push_str(cents);
        }
        out
    }

    /// The value as a plain decimal, such as `numeric` reads.
    pub fn plain(&self, units: i64) -> String {
        let bare = Self {
            symbol: String::new(),
            separator: String::new(),
            point: ".".to_owned(),
            fraction_digits: self.fraction_digits,
        };
        bare.text(units)
    }
}
