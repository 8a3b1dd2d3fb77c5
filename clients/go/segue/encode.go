package segue

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"net"
	"net/netip"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/structpb"

	seguev1 "segue.test/clients/go/segue/v1"
)

func nullValue() *seguev1.Value {
	return &seguev1.Value{Kind: &seguev1.Value_Null{Null: structpb.NullValue_NULL_VALUE}}
}

func textValue(text string) *seguev1.Value {
	return &seguev1.Value{Kind: &seguev1.Value_Text{Text: text}}
}

func intValue(number int64) *seguev1.Value {
	return &seguev1.Value{Kind: &seguev1.Value_Int64{Int64: number}}
}

func doubleValue(number float64) *seguev1.Value {
	return &seguev1.Value{Kind: &seguev1.Value_Double{Double: number}}
}

func numericValue(digits string) *seguev1.Value {
	return &seguev1.Value{Kind: &seguev1.Value_Numeric{Numeric: digits}}
}

func bytesValue(data []byte) *seguev1.Value {
	return &seguev1.Value{Kind: &seguev1.Value_Bytes{Bytes: data}}
}

func jsonValue(document string) *seguev1.Value {
	return &seguev1.Value{Kind: &seguev1.Value_Json{Json: document}}
}

// encodeAll makes the parameters of a statement.
func encodeAll(arguments []any) ([]*seguev1.Value, error) {
	params := make([]*seguev1.Value, len(arguments))
	for at, argument := range arguments {
		made, err := encode(argument)
		if err != nil {
			return nil, own("parameter $%d: %v", at+1, err)
		}
		params[at] = made
	}
	return params, nil
}

// encode makes a parameter of a Go value. Where the value does not tell the type, it is the kind that
// goes into most.
func encode(argument any) (*seguev1.Value, error) {
	switch given := argument.(type) {
	case nil:
		return nullValue(), nil
	case *seguev1.Value:
		return given, nil
	case sql.Out:
		return nil, fmt.Errorf("output parameters do not exist; use RETURNING")
	case string:
		return encodeText(given)
	case []byte:
		if given == nil {
			return nullValue(), nil
		}
		return bytesValue(given), nil
	case int64:
		return intValue(given), nil
	case bool:
		return &seguev1.Value{Kind: &seguev1.Value_Bool{Bool: given}}, nil
	case float64:
		return doubleValue(given), nil
	case time.Time:
		// As a text it goes into timestamps with and without a zone and into dates alike.
		return textValue(timestampText(given, true)), nil
	case time.Duration:
		if given%time.Microsecond != 0 {
			// An interval has no nanoseconds: what it is then is a number of them.
			return intValue(int64(given)), nil
		}
		span := &seguev1.Interval{Micros: given.Microseconds()}
		return &seguev1.Value{Kind: &seguev1.Value_Interval{Interval: span}}, nil
	case Numeric:
		return numericValue(string(given)), nil
	case Infinity:
		return textValue(string(given)), nil
	case Opaque:
		opaque := &seguev1.Opaque{TypeName: given.Type, Data: given.Data}
		return &seguev1.Value{Kind: &seguev1.Value_Opaque{Opaque: opaque}}, nil
	case json.RawMessage:
		if given == nil {
			return nullValue(), nil
		}
		return jsonValue(string(given)), nil
	case arrayOf:
		return encode(given.dest)
	case Array:
		return encodeArray(given)
	case *big.Int:
		if given == nil {
			return nullValue(), nil
		}
		return numericValue(given.String()), nil
	case big.Int:
		return numericValue(given.String()), nil
	case netip.Addr:
		return textValue(given.String()), nil
	case netip.Prefix:
		return textValue(given.String()), nil
	case net.IP:
		return textValue(given.String()), nil
	case net.IPNet:
		return textValue(given.String()), nil
	case *net.IPNet:
		if given == nil {
			return nullValue(), nil
		}
		return textValue(given.String()), nil
	case net.HardwareAddr:
		return textValue(given.String()), nil
	}
	return encodeKind(argument)
}

func encodeText(text string) (*seguev1.Value, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("the string is not UTF-8; give bytes as []byte")
	}
	return textValue(text), nil
}

