//! Numbers as parameters: exact or refused, with the range in the fault.

use bytes::{Bytes, BytesMut};

use crate::domain::pg_type::PgType;
use crate::domain::value::Value;
use crate::value::bind::{mismatch, shortened};
use crate::value::class::Scalar;
use crate::value::error::BindError;
use crate::value::numeric::{self, NumericFault};
use crate::value::parameter::Parameter;

fn binary(bytes: &[u8]) -> Parameter {
    Parameter::binary(Bytes::copy_from_slice(bytes))
}

/// The range of an integer type.
fn range(scalar: Scalar) -> Option<(i128, i128)> {
    match scalar {
        Scalar::Int2 => Some((i16::MIN.into(), i16::MAX.into())),
        Scalar::Int4 => Some((i32::MIN.into(), i32::MAX.into())),
        Scalar::Int8 => Some((i64::MIN.into(), i64::MAX.into())),
        Scalar::Oid => Some((0, u32::MAX.into())),
        _ => None,
    }
}

fn bind_integer(
    ty: &PgType,
    scalar: Scalar,
    (low, high): (i128, i128),
    number: i128,
) -> Result<Parameter, BindError> {
    let parameter = match scalar {
        Scalar::Int2 => i16::try_from(number).ok().map(|number| binary(&number.to_be_bytes())),
        Scalar::Int4 => i32::try_from(number).ok().map(|number| binary(&number.to_be_bytes())),
        Scalar::Oid => u32::try_from(number).ok().map(|number| binary(&number.to_be_bytes())),
        _ => i64::try_from(number).ok().map(|number| binary(&number.to_be_bytes())),
    };
    parameter.ok_or_else(|| out_of_range(ty, &number.to_string(), &format!(" ({low} to {high})")))
}

fn out_of_range(ty: &PgType, shown: &str, range: &str) -> BindError {
    BindError::new(
        format!("{} is out of range for {}{range}", shortened(shown), ty.name),
        "send a value in range, or cast the parameter in the statement to a wider type",
    )
}

pub(crate) fn bind_int64(
    ty: &PgType,
    scalar: Option<Scalar>,
    number: i64,
    value: &Value,
) -> Result<Parameter, BindError> {
    let Some(scalar) = scalar else { return Err(mismatch(ty, value)) };
    if let Some(range) = range(scalar) {
        return bind_integer(ty, scalar, range, number.into());
    }
    let rounded = |kept: bool, parameter: Parameter| {
        if kept {
            Ok(parameter)
        } else {
            Err(BindError::new(
                format!("{number} has no exact {}", ty.name),
                "send a double if rounding is meant",
            ))
        }
    };
    match scalar {
        Scalar::Float4 => {
            let float = number as f32;
            rounded(float as i128 == i128::from(number), binary(&float.to_be_bytes()))
        }
        Scalar::Float8 => {
            let float = number as f64;
            rounded(float as i128 == i128::from(number), binary(&float.to_be_bytes()))
        }
        Scalar::Numeric => encode_numeric(ty, &number.to_string()),
        _ => Err(mismatch(ty, value)),
    }
}

pub(crate) fn bind_double(
    ty: &PgType,
    scalar: Option<Scalar>,
    number: f64,
    value: &Value,
) -> Result<Parameter, BindError> {
    match scalar {
        Some(Scalar::Float8) => Ok(binary(&number.to_be_bytes())),
        Some(Scalar::Float4) => {
            let narrow = number as f32;
            let lost =
                (number.is_finite() && narrow.is_infinite()) || (number != 0.0 && narrow == 0.0);
            if lost {
                return Err(out_of_range(ty, &number.to_string(), ""));
            }
            Ok(binary(&narrow.to_be_bytes()))
        }
        _ => Err(mismatch(ty, value)),
    }
}

fn encode_numeric(ty: &PgType, text: &str) -> Result<Parameter, BindError> {
    let mut out = BytesMut::new();
    match numeric::encode(text, &mut out) {
        Ok(()) => Ok(Parameter::binary(out.freeze())),
        Err(NumericFault::Range) => {
            Err(out_of_range(ty, text, " (131072 digits before the point, 16383 after it)"))
        }
        Err(NumericFault::Syntax) => Err(not_a_number(text)),
    }
}

fn not_a_number(text: &str) -> BindError {
    BindError::new(
        format!("{:?} is not a decimal number", shortened(text)),
        "give digits such as -12.3400 or 1e-7, NaN, Infinity or -Infinity",
    )
}

pub(crate) fn bind_numeric(
    ty: &PgType,
    scalar: Option<Scalar>,
    text: &str,
    value: &Value,
) -> Result<Parameter, BindError> {
    let Some(scalar) = scalar else { return Err(mismatch(ty, value)) };
    match scalar {
        Scalar::Numeric => encode_numeric(ty, text),
        Scalar::Float4 => {
            checked_number(text)?;
            let float = text.parse::<f32>().map_err(|_| not_a_number(text))?;
            check_reach(ty, text, float.is_finite(), float == 0.0)?;
            Ok(binary(&float.to_be_bytes()))
        }
        Scalar::Float8 => {
            checked_number(text)?;
            let float = text.parse::<f64>().map_err(|_| not_a_number(text))?;
            check_reach(ty, text, float.is_finite(), float == 0.0)?;
            Ok(binary(&float.to_be_bytes()))
        }
        _ => {
            let Some((low, high)) = range(scalar) else { return Err(mismatch(ty, value)) };
            if numeric::special(text).is_some() {
                return Err(mismatch(ty, value));
            }
            checked_number(text)?;
            match numeric::integral(text) {
                Some(number) => bind_integer(ty, scalar, (low, high), number),
                None => Err(BindError::new(
                    format!(
                        "{} is not a whole number in the range of {} ({low} to {high})",
                        shortened(text),
                        ty.name
                    ),
                    "round it, or cast the parameter in the statement to numeric",
                )),
            }
        }
    }
}

/// A number that `numeric` could hold, so that what follows works on bounded exponents.
fn checked_number(text: &str) -> Result<(), BindError> {
    match numeric::encode(text, &mut BytesMut::new()) {
        Err(NumericFault::Syntax) => Err(not_a_number(text)),
        Ok(()) | Err(NumericFault::Range) => Ok(()),
    }
}

/// Refuses a finite text that became infinite and one that became zero, as the server does.
fn check_reach(ty: &PgType, text: &str, finite: bool, zero: bool) -> Result<(), BindError> {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let is_zero = !mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    let special = numeric::special(text).is_some();
    if special || (finite && (!zero || is_zero)) { Ok(()) } else { Err(out_of_range(ty, text, "")) }
}
