//! Typed and packed answers say the same, for every type.

use segue::grpc::proto::{self, value::Kind};

use crate::calls::{Bench, parts, query, rows};

const MORE: &str =
    "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE TYPE pair AS (a int, b text); CREATE TYPE span AS RANGE (subtype = float8);
    CREATE EXTENSION hstore; CREATE EXTENSION citext;";

/// Expressions of every type, and their text as PostgreSQL writes it.
const CELLS: &[&str] = &[
    "true",
    "1::int2",
    "-5::int4",
    "9223372036854775807::int8",
    "7::oid",
    "0.1::float4",
    "'-Infinity'::float8",
    "12.3400::numeric",
    "'NaN'::numeric",
    "'ä'::text",
    "'a'::varchar",
    "'a'::char(4)",
    "'b'::\"char\"",
    "'n'::name",
    "'\\x00ff'::bytea",
    "'2024-02-29 12:00:00.123456'::timestamp",
    "'infinity'::timestamptz",
    "'-infinity'::date",
    "'24:00:00'::time",
    "'12:00:00+02'::timetz",
    "'1 year -2 days 00:00:00.5'::interval",
    "'0af76519-16cd-43dd-8448-eb211c80319c'::uuid",
    "'{\"b\":1, \"a\":1.00}'::json",
    "'{\"b\":1, \"a\":1.00}'::jsonb",
    "'<a/>'::xml",
    "'10.0.0.1/8'::inet",
    "'10.0.0.0/8'::cidr",
    "'08:00:2b:01:02:03'::macaddr",
    "B'101'::bit(3)",
    "B'1'::varbit",
    "'-1234.56'::money",
    "'[1,5)'::int4range",
    "'{[1,5),[7,9)}'::int4multirange",
    "'[1,2]'::span",
    "'{[1,2],(3,4)}'::span_multirange",
    "'{1,NULL,3}'::int4[]",
    "'[2:3]={a,b}'::text[]",
    "'{{1,2},{3,4}}'::int8[]",
    "'{}'::text[]",
    "'happy'::mood",
    "'{sad}'::mood[]",
    "5::positive",
    "ROW(1, 'x y')::pair",
    "'{\"(1,z)\"}'::pair[]",
    "'a=>1'::hstore",
    "'AbC'::citext",
    "'a b'::tsvector",
    "'a & b'::tsquery",
    "'(1,2)'::point",
    "'0/16B3748'::pg_lsn",
    "'5'::xid8",
    "NULL::int4",
    "'(0,1)'::tid",
    "'pg_class'::regclass",
    "ARRAY['1'::money]",
];

#[tokio::test]
async fn typed_and_packed_answers_agree_for_every_type() {
    let mut bench = Bench::new("").await;
    bench.pair.source.run(MORE).await;
    for cell in CELLS {
        let sql = format!("SELECT {cell} AS it, ({cell})::text AS said, 1::int4 AS guard");
        let typed = rows(&mut bench.sql, query(&sql, vec![]))
            .await
            .unwrap_or_else(|status| panic!("{cell}: {status:?}"));
        let packed =
            proto::QueryRequest { encoding: proto::Encoding::Packed.into(), ..query(&sql, vec![]) };
        let packed = parts(&mut bench.sql, packed).await.unwrap().remove(0);
        let columns = packed.header.as_ref().unwrap().columns.clone();
        let cells = packed.packed_rows().unwrap().cells.clone();
        assert_eq!(columns.len(), 3, "{cell}");
        let said = match &typed[0][1] {
            Kind::Text(said) => Some(said.clone()),
            Kind::Null(_) => None,
            odd => panic!("{cell}: {odd:?}"),
        };
        // The typed value, given back as a parameter of its own type, is the same cell.
        let back = format!("SELECT $1::{} AS it, 1::int4 AS guard", columns[0].type_name_sql());
        let back = proto::QueryRequest {
            encoding: proto::Encoding::Packed.into(),
            ..query(&back, vec![typed[0][0].clone()])
        };
        match parts(&mut bench.sql, back).await {
            Ok(parts) => {
                let again = &parts[0].packed_rows().unwrap().cells;
                assert_eq!(first_cell(again), first_cell(&cells), "{cell}");
            }
            Err(status) => panic!("{cell}: {:?} does not go back: {status:?}", typed[0][0]),
        }
        assert!(cell != &"'-1234.56'::money" || matches!(&typed[0][0], Kind::Other(_)), "{cell}");
        if let (Kind::Other(other), Some(said)) = (&typed[0][0], &said) {
            assert_eq!(&other.text, said, "{cell}");
        }
    }
}

trait TypeNameSql {
    fn type_name_sql(&self) -> String;
}

impl TypeNameSql for proto::Column {
    /// The name as a type in SQL: `char` is the one that a quote changes.
    fn type_name_sql(&self) -> String {
        match self.type_name.strip_prefix('_') {
            Some(element) => format!("\"{element}\"[]"),
            None => format!("\"{}\"", self.type_name),
        }
    }
}

fn first_cell(cells: &[u8]) -> Option<Vec<u8>> {
    let length = i32::from_be_bytes(cells[..4].try_into().unwrap());
    let length = usize::try_from(length).ok()?;
    Some(cells[4..4 + length].to_vec())
}
