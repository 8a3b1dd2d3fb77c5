//! The answer to a write as bytes, to be given again.
//!
//! A byte with the number of the format, then `answer.proto` with its length before it. An answer
//! in another format is not guessed at: the write is done, and the caller is told that.

use std::sync::Arc;

use prost::Message;

use crate::domain::answer::RowBatch;
use crate::domain::call::WriteItem;
use crate::domain::key::WriteId;
use crate::domain::pg_type::{Column, PgType, TypeKind};
use kept::r#type::Kind;

/// What `build.rs` makes of `answer.proto`.
mod kept {
    #![allow(unreachable_pub, missing_docs, clippy::all, clippy::pedantic)]

    include!(concat!(env!("OUT_DIR"), "/segue.kept.rs"));
}

/// Format 1 was written by hand, in sidecars before version 1.0.
const FORMAT: u8 = 2;

/// Why bytes are no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Another version of segue has written them.
    Format(u8),
    /// They are not what was written.
    Damaged,
}

/// Bytes that [`decode`] reads.
pub(super) fn encode(write_id: WriteId, items: &[WriteItem]) -> Vec<u8> {
    let write_id = write_id.0.to_be_bytes().to_vec();
    let answer = kept::Answer { write_id, items: items.iter().map(of_item).collect() };
    let mut bytes = vec![FORMAT];
    bytes.extend(answer.encode_length_delimited_to_vec());
    bytes
}

/// What [`encode`] wrote.
pub(super) fn decode(bytes: &[u8]) -> Result<(WriteId, Vec<WriteItem>), Unreadable> {
    match bytes.split_first() {
        Some((&FORMAT, message)) => answer(message).ok_or(Unreadable::Damaged),
        Some((&format, _)) => Err(Unreadable::Format(format)),
        None => Err(Unreadable::Damaged),
    }
}

fn answer(mut message: &[u8]) -> Option<(WriteId, Vec<WriteItem>)> {
    let length = prost::decode_length_delimiter(&mut message).ok()?;
    if message.len() != length {
        return None;
    }
    let answer = kept::Answer::decode(message).ok()?;
    let write_id = WriteId(u128::from_be_bytes(answer.write_id.try_into().ok()?));
    Some((write_id, answer.items.into_iter().map(item).collect::<Option<_>>()?))
}

fn of_item(item: &WriteItem) -> kept::Item {
    kept::Item {
        affected_rows: item.affected_rows,
        columns: item.columns.iter().map(of_column).collect(),
        row_count: item.rows.row_count(),
        cells: item.rows.cells().clone(),
    }
}

fn item(item: kept::Item) -> Option<WriteItem> {
    let columns: Vec<Column> = item.columns.into_iter().map(column).collect::<Option<_>>()?;
    let rows = RowBatch::from_packed(item.row_count, columns.len(), item.cells).ok()?;
    Some(WriteItem { affected_rows: item.affected_rows, columns: columns.into(), rows })
}

fn of_column(column: &Column) -> kept::Column {
    kept::Column {
        name: column.name.clone(),
        r#type: Some(of_type(&column.ty)),
        type_modifier: column.type_modifier,
        table_oid: column.table_oid,
        column_id: column.column_id.map(i32::from),
    }
}

fn column(column: kept::Column) -> Option<Column> {
    Some(Column {
        name: column.name,
        ty: pg_type(column.r#type?)?,
        type_modifier: column.type_modifier,
        table_oid: column.table_oid,
        column_id: column.column_id.map(i16::try_from).transpose().ok()?,
    })
}

fn of_type(ty: &PgType) -> kept::Type {
    let boxed = |inner: &PgType| Box::new(of_type(inner));
    let plain = |plain: kept::Plain| Kind::Plain(plain.into());
    let kind = match &ty.kind {
        TypeKind::Simple => plain(kept::Plain::Simple),
        TypeKind::Pseudo => plain(kept::Plain::Pseudo),
        TypeKind::Dollars => plain(kept::Plain::Dollars),
        TypeKind::Enum(labels) => Kind::Enumeration(kept::Labels { labels: labels.clone() }),
        TypeKind::Array(of) => Kind::Array(boxed(of)),
        TypeKind::Range(of) => Kind::Range(boxed(of)),
        TypeKind::Multirange(of) => Kind::Multirange(boxed(of)),
        TypeKind::Domain(of) => Kind::Domain(boxed(of)),
        TypeKind::Composite(fields) => {
            let field = |(name, ty): &(String, Arc<PgType>)| kept::Field {
                name: name.clone(),
                r#type: Some(of_type(ty)),
            };
            Kind::Composite(kept::Fields { fields: fields.iter().map(field).collect() })
        }
    };
    kept::Type { oid: ty.oid, name: ty.name.clone(), schema: ty.schema.clone(), kind: Some(kind) }
}

// The decoder bounds how deep they nest.
fn pg_type(ty: kept::Type) -> Option<Arc<PgType>> {
    let kind = match ty.kind? {
        Kind::Plain(plain) => match kept::Plain::try_from(plain).ok()? {
            kept::Plain::Unspecified => return None,
            kept::Plain::Simple => TypeKind::Simple,
            kept::Plain::Pseudo => TypeKind::Pseudo,
            kept::Plain::Dollars => TypeKind::Dollars,
        },
        Kind::Enumeration(labels) => TypeKind::Enum(labels.labels),
        Kind::Array(of) => TypeKind::Array(pg_type(*of)?),
        Kind::Range(of) => TypeKind::Range(pg_type(*of)?),
        Kind::Multirange(of) => TypeKind::Multirange(pg_type(*of)?),
        Kind::Domain(of) => TypeKind::Domain(pg_type(*of)?),
        Kind::Composite(fields) => {
            let field = |field: kept::Field| Some((field.name, pg_type(field.r#type?)?));
            TypeKind::Composite(fields.fields.into_iter().map(field).collect::<Option<_>>()?)
        }
    };
    Some(Arc::new(PgType { oid: ty.oid, name: ty.name, schema: ty.schema, kind }))
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
        assert_eq!(decode(&bytes), Ok((WriteId(5), answer())));
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
                    if let Ok((id, items)) = decode(&bytes) {
                        assert_eq!(decode(&encode(id, &items)), Ok((id, items)));
                    }
                }
            },
        );
    }

    #[test]
    fn anything_else_is_not_believed() {
        let bytes = encode(WriteId(5), &answer());
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), Err(Unreadable::Damaged), "cut at {end}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(decode(&longer), Err(Unreadable::Damaged));
        for format in [0, 1, 3, u8::MAX] {
            let other = [&[format], &bytes[1..]].concat();
            assert_eq!(decode(&other), Err(Unreadable::Format(format)));
        }
    }

    /// The kept bytes are read by sidecars of other versions: whatever changes them raises the format.
    #[test]
    fn the_format_stays_as_it_is() {
        let item = WriteItem { affected_rows: 3, columns: [].into(), rows: RowBatch::default() };
        let written = [2, 22, 10, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 18, 2, 8, 3];
        assert_eq!(encode(WriteId(5), &[item]), written);
    }
}
