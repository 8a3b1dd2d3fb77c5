//! Fuzz targets: the packed and the typed encoding, there and back, and what callers send.

use std::sync::Arc;

use bolero::{TypeGenerator, check};
use bytes::{BufMut, Bytes};
use futures_util::{FutureExt, StreamExt};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::domain::answer::{RowBatch, RowBatchBuilder};
use crate::domain::call::WriteItem;
use crate::domain::pg_type::{Column, PgType};
use crate::domain::side::Side;
use crate::grpc::answer::{Frame, Frames, result};
use crate::grpc::proto::rows::Encoding as Encoded;
use crate::grpc::{proto, request};
use crate::ports::AnswerStream;
use crate::stack::call::ReadAnswer;
use crate::value::fixtures::{FUZZ_TIME, Made, Piece, all, cell, chosen};
use crate::value::{TextOptions, to_value};

/// Columns by the places of their types, and cells in order; `None` is NULL. What is more than
/// whole rows is left out.
type Rows = ((u16, Vec<u16>), Vec<Option<Made>>);

const COLUMNS_MAX: usize = 4;

fn column(ty: &Arc<PgType>) -> Column {
    let name = "c".to_owned();
    Column { name, ty: Arc::clone(ty), type_modifier: -1, table_oid: None, column_id: None }
}

fn made(types: &[Arc<PgType>], ((first, more), cells): &Rows) -> (Arc<[Column]>, RowBatch) {
    let numbers = std::iter::once(first).chain(more).take(COLUMNS_MAX);
    let columns: Arc<[Column]> = numbers.map(|at| column(chosen(types, *at))).collect();
    let mut batch = RowBatchBuilder::default();
    for row in cells.chunks_exact(columns.len()) {
        for (cell, column) in row.iter().zip(&*columns) {
            batch.push_cell(cell.as_ref().map(|cell| cell.cell(&column.ty)).as_deref());
        }
        batch.end_row();
    }
    (columns, batch.take())
}

/// Typed rows hold what the cells hold, value by value, after a journey over the wire; where a
/// cell cannot be read the answer fails, and only there.
#[test]
fn typed_rows_hold_what_the_cells_hold() {
    let types = all();
    check!().with_type::<Rows>().with_test_time(FUZZ_TIME).for_each(|given| {
        let (columns, rows) = made(&types, given);
        let options = TextOptions::default();
        let of = |at: usize| &columns[at % columns.len()].ty;
        let wanted: Result<Vec<_>, _> =
            rows.iter().enumerate().map(|(at, cell)| to_value(of(at), cell, &options)).collect();
        let row_count = rows.row_count() as usize;
        let item = WriteItem { affected_rows: 0, columns: Arc::clone(&columns), rows };
        let answer = result(&item, proto::Encoding::Typed, usize::MAX);
        let Ok(wanted) = wanted else {
            assert!(answer.is_err(), "a cell that cannot be read was passed on");
            return;
        };
        let wire = answer.unwrap().rows.unwrap().encode_to_vec();
        let decoded = proto::Rows::decode(&*wire).unwrap().typed_rows();
        assert_eq!(decoded.len(), row_count);
        let params: Vec<_> = decoded.into_iter().flat_map(|row| row.values).collect();
        let text = Some(proto::statement::Text::Sql("SELECT 1".to_owned()));
        // The values of an answer can be given as parameters.
        let read = request::statement(Some(proto::Statement { text, params })).unwrap();
        assert_eq!(format!("{:?}", read.params), format!("{wanted:?}"));
    });
}

/// A packed buffer is taken over if and only if it holds so many cells, and gives them again.
#[test]
fn packed_rows_are_whole_or_refused() {
    type Input = (u8, u8, Vec<Piece>);
    check!().with_type::<Input>().with_test_time(FUZZ_TIME).for_each(|(rows, columns, pieces)| {
        let (rows, columns) = (u32::from(rows % 8), usize::from(columns % 5));
        let bytes = Bytes::from(cell(pieces));
        let Ok(batch) = RowBatch::from_packed(rows, columns, bytes.clone()) else { return };
        let mut again = RowBatchBuilder::default();
        let mut count = 0;
        for cell in batch.iter() {
            again.push_cell(cell);
            count += 1;
        }
        assert_eq!(count, rows as usize * columns);
        // Any negative length is NULL to readers, and -1 to writers.
        let canonical = again.take();
        assert_eq!(canonical.iter().collect::<Vec<_>>(), batch.iter().collect::<Vec<_>>());
        assert_eq!(canonical.cells(), &bytes, "lengths other than -1 passed for NULL");
    });
}

