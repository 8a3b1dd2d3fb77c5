package segue_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"segue.test/clients/go/segue"
)

// texts are values of all types at their edges, as PostgreSQL writes them.
var texts = map[string][]string{
	"bool":           {"true", "false"},
	"int2":           {"-32768", "0", "32767"},
	"int4":           {"-2147483648", "2147483647"},
	"int8":           {"-9223372036854775808", "9007199254740993", "9223372036854775807"},
	"oid":            {"0", "4294967295"},
	"float4":         {"0.1", "-0", "3.4028235e+38", "1e-45", "NaN", "Infinity", "-Infinity", "123456.7", "1e+06"},
	"float8":         {"0.1", "-0", "1.7976931348623157e+308", "5e-324", "NaN", "Infinity", "-Infinity", "1e+15", "100000000000000", "0.0001", "1e-05"},
	"numeric":        {"0", "0.00", "12.3400", "-0.000000000000000000000000000001", "123456789012345678901234567890.123456789012345678901234567890", "100000000", "10000.0001", "0.00010", "NaN", "Infinity", "-Infinity"},
	"text":           {"", "a'b\"c\\d", "Grüße, 世界 🚲", "NULL", "line\nline"},
	"varchar":        {"", "naïve"},
	"char(4)":        {"ab  "},
	"name":           {"n"},
	"bytea":          {`\x`, `\x00ff275c`},
	"timestamp":      {"2024-02-29 23:59:59.999999", "1970-01-01 00:00:00", "0001-01-01 00:00:00", "4713-01-01 00:00:00 BC", "0044-03-15 12:00:00.000001 BC", "10000-01-01 00:00:00", "294276-12-31 23:59:59.999999", "infinity", "-infinity"},
	"timestamptz":    {"2024-02-29 23:59:59.999999+00", "1969-12-31 23:59:59.999999+00", "0044-03-15 12:00:00.000001+00 BC", "294276-12-31 23:59:59.999999+00", "infinity", "-infinity"},
	"date":           {"2024-02-29", "0001-01-01", "0001-12-31 BC", "4713-01-01 BC", "5874897-12-31", "infinity", "-infinity"},
	"time":           {"00:00:00", "23:59:59.999999", "24:00:00"},
	"timetz":         {"12:00:00+00", "23:59:59.999999-05:30", "24:00:00+00"},
	"interval":       {"00:00:00", "1 day", "1 year 2 mons 3 days 04:05:06.000007", "-1 mons +2 days -00:00:00.000001", "-1 days +00:00:01", "30:00:00", "-00:30:00", "178000000 years", "-178000000 years"},
	"uuid":           {"00000000-0000-0000-0000-000000000000", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"},
	"json":           {"null", `{"a": [1, true, null, "ü"]}`},
	"jsonb":          {"null", `"text"`, "12345678901234567890.123456789012345678901234567890"},
	"int4[]":         {"{}", "{1,NULL,3}", "{{1,2},{3,4}}", "{{{1},{2}},{{3},{NULL}}}", "[0:2]={7,8,9}", "[-1:0][2:3]={{1,2},{3,4}}"},
	"text[]":         {`{"",NULL,"NULL","a,b","c\"d","e\\f",plain}`},
	"bool[]":         {"{t,f,NULL}"},
	"float4[]":       {"{0.1,1e+06}"},
	"float8[]":       {"{0.1,NaN,1e+15}"},
	"numeric[]":      {"{1.10,NaN,-0.5}"},
	"timestamp[]":    {`{"2024-02-29 12:00:00","0044-03-15 00:00:00 BC"}`},
	"timestamptz[]":  {`{"2024-02-29 12:00:00+00",infinity}`},
	"date[]":         {"{2024-02-29,infinity}"},
	"interval[]":     {`{"1 day",00:00:01}`},
	"bytea[]":        {`{"\\x00ff","\\x"}`},
	"jsonb[]":        {`{"{\"a\": 1}",NULL}`},
	"uuid[]":         {"{f81d4fae-7dec-11d0-a765-00a0c91e6bf6,NULL}"},
	"inet[]":         {"{10.0.0.1,::1}"},
	"mood[]":         {`{ok,NULL,"very happy"}`},
	"int4range":      {"empty", "[1,10)", "(,5)", "(,)", "[-2147483648,)"},
	"int8range":      {"[9007199254740993,9223372036854775807)"},
	"numrange":       {"[1.10,2.20]", "(1.5,)"},
	"daterange":      {`["0044-03-15 BC",infinity)`, "[2024-01-01,2024-03-01)"},
	"tsrange":        {`["2024-01-01 00:00:00","2024-01-02 12:30:00.000001")`},
	"tstzrange":      {`("2024-01-01 00:00:00+00","2024-01-02 12:30:00.000001+00"]`},
	"int4multirange": {"{[1,5),[7,9)}"},
	"int4range[]":    {`{"[1,5)",empty}`},
	"inet":           {"192.168.0.1", "10.1.2.3/8", "::1", "2001:db8::/32", "::ffff:1.2.3.4", "::1.2.3.4", "::0.1.0.0", "1:0:0:2::3"},
	"cidr":           {"10.0.0.0/8", "2001:db8::/32", "192.168.0.1/32"},
	"mood":           {"sad", "very happy"},
	"pair":           {"(1,a)", `(,"b c")`, `(2,"")`},
	"positive":       {"1"},
	"bit(3)":         {"101"},
	"macaddr":        {"08:00:2b:01:02:03"},
	"tsvector":       {"'a':1 'b':2"},
	"money":          {"$1,234.56"},
	"pg_lsn":         {"0/16B3748"},
}

// TestEveryTypeIsReadAsPostgreSQLWritesIt reads each value with packed and with typed rows: what is
// remembered of a statement's columns decides, and a column of a type made at run time asks for typed rows.
func TestEveryTypeIsReadAsPostgreSQLWritesIt(t *testing.T) {
	client := open(t)
	for name, values := range texts {
		for _, text := range values {
			quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
			query := fmt.Sprintf("SELECT %s::%s, NULL::%s", quoted, name, name)
			var packed, typed, null any
			one(t, client, []any{&packed, &null}, query)
			equal(t, query+" is NULL", null, nil)
			var mood string
			one(t, client, []any{&typed, &null, &mood}, query+", 'ok'::mood")
			if !reflect.DeepEqual(packed, typed) && packed == packed {
				t.Errorf("%s: packed %#v, typed %#v", query, packed, typed)
			}
			// Back it goes as it came, and the database compares.
			var again string
			one(t, client, []any{&again}, fmt.Sprintf("SELECT ($1::%s)::text", name), packed)
			var written string
			one(t, client, []any{&written}, fmt.Sprintf("SELECT (%s::%s)::text", quoted, name))
			equal(t, query+" goes back", again, written)
			// What is a text here is PostgreSQL's.
			if found, isText := packed.(string); isText && name != "char(4)" {
				equal(t, query, found, text)
			}
		}
	}
}

func TestGoTypesHoldTheirValues(t *testing.T) {
	client := open(t)
	check := func(query string, dest any, expected any) {
		t.Helper()
		one(t, client, []any{dest}, query)
		if found := reflect.ValueOf(dest).Elem().Interface(); !reflect.DeepEqual(found, expected) {
			t.Errorf("%s: found %#v, expected %#v", query, found, expected)
		}
	}
	check("SELECT 9223372036854775807", new(int64), int64(math.MaxInt64))
	check("SELECT 255::int2", new(uint8), uint8(255))
	check("SELECT 12.3400", new(segue.Numeric), segue.Numeric("12.3400"))
	check("SELECT '0044-03-15 12:00:00.000001+00 BC'::timestamptz", new(time.Time), time.Date(-43, 3, 15, 12, 0, 0, 1000, time.UTC))
	check("SELECT 'infinity'::timestamptz", new(segue.Timestamp), segue.Timestamp{Infinity: segue.PositiveInfinity})
	check("SELECT '-infinity'::date", new(segue.Date), segue.Date{Infinity: segue.NegativeInfinity})
	check("SELECT '24:00:00'::time", new(segue.Time), segue.Time(86_400_000_000))
	check("SELECT '-1 mons +2 days -00:00:00.000001'::interval", new(segue.Interval), segue.Interval{Months: -1, Days: 2, Micros: -1})
	check("SELECT '-2562047788:00:54.775807'::interval", new(segue.Interval), segue.Interval{Micros: -math.MaxInt64})
	check("SELECT '{\"a\": 1}'::jsonb", new(json.RawMessage), json.RawMessage(`{"a": 1}`))
	check("SELECT '[1,5)'::int8range", new(segue.Range[int64]), segue.Range[int64]{Lower: new(int64(1)), Upper: new(int64(5)), LowerInclusive: true})
	check("SELECT NULL::int4", new(*int), (*int)(nil))
	check("SELECT '[2:3]={a,NULL}'::text[]", new(segue.Array), segue.Array{Dimensions: []segue.Dimension{{Length: 2, LowerBound: 2}}, Elements: []any{"a", nil}})
	check("SELECT '(1,2)'::point", new(any), segue.Opaque{Type: "point", Data: []byte{0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0}})
	var matrix [][]int
	one(t, client, []any{segue.ArrayOf(&matrix)}, "SELECT '{{1,2},{3,4}}'::int4[]")
	if !reflect.DeepEqual(matrix, [][]int{{1, 2}, {3, 4}}) {
		t.Errorf("found %v", matrix)
	}
	var times []*time.Time
	one(t, client, []any{segue.ArrayOf(&times)}, `SELECT '{"2024-02-29 12:00:00+00",NULL}'::timestamptz[]`)
	if len(times) != 2 || !times[0].Equal(time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)) || times[1] != nil {
		t.Errorf("found %v", times)
	}
}

