//! Programs that wrote on the side that follows, as messages.

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::foreign::{ForeignTable, ForeignWriter};
use crate::domain::reason::Reason;
use crate::grpc::proto;
use crate::grpc::words::{self, at};

pub(super) fn writer(found: ForeignWriter) -> proto::ForeignWriter {
    let ForeignWriter { id, writer, side, tables, first_seen, last_seen, resolved } = found;
    proto::ForeignWriter {
        id,
        side: words::side(side),
        role: writer.role,
        application: writer.application,
        address: writer.address,
        tables: tables.into_iter().map(table).collect(),
        first_seen: at(first_seen),
        last_seen: at(last_seen),
        resolution: resolved.map(|it| proto::Resolution {
            at: at(it.at),
            actor: it.by,
            reason: it.reason,
        }),
    }
}

fn table(found: ForeignTable) -> proto::ForeignTable {
    let ForeignTable { table, keys, whole } = found;
    proto::ForeignTable { table, keys, whole }
}

/// Which one, by whom and why.
pub(super) fn resolution(
    request: proto::ResolveForeignWritersRequest,
) -> Result<(Option<String>, String, String), SqlFault> {
    let proto::ResolveForeignWritersRequest { id, actor, reason } = request;
    for (name, given) in [("reason", &reason), ("actor", &actor)] {
        if given.trim().is_empty() {
            let message = format!("{name} is empty; what is resolved is kept on record");
            return Err(SqlFault::new(
                FaultKind::InvalidArgument,
                Reason::InvalidResolution,
                message,
            ));
        }
    }
    Ok(((!id.is_empty()).then_some(id), actor, reason))
}

/// There was nothing to resolve.
pub(super) fn unknown(id: Option<&str>) -> SqlFault {
    let message = match id {
        Some(id) => format!("no program that is to be resolved has the id {id:?}"),
        None => "there is no program to be resolved".to_owned(),
    };
    SqlFault::new(FaultKind::NotFound, Reason::UnknownWriter, message)
        .with_hint("`segue drift` shows who wrote, with the id")
}
