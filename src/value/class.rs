//! Which of the types that segue reads a [`PgType`] is.

use crate::domain::pg_type::{PgType, TypeKind};

/// A base type that segue reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Text,
    Varchar,
    Bpchar,
    Name,
    Char,
    Unknown,
    Citext,
    Refcursor,
    Cstring,
    Xml,
    Bytea,
    Timestamp,
    TimestampTz,
    Date,
    Time,
    TimeTz,
    Interval,
    Uuid,
    Json,
    Jsonb,
    Jsonpath,
    Inet,
    Cidr,
    MacAddr,
    MacAddr8,
    Bit,
    Varbit,
    Money,
    Hstore,
    TsVector,
    TsQuery,
    Xid,
    Cid,
    Xid8,
    PgLsn,
    Tid,
    Void,
    Int2Vector,
    OidVector,
}

/// How a type is read, domains resolved.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Class<'a> {
    Scalar(Scalar),
    Enum,
    Array(&'a PgType),
    Range(&'a PgType),
    Multirange(&'a PgType),
    /// Fields with their types.
    Composite,
    /// `record`: its field types are only in the value.
    Record,
    Unknown,
}

/// Object ids, names and scalars of the built-in types, with the ids of their arrays.
const BUILT_IN: &[(u32, u32, &str, Scalar)] = &[
    (16, 1000, "bool", Scalar::Bool),
    (17, 1001, "bytea", Scalar::Bytea),
    (18, 1002, "char", Scalar::Char),
    (19, 1003, "name", Scalar::Name),
    (20, 1016, "int8", Scalar::Int8),
    (21, 1005, "int2", Scalar::Int2),
    (22, 1006, "int2vector", Scalar::Int2Vector),
    (23, 1007, "int4", Scalar::Int4),
    (25, 1009, "text", Scalar::Text),
    (26, 1028, "oid", Scalar::Oid),
    (27, 1010, "tid", Scalar::Tid),
    (28, 1011, "xid", Scalar::Xid),
    (29, 1012, "cid", Scalar::Cid),
    (30, 1013, "oidvector", Scalar::OidVector),
    (114, 199, "json", Scalar::Json),
    (142, 143, "xml", Scalar::Xml),
    (650, 651, "cidr", Scalar::Cidr),
    (700, 1021, "float4", Scalar::Float4),
    (701, 1022, "float8", Scalar::Float8),
    (705, 0, "unknown", Scalar::Unknown),
    (774, 775, "macaddr8", Scalar::MacAddr8),
    (790, 791, "money", Scalar::Money),
    (829, 1040, "macaddr", Scalar::MacAddr),
    (869, 1041, "inet", Scalar::Inet),
    (1042, 1014, "bpchar", Scalar::Bpchar),
    (1043, 1015, "varchar", Scalar::Varchar),
    (1082, 1182, "date", Scalar::Date),
    (1083, 1183, "time", Scalar::Time),
    (1114, 1115, "timestamp", Scalar::Timestamp),
    (1184, 1185, "timestamptz", Scalar::TimestampTz),
    (1186, 1187, "interval", Scalar::Interval),
    (1266, 1270, "timetz", Scalar::TimeTz),
    (1560, 1561, "bit", Scalar::Bit),
    (1562, 1563, "varbit", Scalar::Varbit),
    (1700, 1231, "numeric", Scalar::Numeric),
    (1790, 2201, "refcursor", Scalar::Refcursor),
    (2275, 1263, "cstring", Scalar::Cstring),
    (2278, 0, "void", Scalar::Void),
    (2950, 2951, "uuid", Scalar::Uuid),
    (3220, 3221, "pg_lsn", Scalar::PgLsn),
    (3614, 3643, "tsvector", Scalar::TsVector),
    (3615, 3645, "tsquery", Scalar::TsQuery),
    (3802, 3807, "jsonb", Scalar::Jsonb),
    (4072, 4073, "jsonpath", Scalar::Jsonpath),
    (5069, 271, "xid8", Scalar::Xid8),
];

const CATALOGUE: &str = "pg_catalog";

/// Types made at run time have ids from here on.
const FIRST_USER_OID: u32 = 16_384;

/// The most frequent types first, so that a result's cells are classed by a comparison or two.
fn by_oid(oid: u32) -> Option<Scalar> {
    Some(match oid {
        16 => Scalar::Bool,
        20 => Scalar::Int8,
        21 => Scalar::Int2,
        23 => Scalar::Int4,
        25 => Scalar::Text,
        700 => Scalar::Float4,
        701 => Scalar::Float8,
        1042 => Scalar::Bpchar,
        1043 => Scalar::Varchar,
        1114 => Scalar::Timestamp,
        1184 => Scalar::TimestampTz,
        1700 => Scalar::Numeric,
        2950 => Scalar::Uuid,
        3802 => Scalar::Jsonb,
        _ => BUILT_IN.iter().find(|(built_in, ..)| *built_in == oid)?.3,
    })
}

fn by_name(ty: &PgType) -> Option<Scalar> {
    match ty.name.as_str() {
        "citext" => Some(Scalar::Citext),
        "hstore" => Some(Scalar::Hstore),
        name if ty.schema == CATALOGUE => {
            BUILT_IN.iter().find(|(_, _, built_in, _)| *built_in == name).map(|found| found.3)
        }
        _ => None,
    }
}

/// Whether the type's bytes are an object id of its database (`regclass` and its kin), so
/// that they mean another object, or none, in another database.
pub(crate) fn holds_object_id(ty: &PgType) -> bool {
    ty.oid < FIRST_USER_OID && ty.name.starts_with("reg")
}

impl<'a> Class<'a> {
    pub(crate) fn of(ty: &'a PgType) -> Self {
        match &ty.kind {
            TypeKind::Simple => {
                let built_in = if ty.oid < FIRST_USER_OID { by_oid(ty.oid) } else { None };
                built_in.or_else(|| by_name(ty)).map_or(Self::Unknown, Self::Scalar)
            }
            TypeKind::Dollars => Self::Scalar(Scalar::Money),
            TypeKind::Enum(_) => Self::Enum,
            TypeKind::Pseudo => match ty.name.as_str() {
                "record" => Self::Record,
                "void" => Self::Scalar(Scalar::Void),
                "unknown" => Self::Scalar(Scalar::Unknown),
                "cstring" => Self::Scalar(Scalar::Cstring),
                _ => Self::Unknown,
            },
            // These two are arrays by their bytes, but their text is not an array's.
            TypeKind::Array(_) if ty.oid == 22 => Self::Scalar(Scalar::Int2Vector),
            TypeKind::Array(_) if ty.oid == 30 => Self::Scalar(Scalar::OidVector),
            TypeKind::Array(element) => Self::Array(element),
            TypeKind::Range(inner) => Self::Range(inner),
            TypeKind::Multirange(inner) => Self::Multirange(inner),
            TypeKind::Domain(inner) => Self::of(inner),
            TypeKind::Composite(_) => Self::Composite,
        }
    }

    pub(crate) fn scalar(self) -> Option<Scalar> {
        match self {
            Self::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }
}

impl Scalar {
    /// Types whose binary form is their text.
    pub(crate) fn is_text(self) -> bool {
        matches!(
            self,
            Self::Text
                | Self::Varchar
                | Self::Bpchar
                | Self::Name
                | Self::Unknown
                | Self::Citext
                | Self::Refcursor
                | Self::Cstring
                | Self::Xml
        )
    }
}

/// A built-in type by its object id, for values that name their parts' types only so.
pub(crate) fn built_in(oid: u32) -> Option<PgType> {
    let simple = |oid: u32, name: &str| PgType {
        oid,
        name: name.to_owned(),
        schema: CATALOGUE.to_owned(),
        kind: TypeKind::Simple,
    };
    if oid == 0 {
        return None;
    }
    BUILT_IN.iter().find_map(|(scalar, array, name, _)| {
        if *scalar == oid {
            Some(simple(oid, name))
        } else if *array == oid {
            let element = std::sync::Arc::new(simple(*scalar, name));
            Some(PgType {
                oid,
                name: format!("_{name}"),
                schema: CATALOGUE.to_owned(),
                kind: TypeKind::Array(element),
            })
        } else {
            None
        }
    })
}
