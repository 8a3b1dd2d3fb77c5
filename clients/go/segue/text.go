package segue

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	microsPerSecond = 1_000_000
	microsPerMinute = 60 * microsPerSecond
	microsPerHour   = 60 * microsPerMinute
	microsPerDay    = 24 * microsPerHour
)

// formText writes a decoded value as PostgreSQL does inside arrays and ranges. oid is its type's.
func formText(form any, oid uint32) string {
	switch form := form.(type) {
	case bool:
		return "ft"[index(form) : index(form)+1]
	case int64:
		return strconv.FormatInt(form, 10)
	case float64:
		return floatText(form, oid == oidFloat4)
	case string:
		return form
	case Infinity:
		return string(form)
	case []byte:
		if oid == oidBytea {
			return `\x` + hex.EncodeToString(form)
		}
		return string(form)
	case time.Time:
		if oid == oidDate {
			return dateText(form)
		}
		return timestampText(form, oid == oidTimestampTZ)
	default:
		return fmt.Sprint(form)
	}
}

// floatText writes the shortest digits that read back the same, in PostgreSQL's form.
func floatText(number float64, single bool) string {
	switch {
	case math.IsNaN(number):
		return "NaN"
	case math.IsInf(number, 1):
		return "Infinity"
	case math.IsInf(number, -1):
		return "-Infinity"
	}
	bits, digits := 64, 15
	if single {
		bits, digits = 32, 6
	}
	scientific := strconv.FormatFloat(number, 'e', -1, bits)
	_, exponent, _ := strings.Cut(scientific, "e")
	if power, _ := strconv.Atoi(exponent); power < -4 || power >= digits {
		return scientific
	}
	return strconv.FormatFloat(number, 'f', -1, bits)
}

// dateText writes the day of t in its own location.
func dateText(t time.Time) string {
	year, month, day := t.Date()
	era := ""
	if year <= 0 {
		year, era = 1-year, " BC"
	}
	return fmt.Sprintf("%04d-%02d-%02d%s", year, month, day, era)
}

// timestampText writes t as PostgreSQL reads it: its wall clock and, where zoned, its offset.
func timestampText(t time.Time, zoned bool) string {
	day, bc := strings.CutSuffix(dateText(t), " BC")
	hour, minute, second := t.Clock()
	micros := int64(hour)*microsPerHour + int64(minute)*microsPerMinute + int64(second)*microsPerSecond +
		int64(t.Nanosecond()/1000)
	text := day + " " + clockText(micros)
	if zoned {
		_, offset := t.Zone()
		text += zoneText(offset)
	}
	if bc {
		text += " BC"
	}
	return text
}

// zoneText writes seconds east of UTC.
func zoneText(offset int) string {
	sign := "+"
	if offset < 0 {
		sign, offset = "-", -offset
	}
	text := fmt.Sprintf("%s%02d", sign, offset/3600)
	if offset%3600 != 0 {
		text += fmt.Sprintf(":%02d", offset/60%60)
	}
	if offset%60 != 0 {
		text += fmt.Sprintf(":%02d", offset%60)
	}
	return text
}

func clockText(micros int64) string {
	text := fmt.Sprintf("%02d:%02d:%02d", micros/microsPerHour, micros/microsPerMinute%60, micros/microsPerSecond%60)
	if fraction := micros % microsPerSecond; fraction != 0 {
		text += strings.TrimRight(fmt.Sprintf(".%06d", fraction), "0")
	}
	return text
}

