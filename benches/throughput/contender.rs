//! Who is compared, and what one call of each is.
//!
//! Every call looks at every value that it gets: an answer that nobody decodes costs less.

use std::hint::black_box;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::TryStreamExt;
use segue::grpc::proto;
use segue::grpc::proto::sql_client::SqlClient;
use segue::grpc::proto::value::Kind;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Statement};

use crate::channel::Channel;
use crate::stream::Stream;
use crate::support;
use crate::world::ITEMS;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    Point,
    Rows100,
    Rows10000,
    Insert,
    Update,
}

/// How rows are asked for.
pub use segue::grpc::proto::Encoding;
use segue::grpc::proto::rows::Encoding as Rows;

/// A worker's connection.
pub enum Worker {
    /// A connection of its own to the server, or through a pooler, with a prepared statement.
    Prepared(Arc<Client>, Statement),
    /// The same where statements do not stay prepared.
    Unprepared(Box<Client>),
    /// A call each.
    Unary(SqlClient<Channel>, Encoding),
    /// A long stream.
    Stream(Stream, Encoding),
}

// === impl Workload ===

impl Workload {
    pub const fn sql(self) -> &'static str {
        match self {
            Self::Point => "SELECT id, name, quantity, price, made FROM item WHERE id = $1",
            Self::Rows100 => {
                "SELECT id, name, quantity, price, made FROM item WHERE id >= $1 \
                 ORDER BY id LIMIT 100"
            }
            Self::Rows10000 => {
                "SELECT id, name, quantity, price, made FROM item WHERE id >= $1 \
                 ORDER BY id LIMIT 10000"
            }
            Self::Insert => "INSERT INTO event (item, note) VALUES ($1, 'something has happened')",
            Self::Update => "UPDATE item SET quantity = quantity + 1 WHERE id = $1",
        }
    }

    fn reads(self) -> bool {
        matches!(self, Self::Point | Self::Rows100 | Self::Rows10000)
    }

    fn rows(self) -> usize {
        match self {
            Self::Point => 1,
            Self::Rows100 => 100,
            Self::Rows10000 => 10_000,
            Self::Insert | Self::Update => 0,
        }
    }

    fn id(self) -> i64 {
        rand::random_range(1..=ITEMS - self.rows() as i64)
    }
}

/// A call's request: any statement with any ids.
pub fn statement(sql: &str, ids: &[i64]) -> Option<proto::Statement> {
    let value = |id: &i64| proto::Value { kind: Some(Kind::Int64(*id)) };
    Some(proto::Statement {
        text: Some(proto::statement::Text::Sql(sql.to_owned())),
        params: ids.iter().map(value).collect(),
    })
}

// === impl Worker ===

impl Worker {
    pub async fn prepared(dsn: &str, workload: Workload) -> Self {
        let client = support::connect(dsn).await;
        let statement = client.prepare(workload.sql()).await.unwrap();
        Self::Prepared(Arc::new(client), statement)
    }

    /// Another worker on the same connection.
    pub fn beside(&self) -> Option<Self> {
        match self {
            Self::Prepared(client, statement) => {
                Some(Self::Prepared(Arc::clone(client), statement.clone()))
            }
            _ => None,
        }
    }

    pub async fn unprepared(dsn: &str) -> Self {
        Self::Unprepared(Box::new(support::connect(dsn).await))
    }

