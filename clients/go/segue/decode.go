package segue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	seguev1 "segue.test/clients/go/segue/v1"
)

// Object ids of the built-in types, which all databases have in common.
const (
	oidBool        = 16
	oidBytea       = 17
	oidName        = 19
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidOid         = 26
	oidJSON        = 114
	oidCidr        = 650
	oidFloat4      = 700
	oidFloat8      = 701
	oidInet        = 869
	oidBpchar      = 1042
	oidVarchar     = 1043
	oidDate        = 1082
	oidTime        = 1083
	oidTimestamp   = 1114
	oidTimestampTZ = 1184
	oidInterval    = 1186
	oidTimeTZ      = 1266
	oidBit         = 1560
	oidVarbit      = 1562
	oidNumeric     = 1700
	oidUUID        = 2950
	oidJSONB       = 3802

	// Seconds and days from 1970 to 2000, where PostgreSQL's count begins.
	epochSeconds = 946_684_800
	epochDays    = 10_957
)

// elementOf gives the element types of the arrays that are decoded here.
var elementOf = map[uint32]uint32{
	1000: oidBool, 1001: oidBytea, 1003: oidName, 1016: oidInt8, 1005: oidInt2, 1007: oidInt4, 1009: oidText,
	1028: oidOid, 199: oidJSON, 651: oidCidr, 1021: oidFloat4, 1022: oidFloat8, 1041: oidInet, 1014: oidBpchar,
	1015: oidVarchar, 1182: oidDate, 1183: oidTime, 1115: oidTimestamp, 1185: oidTimestampTZ, 1187: oidInterval,
	1270: oidTimeTZ, 1231: oidNumeric, 2951: oidUUID, 3807: oidJSONB,
}

// boundOf gives what the ranges that are decoded here range over.
var boundOf = map[uint32]uint32{
	3904: oidInt4, 3906: oidNumeric, 3908: oidTimestamp, 3910: oidTimestampTZ, 3912: oidDate, 3926: oidInt8,
}

// decoder reads a cell in PostgreSQL's binary format.
type decoder func(cell []byte) (any, error)

// decoders has those of scalars.
var decoders map[uint32]decoder

func init() {
	decoders = map[uint32]decoder{
		oidBool: decodeBool, oidBytea: decodeBytes, oidName: decodeText, oidInt8: decodeInt8, oidInt2: decodeInt2,
		oidInt4: decodeInt4, oidText: decodeText, oidOid: decodeOid, oidJSON: decodeBytes, oidCidr: decodeCidr,
		oidFloat4: decodeFloat4, oidFloat8: decodeFloat8, oidInet: decodeInet, oidBpchar: decodeText,
		oidVarchar: decodeText, oidDate: decodeDate, oidTime: decodeTime, oidTimestamp: decodeTimestamp,
		oidTimestampTZ: decodeTimestamp, oidInterval: decodeInterval, oidTimeTZ: decodeTimeTZ,
		oidNumeric: decodeNumeric, oidUUID: decodeUUID, oidJSONB: decodeJSONB,
	}
}

// decoderOf gives the decoder of a column's type; nil where its packed cells cannot be read here, since
// what a type is that was made at run time is not told by its cells.
func decoderOf(oid uint32) decoder {
	if found, scalar := decoders[oid]; scalar {
		return found
	}
	if element, array := elementOf[oid]; array {
		return func(cell []byte) (any, error) { return decodeArray(cell, element) }
	}
	if bound, ranged := boundOf[oid]; ranged {
		return func(cell []byte) (any, error) { return decodeRange(cell, bound) }
	}
	return nil
}

var errLength = errors.New("its length is not that of its type")

func decodeBool(cell []byte) (any, error) {
	if len(cell) != 1 {
		return nil, errLength
	}
	return cell[0] != 0, nil
}

func decodeInt2(cell []byte) (any, error) {
	if len(cell) != 2 {
		return nil, errLength
	}
	return int64(int16(binary.BigEndian.Uint16(cell))), nil
}

func decodeInt4(cell []byte) (any, error) {
	if len(cell) != 4 {
		return nil, errLength
	}
	return int64(int32(binary.BigEndian.Uint32(cell))), nil
}

func decodeInt8(cell []byte) (any, error) {
	if len(cell) != 8 {
		return nil, errLength
	}
	return int64(binary.BigEndian.Uint64(cell)), nil
}

func decodeOid(cell []byte) (any, error) {
	if len(cell) != 4 {
		return nil, errLength
	}
	return int64(binary.BigEndian.Uint32(cell)), nil
}