func TestWhatADestinationCannotHoldIsAnError(t *testing.T) {
	client := open(t)
	for query, dest := range map[string]any{
		"SELECT 256":                     new(uint8),
		"SELECT -1":                      new(uint64),
		"SELECT 9007199254740993":        new(float64),
		"SELECT 0.1::float8":             new(float32),
		"SELECT 12.5":                    new(int64),
		"SELECT NULL::int4":              new(int),
		"SELECT 'infinity'::timestamptz": new(time.Time),
		"SELECT 'infinity'::date":        new(time.Time),
		"SELECT '{1,NULL}'::int4[]":      segue.ArrayOf(new([]int)),
		"SELECT '[0:1]={1,2}'::int4[]":   segue.ArrayOf(new([]int)),
		"SELECT '{{1,2},{3,4}}'::int4[]": segue.ArrayOf(new([]int)),
		"SELECT '{1,2}'::int4[]":         segue.ArrayOf(new([][]int)),
		"SELECT '{1,300}'::int4[]":       segue.ArrayOf(new([]int8)),
		"SELECT 'x'::text":               new(bool),
	} {
		rows, err := client.Query(deadline(t), query)
		must(t, err)
		if !rows.Next() {
			t.Fatal(rows.Err())
		}
		if err := rows.Scan(dest); err == nil {
			t.Errorf("%s went into %T: %v", query, dest, reflect.ValueOf(dest))
		}
		must(t, rows.Close())
	}
}