    pub async fn call(&mut self, workload: Workload) {
        let id = workload.id();
        match self {
            Self::Prepared(client, statement) => {
                if workload.reads() {
                    let params: [&(dyn ToSql + Sync); 1] = [&id];
                    let rows = client.query_raw(&*statement, params).await.unwrap();
                    look_at_rows(rows, workload).await;
                } else {
                    assert_eq!(client.execute(&*statement, &[&id]).await.unwrap(), 1);
                }
            }
            Self::Unprepared(client) => {
                let params: [(&(dyn ToSql + Sync), Type); 1] = [(&id, Type::INT8)];
                let rows = client.query_typed_raw(workload.sql(), params).await.unwrap();
                look_at_rows(rows, workload).await;
            }
            Self::Unary(client, encoding) => {
                if workload.reads() {
                    let request = query(workload.sql(), &[id], *encoding);
                    let mut frames = client.query(request).await.unwrap().into_inner();
                    let mut seen = Seen::default();
                    while let Some(response) = frames.message().await.unwrap() {
                        seen.part(response);
                    }
                    seen.check(workload.rows());
                } else {
                    let answer = client.execute(execute(workload.sql(), &[id])).await.unwrap();
                    assert_eq!(answer.into_inner().affected_rows(), 1);
                }
            }
            Self::Stream(stream, encoding) => {
                if workload.reads() {
                    let seen = stream.query(query(workload.sql(), &[id], *encoding)).await;
                    seen.check(workload.rows());
                } else {
                    assert_eq!(stream.execute(execute(workload.sql(), &[id])).await, 1);
                }
            }
        }
    }
}

pub fn query(sql: &str, ids: &[i64], encoding: Encoding) -> proto::QueryRequest {
    let statement = statement(sql, ids);
    proto::QueryRequest { statement, encoding: encoding.into(), ..proto::QueryRequest::default() }
}

pub fn execute(sql: &str, ids: &[i64]) -> proto::ExecuteRequest {
    proto::ExecuteRequest { statement: statement(sql, ids), ..proto::ExecuteRequest::default() }
}

/// What has come of an answer.
#[derive(Debug, Default)]
pub struct Seen {
    rows: usize,
    pub footer: Option<proto::Footer>,
}

impl Seen {
    pub fn part(&mut self, part: proto::QueryResponse) {
        match part.rows.and_then(|rows| rows.encoding) {
            Some(Rows::Typed(rows)) => self.typed(&rows),
            Some(Rows::Packed(packed)) => self.packed(&packed),
            None => {}
        }
        self.footer = part.footer;
    }

    fn typed(&mut self, rows: &segue::grpc::rows::EncodedRows) {
        for row in rows.rows().unwrap() {
            for value in row.values {
                black_box(value.kind);
            }
            self.rows += 1;
        }
    }

    fn packed(&mut self, packed: &proto::PackedRows) {
        let mut rest: &[u8] = &packed.cells;
        while let Some((length, after)) = rest.split_first_chunk() {
            let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or_default();
            let (cell, after) = after.split_at(length);
            black_box(cell);
            rest = after;
        }
        self.rows += packed.row_count as usize;
    }

    fn check(&self, rows: usize) {
        let footer = self.footer.as_ref().expect("the answer is whole");
        assert_eq!((self.rows, footer.row_count), (rows, rows as u64));
    }
}

async fn look_at_rows(rows: tokio_postgres::RowStream, workload: Workload) {
    let mut rows = std::pin::pin!(rows);
    let mut count = 0;
    while let Some(row) = rows.try_next().await.unwrap() {
        look_at(&row);
        count += 1;
    }
    assert_eq!(count, workload.rows());
}

fn look_at(row: &Row) {
    black_box(row.get::<_, i64>(0));
    black_box(row.get::<_, &str>(1));
    black_box(row.get::<_, i32>(2));
    black_box(row.get::<_, f64>(3));
    black_box(row.get::<_, SystemTime>(4));
}

/// Channels to a sidecar, among which workers are dealt.
pub async fn channels(address: &str, count: usize) -> Vec<Channel> {
    let mut channels = Vec::new();
    for _ in 0..count {
        channels.push(Channel::open(address).await);
    }
    channels
}

/// A client with room for large answers.
pub fn client(channel: &Channel) -> SqlClient<Channel> {
    SqlClient::with_origin(channel.clone(), channel.origin()).max_decoding_message_size(64 << 20)
}
