//! chrono's dates and times as values and as parameters. Infinities and what chrono does not hold are errors.
//! PostgreSQL keeps microseconds: a parameter is cut to them.

use ::chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Timelike, Utc};

use crate::from::FromValue;
use crate::params::ToValue;
use crate::time::{Date, MICROS_PER_SECOND, Time, Timestamp};
use crate::value::Value;

/// Days from 1 January of the year 1, which is chrono's day 1, to 1970-01-01.
const DAYS_TO_1970: i32 = 719_163;
const NANOS_PER_MICRO: u32 = 1_000;
const LEAP_SECOND: &str = "PostgreSQL has no leap seconds";

fn point(time: DateTime<Utc>) -> Result<Timestamp, String> {
    let micros = time.timestamp_subsec_micros();
    if i64::from(micros) >= MICROS_PER_SECOND {
        return Err(LEAP_SECOND.to_owned());
    }
    Ok(Timestamp::Finite { seconds: time.timestamp(), micros })
}

fn time_of(point: Timestamp) -> Result<DateTime<Utc>, String> {
    let Timestamp::Finite { seconds, micros } = point else {
        return Err(format!("{point} does not fit chrono's type; read it as a Timestamp"));
    };
    DateTime::from_timestamp(seconds, micros * NANOS_PER_MICRO)
        .ok_or_else(|| format!("{point} is out of chrono's range; read it as a Timestamp"))
}

impl<Z: TimeZone> ToValue for DateTime<Z> {
    fn to_value(&self) -> Result<Value, String> {
        point(self.to_utc()).map(Value::TimestampTz)
    }
}

impl FromValue for DateTime<Utc> {
    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::TimestampTz(point) => time_of(point),
            other => Err(crate::from::unfit(&other, "a DateTime<Utc>")),
        }
    }
}

impl ToValue for NaiveDateTime {
    fn to_value(&self) -> Result<Value, String> {
        point(self.and_utc()).map(Value::Timestamp)
    }
}

impl FromValue for NaiveDateTime {
    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Timestamp(point) => Ok(time_of(point)?.naive_utc()),
            other => Err(crate::from::unfit(&other, "a NaiveDateTime")),
        }
    }
}

impl ToValue for NaiveDate {
    fn to_value(&self) -> Result<Value, String> {
        Ok(Value::Date(Date::Finite(self.num_days_from_ce() - DAYS_TO_1970)))
    }
}

impl FromValue for NaiveDate {
    fn from_value(value: Value) -> Result<Self, String> {
        let date = Date::from_value(value)?;
        let day = match date {
            Date::Finite(days) => {
                days.checked_add(DAYS_TO_1970).and_then(Self::from_num_days_from_ce_opt)
            }
            Date::Infinity | Date::NegInfinity => None,
        };
        day.ok_or_else(|| format!("{date} does not fit chrono's type; read it as a Date"))
    }
}

impl ToValue for NaiveTime {
    fn to_value(&self) -> Result<Value, String> {
        let fraction = self.nanosecond() / NANOS_PER_MICRO;
        if i64::from(fraction) >= MICROS_PER_SECOND {
            return Err(LEAP_SECOND.to_owned());
        }
        let micros =
            i64::from(self.num_seconds_from_midnight()) * MICROS_PER_SECOND + i64::from(fraction);
        Ok(Value::Time(Time(micros)))
    }
}

impl FromValue for NaiveTime {
    fn from_value(value: Value) -> Result<Self, String> {
        let time = Time::from_value(value)?;
        let seconds = u32::try_from(time.micros() / MICROS_PER_SECOND).unwrap_or(u32::MAX);
        let fraction = u32::try_from(time.micros() % MICROS_PER_SECOND).unwrap_or_default();
        Self::from_num_seconds_from_midnight_opt(seconds, fraction * NANOS_PER_MICRO)
            .ok_or_else(|| format!("{time} does not fit chrono's type; read it as a Time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_go_both_ways_or_are_errors() {
        let day = NaiveDate::from_ymd_opt(-43, 3, 15).unwrap();
        assert_eq!(NaiveDate::from_value(day.to_value().unwrap()), Ok(day));
        assert_eq!(Value::Date("0044-03-15 BC".parse().unwrap()), day.to_value().unwrap());
        let time = day.and_hms_micro_opt(23, 59, 59, 999_999).unwrap();
        assert_eq!(NaiveDateTime::from_value(time.to_value().unwrap()), Ok(time));
        assert_eq!(DateTime::from_value(time.and_utc().to_value().unwrap()), Ok(time.and_utc()));
        assert_eq!(NaiveTime::from_value(time.time().to_value().unwrap()), Ok(time.time()));
        assert!(NaiveDate::from_value(Value::Date(Date::Infinity)).is_err());
        assert!(DateTime::from_value(Value::TimestampTz(Timestamp::NegInfinity)).is_err());
        assert!(NaiveTime::from_value(Value::Time("24:00:00".parse().unwrap())).is_err());
    }
}