func intervalText(i Interval) string {
	var text strings.Builder
	negative := false
	part := func(value int32, unit string) {
		if value == 0 {
			return
		}
		if text.Len() > 0 {
			text.WriteByte(' ')
		}
		if negative && value > 0 {
			text.WriteByte('+')
		}
		fmt.Fprintf(&text, "%d %s", value, unit)
		if value != 1 {
			text.WriteByte('s')
		}
		negative = value < 0
	}
	part(i.Months/12, "year")
	part(i.Months%12, "mon")
	part(i.Days, "day")
	if i.Micros == 0 && text.Len() > 0 {
		return text.String()
	}
	if text.Len() > 0 {
		text.WriteByte(' ')
	}
	switch {
	case i.Micros < 0:
		text.WriteByte('-')
	case negative:
		text.WriteByte('+')
	}
	text.WriteString(spanText(i.Micros))
	return text.String()
}

// spanText writes hours without a bound, and no sign.
func spanText(micros int64) string {
	size := uint64(micros)
	if micros < 0 {
		size = -size
	}
	text := fmt.Sprintf("%02d:%02d:%02d", size/microsPerHour, size/microsPerMinute%60, size/microsPerSecond%60)
	if fraction := size % microsPerSecond; fraction != 0 {
		text += strings.TrimRight(fmt.Sprintf(".%06d", fraction), "0")
	}
	return text
}

var errNotTime = errors.New("is not a timestamp or a date as PostgreSQL writes it")

// parseTime reads a timestamp or a date; without a zone it is in UTC.
func parseTime(text string) (time.Time, error) {
	fail := func() (time.Time, error) { return time.Time{}, fmt.Errorf("segue: %q %w", text, errNotTime) }
	rest, bc := strings.CutSuffix(text, " BC")
	day, clock, timed := strings.Cut(rest, " ")
	parts := strings.Split(day, "-")
	if len(parts) != 3 {
		return fail()
	}
	var date [3]int
	for at, part := range parts {
		number, err := strconv.ParseUint(part, 10, 32)
		if err != nil {
			return fail()
		}
		date[at] = int(number)
	}
	if bc {
		date[0] = 1 - date[0]
	}
	var micros int64
	location := time.UTC
	if timed {
		var zone string
		var err error
		if micros, zone, err = parseClock(clock); err != nil {
			return fail()
		}
		if zone != "" {
			offset, err := parseZone(zone)
			if err != nil {
				return fail()
			}
			if offset != 0 {
				location = time.FixedZone("", offset)
			}
		}
	}
	at := time.Date(date[0], time.Month(date[1]), date[2], 0, 0, int(micros/microsPerSecond), int(micros%microsPerSecond)*1000, location)
	return at.UTC(), nil
}

// parseClock reads HH:MM:SS with a fraction, and gives what stands behind.
func parseClock(text string) (int64, string, error) {
	end := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != ':' && r != '.' })
	rest := ""
	if end >= 0 {
		text, rest = text[:end], text[end:]
	}
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return 0, "", errNotTime
	}
	hours, err1 := strconv.ParseInt(parts[0], 10, 64)
	minutes, err2 := strconv.ParseInt(parts[1], 10, 64)
	whole, fraction, _ := strings.Cut(parts[2], ".")
	seconds, err3 := strconv.ParseInt(whole, 10, 64)
	if len(fraction) > 6 {
		return 0, "", errNotTime
	}
	micros, err4 := strconv.ParseInt((fraction + "000000")[:6], 10, 64)
	if err := errors.Join(err1, err2, err3, err4); err != nil || minutes > 59 || seconds > 59 || hours > math.MaxInt64/microsPerHour-1 {
		return 0, "", errNotTime
	}
	return hours*microsPerHour + minutes*microsPerMinute + seconds*microsPerSecond + micros, rest, nil
}

// parseZone reads ±HH, ±HH:MM or ±HH:MM:SS as seconds east of UTC.
func parseZone(text string) (int, error) {
	factors := [3]int{3600, 60, 1}
	parts := strings.Split(text[1:], ":")
	if len(parts) > len(factors) || (text[0] != '+' && text[0] != '-') {
		return 0, errNotTime
	}
	offset := 0
	for at, part := range parts {
		number, err := strconv.ParseUint(part, 10, 8)
		if err != nil {
			return 0, err
		}
		offset += int(number) * factors[at]
	}
	if text[0] == '-' {
		offset = -offset
	}
	return offset, nil
}