func decodeFloat4(cell []byte) (any, error) {
	if len(cell) != 4 {
		return nil, errLength
	}
	return float64(math.Float32frombits(binary.BigEndian.Uint32(cell))), nil
}

func decodeFloat8(cell []byte) (any, error) {
	if len(cell) != 8 {
		return nil, errLength
	}
	return math.Float64frombits(binary.BigEndian.Uint64(cell)), nil
}

func decodeText(cell []byte) (any, error) {
	if !utf8.Valid(cell) {
		return nil, errors.New("it is not UTF-8")
	}
	return string(cell), nil
}

func decodeBytes(cell []byte) (any, error) {
	return append(make([]byte, 0, len(cell)), cell...), nil
}

func decodeJSONB(cell []byte) (any, error) {
	if len(cell) == 0 || cell[0] != 1 {
		return nil, errors.New("its version is not 1")
	}
	return decodeBytes(cell[1:])
}

func decodeUUID(cell []byte) (any, error) {
	if len(cell) != 16 {
		return nil, errLength
	}
	return uuidText([16]byte(cell)), nil
}

func uuidText(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16])
}

func decodeTimestamp(cell []byte) (any, error) {
	if len(cell) != 8 {
		return nil, errLength
	}
	switch micros := int64(binary.BigEndian.Uint64(cell)); micros {
	case math.MaxInt64:
		return PositiveInfinity, nil
	case math.MinInt64:
		return NegativeInfinity, nil
	default:
		// time.Unix takes a fraction of either sign.
		return time.Unix(micros/microsPerSecond+epochSeconds, micros%microsPerSecond*1000).UTC(), nil
	}
}

func decodeDate(cell []byte) (any, error) {
	if len(cell) != 4 {
		return nil, errLength
	}
	switch days := int32(binary.BigEndian.Uint32(cell)); days {
	case math.MaxInt32:
		return PositiveInfinity, nil
	case math.MinInt32:
		return NegativeInfinity, nil
	default:
		return dayTime(int64(days) + epochDays), nil
	}
}

func dayTime(days int64) time.Time { return time.Unix(days*24*60*60, 0).UTC() }

func decodeTime(cell []byte) (any, error) {
	if len(cell) != 8 {
		return nil, errLength
	}
	micros := int64(binary.BigEndian.Uint64(cell))
	if micros < 0 || micros > microsPerDay {
		return nil, errors.New("it is out of range")
	}
	return clockText(micros), nil
}

func decodeTimeTZ(cell []byte) (any, error) {
	if len(cell) != 12 {
		return nil, errLength
	}
	clock, err := decodeTime(cell[:8])
	if err != nil {
		return nil, err
	}
	// It counts seconds west.
	west := int32(binary.BigEndian.Uint32(cell[8:]))
	return clock.(string) + zoneText(-int(west)), nil
}

func decodeInterval(cell []byte) (any, error) {
	if len(cell) != 16 {
		return nil, errLength
	}
	made := Interval{
		Micros: int64(binary.BigEndian.Uint64(cell)),
		Days:   int32(binary.BigEndian.Uint32(cell[8:])),
		Months: int32(binary.BigEndian.Uint32(cell[12:])),
	}
	switch {
	case made.Micros == math.MaxInt64 && made.Days == math.MaxInt32 && made.Months == math.MaxInt32:
		return PositiveInfinity, nil
	case made.Micros == math.MinInt64 && made.Days == math.MinInt32 && made.Months == math.MinInt32:
		return NegativeInfinity, nil
	}
	return intervalText(made), nil
}

const (
	numericNegative         = 0x4000
	numericNaN              = 0xC000
	numericPositiveInfinity = 0xD000
	numericNegativeInfinity = 0xF000
)

