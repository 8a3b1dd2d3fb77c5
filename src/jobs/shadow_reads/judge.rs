//! Comparing, where it does not hold up the calls.

use std::sync::Arc;

use crate::compare;
use crate::compare::rules::Rules;
use crate::domain::answer::Observed;
use crate::domain::verdict::Comparison;
use crate::statement::Analysis;

/// Answers of so many bytes together are compared where they are: that takes less than a
/// millisecond. Larger ones get a thread on which no call waits.
const HERE_BYTES_MAX: usize = 32 * 1024;

/// Compares two answers.
///
/// # Errors
///
/// The reason why the sample is dropped.
pub(super) async fn judge(
    analysis: &Arc<Analysis>,
    primary: &Observed,
    shadow: &Observed,
    rules: Rules,
) -> Result<Comparison, &'static str> {
    if byte_len(primary) + byte_len(shadow) <= HERE_BYTES_MAX {
        return Ok(compare::compare(analysis, primary, shadow, &rules));
    }
    let (analysis, primary, shadow) = (Arc::clone(analysis), primary.clone(), shadow.clone());
    let compared =
        tokio::task::spawn_blocking(move || compare::compare(&analysis, &primary, &shadow, &rules));
    compared.await.map_err(|_| "broke_off")
}

fn byte_len(observed: &Observed) -> usize {
    match observed {
        Observed::Answer(answer) => answer.batches.iter().map(|batch| batch.cells().len()).sum(),
        Observed::Fault(_) => 0,
    }
}
