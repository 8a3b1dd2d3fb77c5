//! Arrays as parameters.

use bytes::{BufMut, Bytes, BytesMut};

use crate::domain::pg_type::PgType;
use crate::domain::value::{Array, Value};
use crate::value::array::{DIMENSIONS_MAX, put_head, write_array_text};
use crate::value::bind::bind;
use crate::value::error::{BindError, DecodeError};
use crate::value::parameter::{Format, Parameter};
use crate::value::text::to_text;

/// Makes a parameter of the array of `element`: binary where all elements have a binary
/// form, else the array's text.
pub(crate) fn bind_array(element: &PgType, array: &Array) -> Result<Parameter, BindError> {
    let dimensions = shape(array)?;
    let elements = array
        .elements
        .iter()
        .enumerate()
        .map(|(index, value)| bind_element(element, index, value))
        .collect::<Result<Vec<_>, _>>()?;
    assemble(element, &dimensions, &elements)
}

fn bind_element(element: &PgType, index: usize, value: &Value) -> Result<Parameter, BindError> {
    if matches!(value, Value::Array(_)) {
        return Err(BindError::new(
            format!("element {index} of the array is an array"),
            "give all elements in one list, row by row, and the lengths as dimensions",
        ));
    }
    bind(element, value).map_err(|error| BindError {
        message: format!("element {index} of the array: {}", error.message),
        ..error
    })
}

/// The dimensions as the server takes them. Elements without dimensions are one row.
fn shape(array: &Array) -> Result<Vec<(u32, i32)>, BindError> {
    let count = array.elements.len();
    if array.dimensions.is_empty() {
        let length = u32::try_from(count).map_err(|_| too_large(count))?;
        return Ok(if length == 0 { Vec::new() } else { vec![(length, 1)] });
    }
    if array.dimensions.len() > DIMENSIONS_MAX {
        return Err(BindError::new(
            format!(
                "an array of {} dimensions is more than {DIMENSIONS_MAX}",
                array.dimensions.len()
            ),
            "use fewer dimensions, or json",
        ));
    }
    let product = array.dimensions.iter().try_fold(1usize, |product, (length, _)| {
        product.checked_mul(usize::try_from(*length).ok()?)
    });
    if product != Some(count) {
        return Err(BindError::new(
            format!("the array has {count} elements, its dimensions ask for others"),
            "the product of the lengths is the number of elements",
        ));
    }
    for (length, lower_bound) in &array.dimensions {
        let upper = i64::from(*lower_bound) + i64::from(*length);
        if i32::try_from(*length).is_err() || upper > i64::from(i32::MAX) {
            return Err(too_large(count));
        }
    }
    Ok(if count == 0 { Vec::new() } else { array.dimensions.clone() })
}

fn too_large(count: usize) -> BindError {
    BindError::new(
        format!("the bounds of an array with {count} elements do not fit an int4"),
        "use a lower bound of 1",
    )
}

/// Puts bound elements together.
pub(crate) fn assemble(
    element: &PgType,
    dimensions: &[(u32, i32)],
    elements: &[Parameter],
) -> Result<Parameter, BindError> {
    if elements.iter().any(|element| element.format == Format::Text && element.data.is_some()) {
        return assemble_text(element, dimensions, elements);
    }
    let mut out = BytesMut::new();
    let has_null = elements.iter().any(|element| element.data.is_none());
    put_head(dimensions, has_null, element.oid, &mut out);
    for element in elements {
        match &element.data {
            None => out.put_i32(-1),
            Some(data) => {
                out.put_i32(i32::try_from(data.len()).map_err(|_| too_large(elements.len()))?);
                out.put_slice(data);
            }
        }
    }
    Ok(Parameter::binary(out.freeze()))
}

fn assemble_text(
    element: &PgType,
    dimensions: &[(u32, i32)],
    elements: &[Parameter],
) -> Result<Parameter, BindError> {
    let mut out = String::new();
    let mut rest = elements.iter();
    write_array_text(dimensions, &mut out, |text| {
        let Some(Parameter { format, data: Some(data) }) = rest.next() else { return Ok(false) };
        match format {
            Format::Text => text.push_str(&String::from_utf8_lossy(data)),
            Format::Binary => text.push_str(&to_text(element, data).map_err(mixed)?),
        }
        Ok(true)
    })?;
    Ok(Parameter::text(Bytes::from(out)))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn mixed(error: DecodeError) -> BindError {
    BindError::new(
        format!("the array has elements as text and elements that have no text: {error}"),
        "give all elements in the same form",
    )
}