// decodeNumeric reads groups of four digits, with all digits that the scale asks for.
func decodeNumeric(cell []byte) (any, error) {
	if len(cell) < 8 {
		return nil, errLength
	}
	count := int(binary.BigEndian.Uint16(cell))
	weight := int(int16(binary.BigEndian.Uint16(cell[2:])))
	sign := binary.BigEndian.Uint16(cell[4:])
	scale := int(binary.BigEndian.Uint16(cell[6:]))
	switch sign {
	case numericNaN:
		return "NaN", nil
	case numericPositiveInfinity:
		return "Infinity", nil
	case numericNegativeInfinity:
		return "-Infinity", nil
	case 0, numericNegative:
	default:
		return nil, errors.New("its sign is unknown")
	}
	if len(cell) != 8+2*count {
		return nil, errLength
	}
	group := func(at int) uint16 {
		if at < 0 || at >= count {
			return 0
		}
		return binary.BigEndian.Uint16(cell[8+2*at:])
	}
	text := make([]byte, 0, 8+4*count+scale)
	if sign == numericNegative {
		text = append(text, '-')
	}
	if weight < 0 {
		text = append(text, '0')
	}
	for at := 0; at <= weight; at++ {
		if at == 0 {
			text = strconv.AppendUint(text, uint64(group(0)), 10)
		} else {
			text = appendGroup(text, group(at))
		}
	}
	if scale > 0 {
		text = append(text, '.')
		end := len(text) + scale
		for at := weight + 1; len(text) < end; at++ {
			text = appendGroup(text, group(at))
		}
		text = text[:end]
	}
	return string(text), nil
}

func appendGroup(text []byte, group uint16) []byte {
	return append(text, byte('0'+group/1000), byte('0'+group/100%10), byte('0'+group/10%10), byte('0'+group%10))
}

func decodeInet(cell []byte) (any, error) { return network(cell, false) }
func decodeCidr(cell []byte) (any, error) { return network(cell, true) }

// network reads family, bits, is_cidr, length and the address.
func network(cell []byte, alwaysBits bool) (any, error) {
	if len(cell) < 4 || len(cell) != 4+int(cell[3]) {
		return nil, errLength
	}
	address, ok := netip.AddrFromSlice(cell[4:])
	if !ok {
		return nil, errLength
	}
	bits := int(cell[1])
	text := address.String()
	if address.Is6() {
		// PostgreSQL writes addresses that end in an IPv4 address with dots in two cases more.
		if bytes := address.As16(); address.Is4In6() || onlyLow(bytes) {
			text = "::" + netip.AddrFrom4([4]byte(bytes[12:])).String()
			if address.Is4In6() {
				text = "::ffff:" + text[2:]
			}
		}
	}
	if alwaysBits || bits != address.BitLen() {
		text += "/" + strconv.Itoa(bits)
	}
	return text, nil
}

// onlyLow says whether the upper 96 bits are zero and the first two bytes below them are not.
func onlyLow(bytes [16]byte) bool {
	for _, high := range bytes[:12] {
		if high != 0 {
			return false
		}
	}
	return bytes[12] != 0 || bytes[13] != 0
}

// reader takes a cell apart. After an error it gives nothing.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) take(length int) []byte {
	if r.failed || length < 0 || length > len(r.rest) {
		r.failed = true
		return nil
	}
	taken := r.rest[:length]
	r.rest = r.rest[length:]
	return taken
}

func (r *reader) int32() int {
	taken := r.take(4)
	if taken == nil {
		return 0
	}
	return int(int32(binary.BigEndian.Uint32(taken)))
}

// part takes a length and as many bytes; nil is NULL.
func (r *reader) part() []byte {
	length := r.int32()
	if length == -1 || r.failed {
		return nil
	}
	taken := r.take(length)
	if taken == nil && !r.failed {
		return []byte{}
	}
	return taken
}

func decodeArray(cell []byte, element uint32) (any, error) {
	read := reader{rest: cell}
	count := read.int32()
	read.int32() // whether there are NULLs
	read.int32() // the element's type
	if count < 0 || count > dimensionsMax {
		return nil, errors.New("the number of dimensions is out of range")
	}
	dimensions, product := make([]Dimension, count), 1
	for at := range dimensions {
		dimensions[at] = Dimension{Length: read.int32(), LowerBound: read.int32()}
		product *= dimensions[at].Length
		// Each element has a length of its own of four bytes.
		if dimensions[at].Length <= 0 || product > len(cell)/4 {
			return nil, errLength
		}
	}
	decode := decoders[element]
	var failed error
	text := arrayForm(dimensions, func() (string, bool) {
		part := read.part()
		if part == nil || failed != nil {
			return "", false
		}
		form, err := decode(part)
		if err != nil {
			failed = err
			return "", false
		}
		return formText(form, element), true
	})
	if failed == nil && (read.failed || len(read.rest) > 0) {
		failed = errLength
	}
	return text, failed
}

