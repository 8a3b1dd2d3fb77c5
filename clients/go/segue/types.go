package segue

import (
	"database/sql/driver"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Numeric is exact decimal digits as PostgreSQL writes them: "12.3400", "NaN", "Infinity". As a parameter
// it is a numeric; a string is one too where the statement asks for a numeric, for a call more the first
// time.
type Numeric string

// Scan takes a numeric or an integer.
func (n *Numeric) Scan(source any) error {
	switch source := source.(type) {
	case string:
		*n = Numeric(source)
	case []byte:
		*n = Numeric(source)
	case int64:
		*n = Numeric(strconv.FormatInt(source, 10))
	default:
		return unfit(source, n)
	}
	return nil
}

// Infinity is a date, a time or an interval without end, which time.Time cannot hold.
type Infinity string

const (
	// Finite is the other values.
	Finite Infinity = ""
	// PositiveInfinity is later than everything.
	PositiveInfinity Infinity = "infinity"
	// NegativeInfinity is earlier than everything.
	NegativeInfinity Infinity = "-infinity"
)

// infinity reads what may be one.
func infinity(text string) Infinity {
	if text == string(PositiveInfinity) || text == string(NegativeInfinity) {
		return Infinity(text)
	}
	return Finite
}

// Opaque is a value of a type that segue does not decode, such as point.
type Opaque struct {
	// Type is the type's name without its schema.
	Type string
	// Data is what the type's send function gives.
	Data []byte
}

// Timestamp is a timestamp, with or without a time zone, that may be infinite.
type Timestamp struct {
	// Time is the point in time where Infinity is Finite; of a timestamp without a zone its wall clock.
	Time time.Time
	// Infinity says whether it is infinite.
	Infinity Infinity
}

// Scan takes a timestamp or a date.
func (t *Timestamp) Scan(source any) error {
	switch source := source.(type) {
	case time.Time:
		*t = Timestamp{Time: source}
		return nil
	case Infinity:
		*t = Timestamp{Infinity: source}
		return nil
	case string:
		return t.parse(source)
	case []byte:
		return t.parse(string(source))
	}
	return unfit(source, t)
}

func (t *Timestamp) parse(text string) error {
	if infinite := infinity(text); infinite != Finite {
		*t = Timestamp{Infinity: infinite}
		return nil
	}
	at, err := parseTime(text)
	*t = Timestamp{Time: at}
	return err
}

// Value gives PostgreSQL's text.
func (t Timestamp) Value() (driver.Value, error) {
	if t.Infinity != Finite {
		return string(t.Infinity), nil
	}
	return timestampText(t.Time, true), nil
}

// Date is a day that may be infinite.
type Date struct {
	// Time is the day's midnight in UTC where Infinity is Finite.
	Time time.Time
	// Infinity says whether it is infinite.
	Infinity Infinity
}

// Scan takes a date or a timestamp, of which it keeps the day.
func (d *Date) Scan(source any) error {
	var at Timestamp
	if err := at.Scan(source); err != nil {
		return unfit(source, d)
	}
	*d = Date(at)
	if at.Infinity == Finite {
		year, month, day := at.Time.Date()
		d.Time = time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	}
	return nil
}

// Value gives PostgreSQL's text.
func (d Date) Value() (driver.Value, error) {
	if d.Infinity != Finite {
		return string(d.Infinity), nil
	}
	return dateText(d.Time), nil
}

// Time is a time of day: microseconds since midnight, 0 to 86,400,000,000, which is 24:00:00.
type Time int64

// Scan takes a time without a zone.
func (t *Time) Scan(source any) error {
	text, ok := textSource(source)
	if !ok {
		return unfit(source, t)
	}
	micros, rest, err := parseClock(text)
	if err != nil || rest != "" {
		return fmt.Errorf("segue: %q is not a time without a zone", text)
	}
	*t = Time(micros)
	return nil
}

// String gives PostgreSQL's text.
func (t Time) String() string { return clockText(int64(t)) }

// Value gives PostgreSQL's text.
func (t Time) Value() (driver.Value, error) { return t.String(), nil }

// Interval is a span of time in PostgreSQL's three units, which do not convert into each other.
type Interval struct {
	// Months counts twelve for a year.
	Months int32
	// Days counts days, of which not all have 24 hours.
	Days int32
	// Micros counts microseconds.
	Micros int64
	// Infinity says whether it is infinite; from PostgreSQL 17 on.
	Infinity Infinity
}

// Scan takes an interval.
func (i *Interval) Scan(source any) error {
	if infinite, ok := source.(Infinity); ok {
		*i = Interval{Infinity: infinite}
		return nil
	}
	text, ok := textSource(source)
	if !ok {
		return unfit(source, i)
	}
	read, err := parseInterval(text)
	if err != nil {
		return err
	}
	*i = read
	return nil
}

// String gives PostgreSQL's text.
func (i Interval) String() string {
	if i.Infinity != Finite {
		return string(i.Infinity)
	}
	return intervalText(i)
}

// Value gives PostgreSQL's text.
func (i Interval) Value() (driver.Value, error) { return i.String(), nil }

// Range is a range over T, such as int64, Numeric, Date or Timestamp.
type Range[T any] struct {
	// Lower and Upper are the bounds; nil is none.
	Lower, Upper *T
	// LowerInclusive and UpperInclusive say whether the bounds belong to the range.
	LowerInclusive, UpperInclusive bool
	// Empty is the range without any value.
	Empty bool
}

// Scan takes a range.
func (r *Range[T]) Scan(source any) error {
	text, ok := textSource(source)
	if !ok {
		return unfit(source, r)
	}
	if text == "empty" {
		*r = Range[T]{Empty: true}
		return nil
	}
	bounds, err := parseRange(text)
	if err != nil {
		return err
	}
	*r = Range[T]{LowerInclusive: text[0] == '[', UpperInclusive: strings.HasSuffix(text, "]")}
	for index, into := range []**T{&r.Lower, &r.Upper} {
		if bounds[index] == nil {
			continue
		}
		*into = new(T)
		if err := assign(*into, *bounds[index]); err != nil {
			return err
		}
	}
	return nil
}

// Value gives PostgreSQL's text.
func (r Range[T]) Value() (driver.Value, error) {
	if r.Empty {
		return "empty", nil
	}
	var text strings.Builder
	text.WriteByte("(["[index(r.LowerInclusive && r.Lower != nil)])
	for at, bound := range []*T{r.Lower, r.Upper} {
		if at == 1 {
			text.WriteByte(',')
		}
		if bound == nil {
			continue
		}
		made, err := encode(*bound)
		if err != nil {
			return nil, err
		}
		form, oid := decodeTyped(made)
		text.WriteString(quotedBound(formText(form, oid)))
	}
	text.WriteByte(")]"[index(r.UpperInclusive && r.Upper != nil)])
	return text.String(), nil
}

func index(second bool) int {
	if second {
		return 1
	}
	return 0
}

func textSource(source any) (string, bool) {
	switch source := source.(type) {
	case string:
		return source, true
	case []byte:
		return string(source), true
	}
	return "", false
}

func unfit(source, destination any) error {
	return fmt.Errorf("segue: a value of type %T does not fit %T", source, destination)
}