// encodeKind goes by what the type is made of.
func encodeKind(argument any) (*seguev1.Value, error) {
	given := reflect.ValueOf(argument)
	if given.Kind() == reflect.Pointer && given.IsNil() {
		return nullValue(), nil
	}
	if valuer, ok := argument.(driver.Valuer); ok {
		made, err := valuer.Value()
		if err != nil {
			return nil, err
		}
		if reflect.TypeOf(made) == reflect.TypeOf(argument) {
			return nil, fmt.Errorf("Value() of %T gives a %T again", argument, argument)
		}
		return encode(made)
	}
	switch given.Kind() {
	case reflect.Pointer:
		return encode(given.Elem().Interface())
	case reflect.Bool:
		return encode(given.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return intValue(given.Int()), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if number := given.Uint(); number > math.MaxInt64 {
			return numericValue(strconv.FormatUint(number, 10)), nil
		}
		return intValue(int64(given.Uint())), nil
	case reflect.Float32, reflect.Float64:
		return doubleValue(given.Float()), nil
	case reflect.String:
		return encodeText(given.String())
	case reflect.Array:
		if given.Type().Elem().Kind() == reflect.Uint8 && given.Len() == 16 {
			var id [16]byte
			reflect.Copy(reflect.ValueOf(&id).Elem(), given)
			return &seguev1.Value{Kind: &seguev1.Value_Uuid{Uuid: uuidText(id)}}, nil
		}
	case reflect.Slice:
		if given.IsNil() {
			return nullValue(), nil
		}
		if given.Type().Elem().Kind() == reflect.Uint8 {
			return bytesValue(given.Bytes()), nil
		}
		return encodeSlice(given)
	}
	return nil, fmt.Errorf("a value of type %T cannot be a parameter; give a json.RawMessage, or make it a driver.Valuer", argument)
}

// encodeSlice makes an array; slices in slices are its dimensions.
func encodeSlice(given reflect.Value) (*seguev1.Value, error) {
	var dimensions []Dimension
	inner := given
	for {
		dimensions = append(dimensions, Dimension{Length: inner.Len(), LowerBound: 1})
		if !isDimension(inner.Type().Elem()) || inner.Len() == 0 {
			break
		}
		inner = inner.Index(0)
	}
	elements, err := flatten(given, dimensions, nil)
	if err != nil {
		return nil, err
	}
	if len(elements) == 0 {
		dimensions = nil
	}
	return encodeArray(Array{Dimensions: dimensions, Elements: elements})
}

func isDimension(element reflect.Type) bool {
	return element.Kind() == reflect.Slice && element.Elem().Kind() != reflect.Uint8 &&
		!element.Implements(reflect.TypeFor[driver.Valuer]())
}

func flatten(given reflect.Value, dimensions []Dimension, elements []any) ([]any, error) {
	if given.Len() != dimensions[0].Length {
		return nil, fmt.Errorf("its rows have %d and %d elements; all must have as many", dimensions[0].Length, given.Len())
	}
	for at := range given.Len() {
		if len(dimensions) == 1 {
			elements = append(elements, given.Index(at).Interface())
			continue
		}
		var err error
		if elements, err = flatten(given.Index(at), dimensions[1:], elements); err != nil {
			return nil, err
		}
	}
	return elements, nil
}

func encodeArray(given Array) (*seguev1.Value, error) {
	made := &seguev1.Array{ElementType: "text"}
	for _, dimension := range given.Dimensions {
		if dimension.Length < 0 || int64(dimension.Length) > math.MaxUint32 || int64(int32(dimension.LowerBound)) != int64(dimension.LowerBound) {
			return nil, fmt.Errorf("a dimension of %d elements from %d is out of range", dimension.Length, dimension.LowerBound)
		}
		made.Dimensions = append(made.Dimensions, &seguev1.Dimension{
			Length: uint32(dimension.Length), LowerBound: int32(dimension.LowerBound),
		})
	}
	for at, element := range given.Elements {
		value, err := encode(element)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", at, err)
		}
		if _, nested := value.GetKind().(*seguev1.Value_Array); nested {
			return nil, fmt.Errorf("element %d is an array; slices in slices make several dimensions", at)
		}
		made.Elements = append(made.Elements, value)
	}
	return &seguev1.Value{Kind: &seguev1.Value_Array{Array: made}}, nil
}
