//! The answer to a write as bytes, to be given again.
//!
//! A version byte, then lengths and numbers big-endian. Types are kept by name and shape,
//! because a replay may come from the other database, which numbers them differently.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use crate::domain::answer::RowBatch;
use crate::domain::call::WriteItem;
use crate::domain::key::WriteId;
use crate::domain::pg_type::{Column, PgType, TypeKind};

const VERSION: u8 = 1;
/// Types nest by array, domain and field; deeper ones are not believed.
const DEPTH_MAX: u32 = 32;

/// Bytes that [`decode`] reads.
pub(super) fn encode(write_id: WriteId, items: &[WriteItem]) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.put_u128(write_id.0);
    put_length(&mut out, items.len());
    for item in items {
        out.put_u64(item.affected_rows);
        put_length(&mut out, item.columns.len());
        for column in &*item.columns {
            put_text(&mut out, &column.name);
            put_type(&mut out, &column.ty);
            out.put_i32(column.type_modifier);
            out.put_u32(column.table_oid.unwrap_or(0));
            out.put_i16(column.column_id.unwrap_or(0));
        }
        out.put_u32(item.rows.row_count());
        put_length(&mut out, item.rows.cells().len());
        out.put_slice(item.rows.cells());
    }
    out
}

/// What [`encode`] wrote; `None` where it is not that.
pub(super) fn decode(bytes: &[u8]) -> Option<(WriteId, Vec<WriteItem>)> {
    let mut from = bytes;
    if from.try_get_u8().ok()? != VERSION {
        return None;
    }
    let write_id = WriteId(from.try_get_u128().ok()?);
    let count = length(&mut from)?;
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(item(&mut from)?);
    }
    from.is_empty().then_some((write_id, items))
}

fn item(from: &mut &[u8]) -> Option<WriteItem> {
    let affected_rows = from.try_get_u64().ok()?;
    let width = length(from)?;
    let mut columns = Vec::new();
    for _ in 0..width {
        columns.push(Column {
            name: text(from)?,
            ty: Arc::new(pg_type(from, 0)?),
            type_modifier: from.try_get_i32().ok()?,
            table_oid: Some(from.try_get_u32().ok()?).filter(|&oid| oid != 0),
            column_id: Some(from.try_get_i16().ok()?).filter(|&id| id != 0),
        });
    }
    let row_count = from.try_get_u32().ok()?;
    let cells = take(from)?;
    let rows =
        RowBatch::from_packed(row_count, columns.len(), Bytes::copy_from_slice(cells)).ok()?;
    Some(WriteItem { affected_rows, columns: columns.into(), rows })
}

fn put_type(out: &mut Vec<u8>, ty: &PgType) {
    out.put_u32(ty.oid);
    put_text(out, &ty.name);
    put_text(out, &ty.schema);
    match &ty.kind {
        TypeKind::Simple => out.put_u8(0),
        TypeKind::Dollars => out.put_u8(8),
        TypeKind::Enum(labels) => {
            out.put_u8(1);
            put_length(out, labels.len());
            labels.iter().for_each(|label| put_text(out, label));
        }
        TypeKind::Pseudo => out.put_u8(2),
        TypeKind::Array(of) => put_inner(out, 3, of),
        TypeKind::Range(of) => put_inner(out, 4, of),
        TypeKind::Multirange(of) => put_inner(out, 5, of),
        TypeKind::Domain(of) => put_inner(out, 6, of),
        TypeKind::Composite(fields) => {
            out.put_u8(7);
            put_length(out, fields.len());
            for (name, ty) in fields {
                put_text(out, name);
                put_type(out, ty);
            }
        }
    }
}

fn put_inner(out: &mut Vec<u8>, tag: u8, inner: &PgType) {
    out.put_u8(tag);
    put_type(out, inner);
}

