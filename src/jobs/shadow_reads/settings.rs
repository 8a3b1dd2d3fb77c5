//! Whether a difference comes from the settings of the sessions, and not from the data.
//!
//! The statement is run on the shadow once more, under the settings of the primary's sessions. A
//! difference that is gone then lies in the settings.

use std::fmt::Write;

use crate::compare;
use crate::domain::answer::Observed;
use crate::domain::call::BoundStatement;
use crate::domain::value::Value;
use crate::domain::verdict::{Comparison, Verdict};
use crate::jobs::shadow_reads::Inner;
use crate::jobs::shadow_reads::look::Looks;
use crate::ports::{Database, SessionSetting};
use crate::statement::Analysis;

/// What answers of statements depend on, by PostgreSQL's documentation of client connection
/// defaults and of compatibility options.
const LOOKED_AT: &str = "SELECT s.name::pg_catalog.text, pg_catalog.current_setting(s.name) \
    FROM pg_catalog.pg_settings AS s WHERE s.name IN ('array_nulls', 'bytea_output', \
        'DateStyle', 'default_text_search_config', 'extra_float_digits', 'IntervalStyle', \
        'lc_monetary', 'lc_numeric', 'lc_time', 'quote_all_identifiers', 'search_path', \
        'standard_conforming_strings', 'TimeZone', 'timezone_abbreviations', \
        'transform_null_equals', 'xmlbinary', 'xmloption') \
    ORDER BY s.name";

/// One setting that the two sides' sessions have differently.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Differing {
    name: String,
    primary: String,
    shadow: String,
}

impl Looks<'_> {
    /// The verdict on a difference that comes from settings: they differ, and under the primary's
    /// the answers agree. Nothing where it does not come from them.
    pub(super) async fn by_settings(
        &self,
        first: &Comparison,
    ) -> Result<Option<Comparison>, &'static str> {
        let (inner, suspect) = (self.inner, self.suspect);
        let differing = differing(inner, &suspect.analysis).await?;
        if differing.is_empty() {
            return Ok(None);
        }
        let primary = &*inner.sides.primary;
        let before = inner.read(primary, &suspect.statement, &suspect.analysis).await?;
        let settings = differing.iter().map(|it| (it.name.clone(), it.primary.clone())).collect();
        // A setting that the shadow does not take explains nothing.
        let under = inner.read_under(&suspect.statement, &suspect.analysis, settings).await;
        let Ok(shadow) = under else { return Ok(None) };
        let rules = inner.rules_for(&suspect.statement, &suspect.analysis);
        let compared = compare::compare(&suspect.analysis, &before, &shadow, &rules);
        if !matches!(compared.verdict, Verdict::Match | Verdict::Normalized)
            || matches!(*before, Observed::Fault(_))
        {
            return Ok(None);
        }
        let found = compare::of_settings(first, &named(&differing));
        self.unless_gone(found).await.map(Some)
    }
}

/// `TimeZone is Europe/Berlin on the primary and UTC on the shadow`, and so on.
fn named(differing: &[Differing]) -> String {
    let mut text = String::new();
    for Differing { name, primary, shadow } in differing {
        let separator = if text.is_empty() { "" } else { "; " };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{separator}{name} is {primary:?} on the primary and {shadow:?} on the shadow"
        );
    }
    text
}

async fn differing(inner: &Inner, analysis: &Analysis) -> Result<Vec<Differing>, &'static str> {
    let one = settings(inner, &*inner.sides.primary, analysis).await?;
    let other = settings(inner, &*inner.sides.shadow, analysis).await?;
    let pairs = one.into_iter().filter_map(|(name, primary)| {
        let (_, shadow) = other.iter().find(|(there, _)| *there == name)?;
        (*shadow != primary).then(|| Differing { name, primary, shadow: shadow.clone() })
    });
    Ok(pairs.collect())
}

/// What the sessions of callers have on a side, by name.
async fn settings(
    inner: &Inner,
    side: &dyn Database,
    analysis: &Analysis,
) -> Result<Vec<SessionSetting>, &'static str> {
    let params: [Value; 0] = [];
    let statement = BoundStatement { sql: LOOKED_AT.into(), name: None, params: params.into() };
    let kept = inner.read(side, &statement, analysis).await?;
    let Observed::Answer(answer) = &*kept else { return Err("unavailable") };
    let text = |cell: Option<&[u8]>| cell.map(|it| String::from_utf8_lossy(it).into_owned());
    let mut found = Vec::new();
    for batch in &answer.batches {
        let cells: Vec<_> = batch.iter().map(text).collect();
        for row in cells.chunks_exact(2) {
            if let [Some(name), Some(value)] = row {
                found.push((name.clone(), value.clone()));
            }
        }
    }
    Ok(found)
}