/// However small the messages, packed frames together hold the whole answer, whole rows each.
#[test]
fn packed_frames_lose_nothing() {
    let types = all();
    check!().with_type::<(u8, u8, Rows)>().with_test_time(FUZZ_TIME).for_each(
        |(max, count, given)| {
            let (columns, one) = made(&types, given);
            let batches = vec![one; usize::from(count % 4)];
            let whole: Vec<u8> = batches.iter().flat_map(|it| it.cells().iter().copied()).collect();
            let rows: u64 = batches.iter().map(|it| u64::from(it.row_count())).sum();
            let stream = AnswerStream {
                columns: Arc::clone(&columns),
                batches: futures_util::stream::iter(batches.into_iter().map(Ok)).boxed(),
            };
            let answer = ReadAnswer::new(Side::Source, stream);
            let mut frames = Frames::new(answer, proto::Encoding::Packed, usize::from(*max) + 1);
            let (mut found, mut footer) = (Vec::new(), None);
            while let Some(frame) = frames.next().now_or_never().unwrap() {
                match frame {
                    Ok(Frame::Header(header)) => assert_eq!(header.columns.len(), columns.len()),
                    Ok(Frame::Rows(proto::Rows { encoding: Some(Encoded::Packed(part)) })) => {
                        let (count, cells) = (part.row_count, part.cells);
                        assert!(cells.len() <= usize::from(*max) + 1);
                        RowBatch::from_packed(count, columns.len(), cells.clone()).unwrap();
                        found.extend(cells);
                    }
                    Ok(Frame::Footer(end)) => footer = Some(end.row_count),
                    Ok(Frame::Rows(_)) => panic!("typed rows were not asked for"),
                    // A row that fits no message: the answer fails, and has no footer.
                    Err(_) => return assert_eq!(footer, None),
                }
            }
            assert_eq!((footer, found), (Some(rows), whole));
        },
    );
}

/// A field of a message: its tag, its wire type, and what is in it.
#[derive(Debug, Clone, TypeGenerator)]
enum Field {
    Varint(u8, u64),
    Bytes(u8, Vec<u8>),
    Text(u8, String),
    Fixed(u8, u64),
    Nested(u8, Vec<(u8, Vec<u8>)>),
}

impl Field {
    fn put(&self, out: &mut Vec<u8>) {
        let tag = |tag: u8| u32::from(tag % 20) + 1;
        let delimited = |number: u8, bytes: &[u8], out: &mut Vec<u8>| {
            encode_key(tag(number), WireType::LengthDelimited, out);
            encode_varint(bytes.len() as u64, out);
            out.extend(bytes);
        };
        match self {
            Self::Varint(number, value) => {
                encode_key(tag(*number), WireType::Varint, out);
                encode_varint(*value, out);
            }
            Self::Fixed(number, value) => {
                encode_key(tag(*number), WireType::SixtyFourBit, out);
                out.put_u64_le(*value);
            }
            Self::Bytes(number, bytes) => delimited(*number, bytes, out),
            Self::Text(number, text) => delimited(*number, text.as_bytes(), out),
            Self::Nested(number, fields) => {
                let mut inner = Vec::new();
                for (number, bytes) in fields {
                    delimited(*number, bytes, &mut inner);
                }
                delimited(*number, &inner, out);
            }
        }
    }
}

/// Whatever callers send as parameters is read, or refused with the parameter's place.
#[test]
fn parameters_are_read_or_refused() {
    check!().with_type::<Vec<Vec<Field>>>().with_test_time(FUZZ_TIME).for_each(|params| {
        let mut sent = proto::Statement {
            text: Some(proto::statement::Text::Sql("SELECT $1".to_owned())),
            params: Vec::new(),
        };
        for fields in params {
            let mut wire = Vec::new();
            fields.iter().for_each(|field| field.put(&mut wire));
            let Ok(value) = proto::Value::decode(&*wire) else { continue };
            sent.params.push(value);
        }
        let count = sent.params.len();
        match request::statement(Some(sent)) {
            Ok(read) => assert_eq!(read.params.len(), count),
            Err(fault) => assert!(fault.message.starts_with("parameter $"), "{fault}"),
        }
    });
}
