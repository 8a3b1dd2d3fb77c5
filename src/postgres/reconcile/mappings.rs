//! The shapes of the migrated tables, read once and again when a table was altered.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::postgres::pool::Pool;

use crate::domain::side::Side;
use crate::postgres::mapping::load::{self, IgnoredColumns, Shape};
use crate::postgres::reconcile::halt::{Halt, of_fault};
use crate::postgres::reconcile::session::Transaction;
use crate::postgres::session::ServerFacts;
use crate::postgres::session::settings::BEGIN_LOOK;

/// All shapes by table id.
pub type ShapeMap = HashMap<i32, Shape>;

/// Reads the catalogues: qualified names everywhere. It gives way to the application's locks, as
/// [`Transaction::open_reading`] does.
fn begin(facts: &ServerFacts) -> String {
    match facts.dialect.lock_timeout_spares_reads() {
        true => format!("{BEGIN_LOOK}; SET LOCAL lock_timeout = '200ms'"),
        false => BEGIN_LOOK.to_owned(),
    }
}

/// Knowledge that is younger is not doubted: what cannot be done would be looked up with every
/// batch otherwise.
const TRUST_MIN: Duration = Duration::from_secs(1);
/// Looking up may take this share of the time at most.
const LOAD_SHARE: u32 = 20;

/// What is known of the tables.
#[derive(Debug, Default)]
pub struct Shapes(RwLock<Option<Known>>);

#[derive(Debug, Clone)]
struct Known {
    shapes: Arc<ShapeMap>,
    doubted_from: Instant,
}

impl Shapes {
    /// The next use reads them anew.
    pub fn forget(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The same where they were read some time ago; says whether they were.
    pub fn forget_if_old(&self) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let old = known.as_ref().is_some_and(|known| Instant::now() > known.doubted_from);
        if old {
            *known = None;
        }
        old
    }

    /// The shapes, read where they are not known.
    ///
    /// # Errors
    ///
    /// [`Halt::Away`] and what else the databases report.
    pub async fn get(
        &self,
        primary: &Pool,
        shadow: &Pool,
        primary_side: Side,
        ignored: &IgnoredColumns,
        copied: bool,
    ) -> Result<Arc<ShapeMap>, Halt> {
        if let Some(known) = &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Arc::clone(&known.shapes));
        }
        let begun = Instant::now();
        let shadow = Transaction::open_by(shadow, begin).await?;
        let primary = Transaction::open_by(primary, begin).await?;
        let loaded = load::load(primary.client()?, shadow.client()?, primary_side, ignored, copied)
            .await
            .map_err(|(_, fault)| of_fault(fault))?;
        primary.end("COMMIT").await?;
        shadow.end("COMMIT").await?;
        let shapes = Arc::new(loaded);
        let trusted = TRUST_MIN.max(begun.elapsed().saturating_mul(LOAD_SHARE));
        let known = Known { shapes: Arc::clone(&shapes), doubted_from: Instant::now() + trusted };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(shapes)
    }
}