fn pg_type(from: &mut &[u8], depth: u32) -> Option<PgType> {
    if depth > DEPTH_MAX {
        return None;
    }
    let (oid, name, schema) = (from.try_get_u32().ok()?, text(from)?, text(from)?);
    let tag = from.try_get_u8().ok()?;
    let mut inner = || pg_type(from, depth + 1).map(Arc::new);
    let kind = match tag {
        0 => TypeKind::Simple,
        8 => TypeKind::Dollars,
        1 => {
            let count = length(from)?;
            let mut labels = Vec::new();
            for _ in 0..count {
                labels.push(text(from)?);
            }
            TypeKind::Enum(labels)
        }
        2 => TypeKind::Pseudo,
        3 => TypeKind::Array(inner()?),
        4 => TypeKind::Range(inner()?),
        5 => TypeKind::Multirange(inner()?),
        6 => TypeKind::Domain(inner()?),
        7 => {
            let count = length(from)?;
            let mut fields = Vec::new();
            for _ in 0..count {
                fields.push((text(from)?, Arc::new(pg_type(from, depth + 1)?)));
            }
            TypeKind::Composite(fields)
        }
        _ => return None,
    };
    Some(PgType { oid, name, schema, kind })
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    // Answers are bounded far below 4 GiB before they are encoded.
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

fn length(from: &mut &[u8]) -> Option<usize> {
    from.try_get_u32().ok().and_then(|length| usize::try_from(length).ok())
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_length(out, text.len());
    out.put_slice(text.as_bytes());
}

fn take<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = length(from)?;
    let (taken, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(taken)
}

fn text(from: &mut &[u8]) -> Option<String> {
    String::from_utf8(take(from)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::answer::RowBatchBuilder;
    use crate::value::fixtures::{FUZZ_TIME, Piece, cell};

    fn simple(name: &str) -> PgType {
        let kind = TypeKind::Simple;
        PgType { oid: 25, name: name.to_owned(), schema: "pg_catalog".to_owned(), kind }
    }

    fn answer() -> Vec<WriteItem> {
        let mood =
            PgType { kind: TypeKind::Enum(vec!["ok".into(), "sad".into()]), ..simple("mood") };
        let fields =
            vec![("a".to_owned(), Arc::new(simple("text"))), ("b".to_owned(), Arc::new(mood))];
        let pair = PgType { kind: TypeKind::Composite(fields), ..simple("pair") };
        let array = PgType { kind: TypeKind::Array(Arc::new(pair)), ..simple("_pair") };
        let column = Column {
            name: "c".into(),
            ty: Arc::new(array),
            type_modifier: -1,
            table_oid: Some(7),
            column_id: None,
        };
        let mut rows = RowBatchBuilder::default();
        rows.push_cell(Some(b"abc"));
        rows.end_row();
        rows.push_cell(None);
        rows.end_row();
        vec![
            WriteItem { affected_rows: 2, columns: vec![column].into(), rows: rows.take() },
            WriteItem { affected_rows: 9, columns: Vec::new().into(), rows: RowBatch::default() },
        ]
    }

    #[test]
    fn an_answer_comes_back_as_it_went_in() {
        let bytes = encode(WriteId(5), &answer());
        assert_eq!(decode(&bytes), Some((WriteId(5), answer())));
    }

    /// Whatever is read back is what was written, and nothing else is believed.
    #[test]
    fn fuzz_an_answer_is_read_as_written_or_not_at_all() {
        type Input = (Vec<Piece>, Vec<(u16, u8)>);
        bolero::check!().with_type::<Input>().with_test_time(FUZZ_TIME).for_each(
            |(pieces, changes)| {
                let mut altered = encode(WriteId(5), &answer());
                for (at, byte) in changes {
                    let at = usize::from(*at) % altered.len();
                    altered[at] = *byte;
                }
                for bytes in [cell(pieces), altered] {
                    if let Some((id, items)) = decode(&bytes) {
                        assert_eq!(decode(&encode(id, &items)), Some((id, items)));
                    }
                }
            },
        );
    }

    #[test]
    fn anything_else_is_not_believed() {
        let bytes = encode(WriteId(5), &answer());
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), None, "cut at {end}");
        }
        let mut other = bytes;
        other[0] = 2;
        assert_eq!(decode(&other), None);
    }
}
