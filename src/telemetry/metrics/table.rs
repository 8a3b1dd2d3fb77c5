//! Metrics by label.
//!
//! As `prometheus_client`'s family, but it can be read: the status shows the same numbers as
//! the scrape, from the same counters.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// One metric for each label set seen so far. Cloning shares it.
#[derive(Debug)]
pub(super) struct Table<L, M> {
    rows: Arc<RwLock<BTreeMap<L, Arc<M>>>>,
}

// === impl Table ===

impl<L, M> Clone for Table<L, M> {
    fn clone(&self) -> Self {
        Self { rows: Arc::clone(&self.rows) }
    }
}

impl<L, M> Default for Table<L, M> {
    fn default() -> Self {
        Self { rows: Arc::default() }
    }
}

impl<L: Ord + Clone, M: Default> Table<L, M> {
    /// The metric of a label set; made where it is new.
    pub(super) fn at(&self, labels: &L) -> Arc<M> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(metric) = rows.get(labels) {
            return Arc::clone(metric);
        }
        drop(rows);
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(rows.entry(labels.clone()).or_default())
    }

    /// All of them at a moment.
    pub(super) fn all(&self) -> Vec<(L, Arc<M>)> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        rows.iter().map(|(labels, metric)| (labels.clone(), Arc::clone(metric))).collect()
    }
}

impl<L, M> EncodeMetric for Table<L, M>
where
    L: Ord + Clone + EncodeLabelSet,
    M: Default + EncodeMetric + TypedMetric,
{
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (labels, metric) in self.all() {
            metric.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}
