package segue

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// The texts of PostgreSQL are written and read here; what is written must come back.

func TestIntervalsComeBackFromTheirText(t *testing.T) {
	for range 20_000 {
		sign := func() int64 { return rand.Int64N(3) - 1 }
		given := Interval{
			Months: int32(sign() * rand.Int64N(1<<rand.IntN(32))), Days: int32(sign() * rand.Int64N(1<<rand.IntN(32))),
			Micros: sign() * rand.Int64N(1<<rand.IntN(63)),
		}
		comesBack(t, given)
	}
	comesBack(t, Interval{Months: math.MinInt32, Days: math.MinInt32, Micros: math.MinInt64})
	comesBack(t, Interval{Months: math.MaxInt32, Days: math.MaxInt32, Micros: math.MaxInt64})
	comesBack(t, Interval{Infinity: NegativeInfinity})
}

func comesBack(t *testing.T, given Interval) {
	t.Helper()
	var found Interval
	if err := found.Scan(given.String()); err != nil || found != given {
		t.Errorf("%#v is written as %q and read as %#v: %v", given, given.String(), found, err)
	}
}

func TestTimestampsComeBackFromTheirText(t *testing.T) {
	for range 20_000 {
		seconds := rand.Int64N(1<<43) - 1<<42
		zone := time.FixedZone("", rand.IntN(2*14*3600)-14*3600)
		given := time.Unix(seconds, rand.Int64N(microsPerSecond)*1000).In(zone)
		found, err := parseTime(timestampText(given, true))
		if err != nil || !found.Equal(given) {
			t.Errorf("%s is written as %q and read as %s: %v", given, timestampText(given, true), found, err)
		}
	}
}

func TestArraysComeBackFromTheirText(t *testing.T) {
	letters := []rune(`ab,{}"\ NULnul` + "\n")
	for range 5_000 {
		dimensions := make([]Dimension, 1+rand.IntN(3))
		count := 1
		for at := range dimensions {
			dimensions[at] = Dimension{Length: 1 + rand.IntN(3), LowerBound: rand.IntN(3)}
			count *= dimensions[at].Length
		}
		given := Array{Dimensions: dimensions, Elements: make([]any, count)}
		for at := range given.Elements {
			if rand.IntN(4) > 0 {
				text := ""
				for range rand.IntN(5) {
					text += string(letters[rand.IntN(len(letters))])
				}
				given.Elements[at] = text
			}
		}
		rest := given.Elements
		text := arrayForm(dimensions, func() (string, bool) {
			element, isText := rest[0].(string)
			rest = rest[1:]
			return element, isText
		})
		var found Array
		if err := found.Scan(text); err != nil || !reflect.DeepEqual(found, given) {
			t.Fatalf("%#v is written as %q and read as %#v: %v", given, text, found, err)
		}
	}
}

func TestRangesComeBackFromTheirText(t *testing.T) {
	for _, bounds := range [][2]string{{"a", "b"}, {"", `"`}, {`\`, `(,]`}, {" a b", `""`}} {
		given := Range[string]{Lower: &bounds[0], Upper: &bounds[1], LowerInclusive: true}
		text, err := given.Value()
		if err != nil {
			t.Fatal(err)
		}
		var found Range[string]
		if err := found.Scan(text); err != nil || *found.Lower != bounds[0] || *found.Upper != bounds[1] || !found.LowerInclusive || found.UpperInclusive {
			t.Errorf("%q: found %+v: %v", text, found, err)
		}
	}
}

// TestWrongTextsAreErrors gives what no server writes.
func TestWrongTextsAreErrors(t *testing.T) {
	for text, into := range map[string]interface{ Scan(any) error }{
		"1 day 2":             new(Interval),
		"":                    new(Interval),
		"3000000000 days":     new(Interval),
		"25:00":               new(Time),
		"12:00:00+02":         new(Time),
		"2024-01":             new(Timestamp),
		"2024-01-01 12":       new(Date),
		"{1,2":                new(Array),
		"{1}}":                new(Array),
		"{{1,2},{3}}":         new(Array),
		"1,2":                 new(Array),
		"[1,2":                new(Range[int64]),
		"[1,2,3)":             new(Range[int64]),
		"[x,2)":               new(Range[int64]),
		"{{{{{{{1}}}}}}}":     new(Array),
		`{"unfinished`:        new(Array),
		"[a:b]={1}":           new(Array),
		"-9:00:00 1 day":      new(Interval),
		"99999999999:00:00.1": new(Interval),
	} {
		if err := into.Scan(text); err == nil {
			t.Errorf("%q was read as %+v", text, into)
		}
	}
}

// FuzzCells gives cells that no server sends: they are errors, and never a panic.
func FuzzCells(f *testing.F) {
	f.Add(uint32(oidNumeric), []byte{0, 1, 0, 0, 0, 0, 0, 2, 0, 1})
	f.Add(uint32(1007), []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 7})
	f.Add(uint32(3904), []byte{2, 0, 0, 0, 4, 0, 0, 0, 1})
	f.Add(uint32(oidInet), []byte{2, 32, 0, 4, 1, 2, 3, 4})
	f.Fuzz(func(_ *testing.T, oid uint32, cell []byte) {
		if decode := decoderOf(oid); decode != nil {
			_, _ = decode(cell)
		}
		for _, oid := range []uint32{oidNumeric, 1231, 3906, oidInterval, oidTimeTZ, oidCidr} {
			_, _ = decoderOf(oid)(cell)
		}
	})
}