func decodeRange(cell []byte, bound uint32) (any, error) {
	const empty, lowerIn, upperIn, lowerNone, upperNone = 0x01, 0x02, 0x04, 0x08, 0x10
	read := reader{rest: cell}
	head := read.take(1)
	if head == nil {
		return nil, errLength
	}
	flags := head[0]
	if flags&empty != 0 {
		return "empty", nil
	}
	var text strings.Builder
	text.WriteByte("(["[index(flags&lowerIn != 0)])
	for at, none := range []byte{lowerNone, upperNone} {
		if at == 1 {
			text.WriteByte(',')
		}
		if flags&none != 0 {
			continue
		}
		form, err := decoders[bound](read.part())
		if err != nil {
			return nil, err
		}
		text.WriteString(quotedBound(formText(form, bound)))
	}
	text.WriteByte(")]"[index(flags&upperIn != 0)])
	if read.failed || len(read.rest) > 0 {
		return nil, errLength
	}
	return text.String(), nil
}

// decodeTyped reads a typed value into the same forms as the packed cells. It gives the type, too, as far
// as the text inside an array depends on it.
func decodeTyped(value *seguev1.Value) (any, uint32) {
	switch kind := value.GetKind().(type) {
	case *seguev1.Value_Bool:
		return kind.Bool, oidBool
	case *seguev1.Value_Int64:
		return kind.Int64, oidInt8
	case *seguev1.Value_Double:
		return kind.Double, oidFloat8
	case *seguev1.Value_Numeric:
		return kind.Numeric, oidNumeric
	case *seguev1.Value_Text:
		return kind.Text, oidText
	case *seguev1.Value_Bytes:
		return append([]byte{}, kind.Bytes...), oidBytea
	case *seguev1.Value_Timestamp:
		return typedTimestamp(kind.Timestamp), oidTimestamp
	case *seguev1.Value_Timestamptz:
		return typedTimestamp(kind.Timestamptz), oidTimestampTZ
	case *seguev1.Value_Date:
		if infinite := typedInfinity(kind.Date.GetInfinity()); infinite != Finite {
			return infinite, oidDate
		}
		return dayTime(int64(kind.Date.GetDays())), oidDate
	case *seguev1.Value_Time:
		return clockText(kind.Time), oidTime
	case *seguev1.Value_Interval:
		if infinite := typedInfinity(kind.Interval.GetInfinity()); infinite != Finite {
			return infinite, oidInterval
		}
		given := kind.Interval
		return intervalText(Interval{Months: given.GetMonths(), Days: given.GetDays(), Micros: given.GetMicros()}), oidInterval
	case *seguev1.Value_Uuid:
		return kind.Uuid, oidUUID
	case *seguev1.Value_Json:
		return []byte(kind.Json), oidJSON
	case *seguev1.Value_Array:
		return typedArray(kind.Array), oidText
	case *seguev1.Value_Other:
		return kind.Other.GetText(), oidText
	case *seguev1.Value_Opaque:
		return Opaque{Type: kind.Opaque.GetTypeName(), Data: append([]byte{}, kind.Opaque.GetData()...)}, oidBytea
	default:
		return nil, 0
	}
}

func typedTimestamp(given *seguev1.Timestamp) any {
	if infinite := typedInfinity(given.GetInfinity()); infinite != Finite {
		return infinite
	}
	return time.Unix(given.GetSeconds(), int64(given.GetMicros())*1000).UTC()
}

func typedInfinity(given seguev1.Infinity) Infinity {
	switch given {
	case seguev1.Infinity_INFINITY_POSITIVE:
		return PositiveInfinity
	case seguev1.Infinity_INFINITY_NEGATIVE:
		return NegativeInfinity
	default:
		return Finite
	}
}

// typedArray gives the array's text; an array of elements that have none is opaque itself.
func typedArray(given *seguev1.Array) any {
	dimensions := make([]Dimension, len(given.GetDimensions()))
	for at, dimension := range given.GetDimensions() {
		dimensions[at] = Dimension{Length: int(dimension.GetLength()), LowerBound: int(dimension.GetLowerBound())}
	}
	rest := given.GetElements()
	for _, element := range rest {
		if _, opaque := element.GetKind().(*seguev1.Value_Opaque); opaque {
			elements := make([]any, len(rest))
			for at := range rest {
				elements[at], _ = decodeTyped(rest[at])
			}
			return Array{Dimensions: dimensions, Elements: elements}
		}
	}
	return arrayForm(dimensions, func() (string, bool) {
		form, oid := decodeTyped(rest[0])
		rest = rest[1:]
		if form == nil {
			return "", false
		}
		if given.GetElementType() == "float4" {
			oid = oidFloat4
		}
		return formText(form, oid), true
	})
}
