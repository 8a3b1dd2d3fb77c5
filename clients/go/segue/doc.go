// Package segue calls segue, the sidecar that moves a live application from one database to another.
//
// Importing it registers the database/sql driver "segue":
//
//	db, err := sql.Open("segue", "segue://127.0.0.1:7400")
//
// [Client] is the native API: batches, transactions whose last call commits, consistency tokens,
// streams. [Client.DB] gives a [database/sql.DB] that shares its connection and its tokens.
//
// # Values
//
// What a column is read as:
//
//	bool                             bool
//	int2, int4, int8, oid            int64
//	float4, float8                   float64
//	numeric                          string, with all digits
//	text, varchar, char, name, enums string
//	bytea                            []byte
//	json, jsonb                      []byte
//	timestamp, timestamptz, date     time.Time in UTC, or Infinity
//	time, timetz, interval           string, as PostgreSQL writes it
//	uuid                             string
//	arrays, ranges, inet, composites string, as PostgreSQL writes it
//	what segue does not decode       Opaque
//
// [ArrayOf], [Range], [Interval], [Time], [Timestamp] and [Date] read the texts into Go values, and go
// back as parameters. Nothing is rounded: what a destination cannot hold is an error.
//
// As parameters go all kinds of numbers, strings, bool, []byte, time.Time, time.Duration
// (an interval, or a number of nanoseconds), [16]byte (uuid),
// json.RawMessage, [Numeric], big.Int, netip.Addr and netip.Prefix, slices of these (nested ones are
// arrays of several dimensions), pointers to them (nil is NULL) and whatever is a driver.Valuer. A
// time.Time is cut to the microseconds that PostgreSQL keeps; columns without a zone get its wall clock.
//
// # Retries
//
// A call is made again by itself only where that is safe: reads, what the sidecar says had no effect,
// and single writes, which have an idempotency key by default. Else the error says by its [Outcome] what
// is known.
package segue
