//! Keeps the fences of the pools at what the member knows.

use crate::app::Background;
use crate::app::databases::Databases;
use crate::app::fleet::Fleet;
use crate::domain::side::Side;
use crate::ports::ControlView;

/// From now on sessions follow the control row, and a session that finds the row ahead of the
/// member has it read at once.
pub(super) fn follow(databases: &Databases, fleet: &Fleet, background: &Background) {
    let stop = &background.stop;
    let fence = databases.fence().clone();
    let control = fleet.control.clone();
    fence.read_as(fleet.membership.id(), control.subscribe());
    fence.set(Some(control.current()));
    for side in [Side::Source, Side::Target] {
        let (pool, stop) = (databases.writes(side).clone(), stop.clone());
        background.tasks.spawn(async move { pool.keep_current(stop).await });
    }
    let stop = stop.clone();
    let behind = fleet.refresher();
    background.tasks.spawn(async move {
        let mut changes = control.subscribe();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = fence.fell_behind() => behind.refresh().await,
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // A pause has it closed; its end opens it again.
                    let state = changes.borrow_and_update().state;
                    fence.follow(state);
                }
            }
        }
    });
}
