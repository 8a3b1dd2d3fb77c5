package segue

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	seguev1 "segue.test/clients/go/segue/v1"
)

// exactMax is the largest integer up to which a float64 holds all of them.
const exactMax = 1 << 53

// fitAll makes parameters of the kinds that the types take, where that loses nothing. The sidecar takes a
// value of its own kind only; Go's users give a string for a numeric, or bytes for a json.
func fitAll(params []*seguev1.Value, types []string) []*seguev1.Value {
	if types == nil {
		return params
	}
	fitted := make([]*seguev1.Value, len(params))
	for at, value := range params {
		fitted[at] = value
		if at < len(types) {
			fitted[at] = fit(value, types[at])
		}
	}
	return fitted
}

// mayMisfit says whether values of the kind are often given for types that do not take them.
func mayMisfit(value *seguev1.Value) bool {
	switch value.GetKind().(type) {
	case *seguev1.Value_Text, *seguev1.Value_Bytes, *seguev1.Value_Double, *seguev1.Value_Array,
		*seguev1.Value_Interval:
		return true
	default:
		return false
	}
}

// fit gives the value itself where there is nothing to do, or where it does not fit: then the sidecar's
// error says so.
func fit(value *seguev1.Value, typeName string) *seguev1.Value {
	if element, isArray := strings.CutPrefix(typeName, "_"); isArray {
		array := value.GetArray()
		if array == nil {
			return value
		}
		made := &seguev1.Array{ElementType: element, Dimensions: array.GetDimensions()}
		for _, given := range array.GetElements() {
			made.Elements = append(made.Elements, fit(given, element))
		}
		return &seguev1.Value{Kind: &seguev1.Value_Array{Array: made}}
	}
	var made *seguev1.Value
	switch typeName {
	case "int2", "int4", "int8", "oid":
		made = fitInteger(value)
	case "numeric":
		made = fitNumeric(value)
	case "float4", "float8":
		made = fitDouble(value)
	case "bool":
		if parsed, err := strconv.ParseBool(value.GetText()); err == nil {
			made = &seguev1.Value{Kind: &seguev1.Value_Bool{Bool: parsed}}
		}
	case "json", "jsonb":
		if data := value.GetBytes(); data != nil && utf8.Valid(data) {
			made = jsonValue(string(data))
		}
	case "bytea":
	case "text", "varchar", "bpchar", "name", "citext":
		made = fitText(value)
	default:
		made = fitOther(value)
	}
	if made == nil {
		return value
	}
	return made
}

func fitInteger(value *seguev1.Value) *seguev1.Value {
	switch kind := value.GetKind().(type) {
	case *seguev1.Value_Text:
		if number, err := strconv.ParseInt(kind.Text, 10, 64); err == nil {
			return intValue(number)
		}
	case *seguev1.Value_Numeric:
		if number, err := strconv.ParseInt(kind.Numeric, 10, 64); err == nil {
			return intValue(number)
		}
	case *seguev1.Value_Interval:
		// Only a time.Duration becomes one: it counts nanoseconds.
		return intValue(kind.Interval.GetMicros() * 1000)
	case *seguev1.Value_Double:
		if number := kind.Double; number == math.Trunc(number) && math.Abs(number) <= exactMax {
			return intValue(int64(number))
		}
	}
	return nil
}

func fitNumeric(value *seguev1.Value) *seguev1.Value {
	switch kind := value.GetKind().(type) {
	case *seguev1.Value_Text:
		return numericValue(kind.Text)
	case *seguev1.Value_Double:
		if math.IsNaN(kind.Double) || math.IsInf(kind.Double, 0) {
			return numericValue(floatText(kind.Double, false))
		}
		return numericValue(strconv.FormatFloat(kind.Double, 'f', -1, 64))
	}
	return nil
}

func fitDouble(value *seguev1.Value) *seguev1.Value {
	switch kind := value.GetKind().(type) {
	case *seguev1.Value_Text:
		if number, err := strconv.ParseFloat(kind.Text, 64); err == nil {
			return doubleValue(number)
		}
	case *seguev1.Value_Int64:
		if kind.Int64 >= -exactMax && kind.Int64 <= exactMax {
			return doubleValue(float64(kind.Int64))
		}
	}
	return nil
}

// fitOther takes what is a text already for a type that PostgreSQL reads from its text. A number is none: as
// a text it would be seconds of an interval, for example.
func fitOther(value *seguev1.Value) *seguev1.Value {
	switch kind := value.GetKind().(type) {
	case *seguev1.Value_Bytes:
		if utf8.Valid(kind.Bytes) {
			return textValue(string(kind.Bytes))
		}
	case *seguev1.Value_Json:
		return textValue(kind.Json)
	}
	return nil
}

// fitText writes a value for a column of texts.
func fitText(value *seguev1.Value) *seguev1.Value {
	switch kind := value.GetKind().(type) {
	case *seguev1.Value_Numeric:
		return textValue(kind.Numeric)
	case *seguev1.Value_Uuid:
		return textValue(kind.Uuid)
	case *seguev1.Value_Int64:
		return textValue(strconv.FormatInt(kind.Int64, 10))
	case *seguev1.Value_Double:
		return textValue(floatText(kind.Double, false))
	case *seguev1.Value_Bool:
		return textValue(strconv.FormatBool(kind.Bool))
	case *seguev1.Value_Array:
		if form, ok := typedArray(kind.Array).(string); ok {
			return textValue(form)
		}
	case *seguev1.Value_Interval:
		form, _ := decodeTyped(value)
		return textValue(form.(string))
	}
	return fitOther(value)
}