// parseInterval reads what intervalText writes.
func parseInterval(text string) (Interval, error) {
	if infinite := infinity(text); infinite != Finite {
		return Interval{Infinity: infinite}, nil
	}
	fail := fmt.Errorf("segue: %q is not an interval as PostgreSQL writes it", text)
	var made Interval
	var months, days int64
	words := strings.Fields(text)
	for at := 0; at < len(words); at++ {
		word := words[at]
		if strings.Contains(word, ":") {
			digits := strings.TrimLeft(word, "+-")
			micros, rest, err := parseSpan(digits)
			if err != nil || rest != "" || at != len(words)-1 {
				return Interval{}, fail
			}
			made.Micros = int64(micros)
			if strings.HasPrefix(word, "-") {
				made.Micros = int64(-micros)
			}
			continue
		}
		number, err := strconv.ParseInt(word, 10, 32)
		if err != nil || at+1 == len(words) {
			return Interval{}, fail
		}
		at++
		switch strings.TrimSuffix(words[at], "s") {
		case "year":
			months += 12 * number
		case "mon":
			months += number
		case "day":
			days += number
		default:
			return Interval{}, fail
		}
	}
	if len(words) == 0 || int64(int32(months)) != months || int64(int32(days)) != days {
		return Interval{}, fail
	}
	made.Months, made.Days = int32(months), int32(days)
	return made, nil
}

// parseSpan is parseClock for all 64 bits, whose most negative number has no positive one.
func parseSpan(text string) (uint64, string, error) {
	if text == spanText(math.MinInt64) {
		return 1 << 63, "", nil
	}
	hours, after, found := strings.Cut(text, ":")
	count, err := strconv.ParseUint(hours, 10, 64)
	if !found || err != nil || count > math.MaxInt64/microsPerHour {
		return 0, "", errNotTime
	}
	micros, rest, err := parseClock("0:" + after)
	sum := count*microsPerHour + uint64(micros)
	if sum > math.MaxInt64 {
		return 0, "", errNotTime
	}
	return sum, rest, err
}

// parseRange gives the bounds of a range that is not empty.
func parseRange(text string) ([2]*string, error) {
	var bounds [2]*string
	fail := fmt.Errorf("segue: %q is not a range as PostgreSQL writes it", text)
	if len(text) < 3 || !strings.ContainsRune("([", rune(text[0])) || !strings.ContainsRune(")]", rune(text[len(text)-1])) {
		return bounds, fail
	}
	inner := text[1 : len(text)-1]
	which, quoted, given := 0, false, false
	var bound strings.Builder
	finish := func() {
		if given {
			made := bound.String()
			bounds[which] = &made
		}
		bound.Reset()
		given = false
	}
	for at := 0; at < len(inner); at++ {
		switch char := inner[at]; {
		case char == '\\' && at+1 < len(inner):
			at++
			bound.WriteByte(inner[at])
			given = true
		case char == '"' && quoted && at+1 < len(inner) && inner[at+1] == '"':
			at++
			bound.WriteByte('"')
		case char == '"':
			quoted, given = !quoted, true
		case char == ',' && !quoted:
			if which == 1 {
				return bounds, fail
			}
			finish()
			which = 1
		default:
			bound.WriteByte(char)
			given = true
		}
	}
	if which != 1 || quoted {
		return bounds, fail
	}
	finish()
	return bounds, nil
}

// quotedBound quotes a bound as PostgreSQL does.
func quotedBound(text string) string {
	if text != "" && !strings.ContainsAny(text, "\"\\()[], \t\n\r\v\f") {
		return text
	}
	return `"` + strings.NewReplacer(`"`, `""`, `\`, `\\`).Replace(text) + `"`
}
