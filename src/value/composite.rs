//! Rows as values: composite types and `record`.

use crate::domain::pg_type::{PgType, TypeKind};
use crate::value::array::is_space;
use crate::value::class;
use crate::value::error::DecodeError;
use crate::value::options::TextOptions;
use crate::value::range::write_doubled;
use crate::value::reader::{Part, Reader};
use crate::value::text::write_text;

/// One field: its type's object id and its content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) oid: u32,
    pub(crate) part: Option<Part<'a>>,
}

/// The fields of a composite cell.
pub(crate) fn fields<'a>(
    type_name: &'a str,
    cell: &'a [u8],
) -> Result<Vec<Field<'a>>, DecodeError> {
    let mut reader = Reader::new(type_name, cell);
    let count = reader.count()?;
    if count > reader.remaining() / 8 {
        return Err(reader.malformed("there are more fields than bytes"));
    }
    let fields = (0..count)
        .map(|_| Ok(Field { oid: reader.u32()?, part: reader.part()? }))
        .collect::<Result<_, DecodeError>>()?;
    reader.end()?;
    Ok(fields)
}

/// Runs `visit` with each field's type and content. Types come from the composite's
/// definition, or for `record` from their object ids; `None` where one is not known.
pub(crate) fn for_each_field(
    ty: &PgType,
    cell: &[u8],
    mut visit: impl FnMut(Option<&PgType>, Option<Part<'_>>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let fields = fields(&ty.name, cell)?;
    // A column dropped or added since the type was read would shift the others.
    let declared = match &ty.kind {
        TypeKind::Composite(declared) if declared.len() == fields.len() => Some(declared),
        _ => None,
    };
    for (index, field) in fields.iter().enumerate() {
        let of_definition = declared.and_then(|declared| declared.get(index)).map(|(_, ty)| ty);
        match of_definition.filter(|ty| ty.oid == field.oid) {
            Some(ty) => visit(Some(ty), field.part)?,
            None => visit(class::built_in(field.oid).as_ref(), field.part)?,
        }
    }
    Ok(())
}

pub(crate) fn write_composite(
    ty: &PgType,
    cell: &[u8],
    options: &TextOptions,
    out: &mut String,
) -> Result<(), DecodeError> {
    out.push('(');
    let mut first = true;
    let mut text = String::new();
    for_each_field(ty, cell, |field_type, part| {
        if !first {
            out.push(',');
        }
        first = false;
        let Some(part) = part else { return Ok(()) };
        let field_type = field_type.ok_or_else(|| DecodeError::not_decoded(&ty.name))?;
        text.clear();
        write_text(field_type, part.bytes, options, &mut text)
            .map_err(|error| error.shifted(part.offset))?;
        let special = |c: char| matches!(c, '"' | '\\' | '(' | ')' | ',') || is_space(c);
        write_doubled(&text, text.is_empty() || text.contains(special), out);
        Ok(())
    })?;
    out.push(')');
    Ok(())
}