type level string

func TestGoValuesGoIntoColumnsOfEveryType(t *testing.T) {
	client := open(t)
	at := time.Date(2024, 2, 29, 12, 30, 0, 123_456_789, time.FixedZone("", 2*3600))
	seven := 7
	for _, given := range []struct {
		typeName string
		value    any
		expected string
	}{
		{"int4", 5, "5"}, {"int4", "5", "5"}, {"int8", uint32(7), "7"}, {"int2", &seven, "7"}, {"int4", 3.0, "3"},
		{"numeric", "12.3400", "12.3400"}, {"numeric", segue.Numeric("1e400"), "1" + strings.Repeat("0", 400)},
		{"numeric", 0.1, "0.1"}, {"numeric", uint64(math.MaxUint64), "18446744073709551615"}, {"numeric", 7, "7"},
		{"numeric", new(big.Int).Lsh(big.NewInt(1), 100), "1267650600228229401496703205376"},
		{"float8", 5, "5"}, {"float8", "0.5", "0.5"}, {"float4", float32(0.1), "0.1"}, {"bool", true, "true"}, {"bool", "t", "true"},
		{"text", 5, "5"}, {"text", []byte("bytes"), "bytes"}, {"text", level("high"), "high"}, {"text", 0.25, "0.25"},
		{"bytea", []byte{0, 255}, `\x00ff`}, {"jsonb", []byte(`{"a":1}`), `{"a": 1}`}, {"jsonb", `[1]`, "[1]"},
		{"json", json.RawMessage(`{"a":1}`), `{"a":1}`}, {"text", json.RawMessage(`{"a":1}`), `{"a":1}`},
		{"timestamptz", at, "2024-02-29 10:30:00.123456+00"}, {"timestamp", at, "2024-02-29 12:30:00.123456"}, {"date", at, "2024-02-29"},
		{"timestamptz", time.Date(-43, 3, 15, 0, 0, 0, 0, time.UTC), "0044-03-15 00:00:00+00 BC"},
		{"timestamptz", segue.PositiveInfinity, "infinity"}, {"date", segue.Date{Infinity: segue.NegativeInfinity}, "-infinity"},
		{"date", segue.Date{Time: at}, "2024-02-29"}, {"time", segue.Time(1), "00:00:00.000001"},
		{"interval", segue.Interval{Months: 14, Days: -3, Micros: 1}, "1 year 2 mons -3 days +00:00:00.000001"},
		{"interval", 32 * time.Second, "00:00:32"}, {"int8", 1500 * time.Millisecond, "1500000000"}, {"int8", time.Duration(7), "7"},
		{"uuid", [16]byte{0xf8, 1}, "f8010000-0000-0000-0000-000000000000"}, {"uuid", "f81d4fae7dec11d0a76500a0c91e6bf6", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"},
		{"inet", netip.MustParseAddr("10.0.0.1"), "10.0.0.1/32"}, {"cidr", netip.MustParsePrefix("10.0.0.0/8"), "10.0.0.0/8"},
		{"int4[]", []int{1, 2}, "{1,2}"}, {"int8[]", [][]int64{{1, 2}, {3, 4}}, "{{1,2},{3,4}}"}, {"text[]", []string{}, "{}"},
		{"text[]", []*string{nil, new("NULL")}, `{NULL,"NULL"}`}, {"numeric[]", []string{"1.10", "2"}, "{1.10,2}"}, {"float8[]", []int{1}, "{1}"},
		{"bytea[]", [][]byte{{1}, nil}, `{"\\x01",NULL}`}, {"timestamptz[]", []time.Time{at}, `{"2024-02-29 10:30:00.123456+00"}`},
		{"jsonb[]", []json.RawMessage{[]byte(`{"a":1}`)}, `{"{\"a\": 1}"}`}, {"mood[]", []level{"ok"}, "{ok}"},
		{"int4[]", segue.Array{Dimensions: []segue.Dimension{{Length: 2, LowerBound: 0}}, Elements: []any{1, nil}}, "[0:1]={1,NULL}"},
		{"int4range", segue.Range[int64]{Lower: new(int64(1)), LowerInclusive: true}, "[1,)"},
		{"tstzrange", segue.Range[segue.Timestamp]{Lower: &segue.Timestamp{Time: at}, Upper: &segue.Timestamp{Infinity: segue.PositiveInfinity}}, `("2024-02-29 10:30:00.123456+00",infinity)`},
		{"mood", level("ok"), "ok"}, {"pair", `(1,"b c")`, `(1,"b c")`}, {"positive", 3, "3"},
		{"int4", (*int)(nil), "∅"}, {"text[]", []string(nil), "∅"}, {"text", nil, "∅"},
	} {
		rows, err := client.Query(deadline(t), fmt.Sprintf("SELECT coalesce(($1::%s)::text, '∅')", given.typeName), given.value)
		if err != nil {
			t.Errorf("%T %v as %s: %v", given.value, given.value, given.typeName, err)
			continue
		}
		var found string
		if !rows.Next() {
			t.Fatal(rows.Err())
		}
		must(t, rows.Scan(&found))
		must(t, rows.Close())
		equal(t, fmt.Sprintf("%T %v as %s", given.value, given.value, given.typeName), found, given.expected)
	}
}

func TestAParameterThatLosesIsAnError(t *testing.T) {
	client := open(t)
	for _, given := range []struct {
		typeName string
		value    any
	}{
		{"int2", 40_000}, {"int4", 1.5}, {"int4", "five"}, {"float8", int64(1)<<53 + 1}, {"numeric", "abc"},
		{"text", struct{}{}}, {"text", "\xff"}, {"text", map[string]int{}}, {"int4[]", [][]int{{1}, {2, 3}}},
		{"timestamptz", time.Date(300_000, 1, 1, 0, 0, 0, 0, time.UTC)}, {"bool", "perhaps"}, {"bytea", "text"},
		{"interval", 5}, {"interval", time.Duration(7)}, {"interval", 1.5}, {"date", 20240101}, {"inet", 7}, {"timestamptz", 1.5},
	} {
		rows, err := client.Query(deadline(t), fmt.Sprintf("SELECT ($1::%s)::text", given.typeName), given.value)
		if err == nil {
			t.Errorf("%T %v went into %s", given.value, given.value, given.typeName)
			must(t, rows.Close())
		}
	}
}
