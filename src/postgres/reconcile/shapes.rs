//! The shapes of the migrated tables, read once and again when a table was altered.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::postgres::pool::Pool;

use crate::domain::side::Side;
use crate::postgres::reconcile::catalog::{self, IgnoredColumns, Shape};
use crate::postgres::reconcile::halt::{Halt, classify};
use crate::postgres::reconcile::session::Transaction;

/// All shapes by table id.
pub type ShapeMap = HashMap<i32, Shape>;

/// Reads the catalogues: qualified names everywhere, and no row security in the way.
const BEGIN: &str = "BEGIN READ ONLY; SET LOCAL search_path = pg_catalog";

/// What is known of the tables.
#[derive(Debug, Default)]
pub struct Shapes(RwLock<Option<Arc<ShapeMap>>>);

impl Shapes {
    /// The next use reads them anew.
    pub fn forget(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
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
    ) -> Result<Arc<ShapeMap>, Halt> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(known);
        }
        let shadow = Transaction::open(shadow, BEGIN).await?;
        let primary = Transaction::open(primary, BEGIN).await?;
        let loaded = catalog::load(primary.client()?, shadow.client()?, primary_side, ignored)
            .await
            .map_err(|(side, error)| classify(error, side))?;
        primary.end("COMMIT").await?;
        shadow.end("COMMIT").await?;
        let loaded = Arc::new(loaded);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&loaded));
        Ok(loaded)
    }
}
