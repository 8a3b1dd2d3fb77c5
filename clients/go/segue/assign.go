package segue

import (
	"database/sql"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"
)

// assign puts a decoded value into what a pointer points to. What does not fit is an error.
func assign(dest, source any) error {
	switch into := dest.(type) {
	case sql.Scanner:
		return into.Scan(source)
	case *any:
		*into = source
		return nil
	case *time.Time:
		return assignTime(into, source)
	case *[]byte:
		return assignBytes(into, source)
	}
	pointer := reflect.ValueOf(dest)
	if pointer.Kind() != reflect.Pointer || pointer.IsNil() {
		return fmt.Errorf("segue: the destination is a %T; expected a pointer", dest)
	}
	into := pointer.Elem()
	if into.Kind() == reflect.Pointer {
		if source == nil {
			into.SetZero()
			return nil
		}
		into.Set(reflect.New(into.Type().Elem()))
		return assign(into.Interface(), source)
	}
	if source == nil {
		return fmt.Errorf("segue: NULL does not fit %s; use a pointer or sql.Null", into.Type())
	}
	if from := reflect.ValueOf(source); from.Type().AssignableTo(into.Type()) {
		into.Set(from)
		return nil
	}
	return assignKind(into, source)
}

func assignTime(into *time.Time, source any) error {
	if at, ok := source.(time.Time); ok {
		*into = at
		return nil
	}
	if text, ok := textSource(source); ok {
		at, err := parseTime(text)
		*into = at
		return err
	}
	return unfit(source, into)
}

func assignBytes(into *[]byte, source any) error {
	switch source := source.(type) {
	case nil:
		*into = nil
	case []byte:
		*into = source
	case string:
		*into = []byte(source)
	default:
		return unfit(source, into)
	}
	return nil
}

func assignKind(into reflect.Value, source any) error {
	fail := func() error { return fmt.Errorf("segue: %v (%T) does not fit %s", source, source, into.Type()) }
	text, isText := textSource(source)
	if infinite, ok := source.(Infinity); ok {
		text, isText = string(infinite), into.Kind() == reflect.String
	}
	switch into.Kind() {
	case reflect.String:
		if !isText {
			if _, isTime := source.(time.Time); isTime {
				return fail()
			}
			text = formText(source, oidText)
		}
		into.SetString(text)
	case reflect.Bool:
		if value, ok := source.(bool); ok {
			into.SetBool(value)
			return nil
		}
		value, err := strconv.ParseBool(text)
		if err != nil {
			return fail()
		}
		into.SetBool(value)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		value, ok := source.(int64)
		if !ok {
			parsed, err := strconv.ParseInt(text, 10, 64)
			if value = parsed; err != nil {
				return fail()
			}
		}
		if into.OverflowInt(value) {
			return fail()
		}
		into.SetInt(value)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if value, ok := source.(int64); ok {
			text = strconv.FormatInt(value, 10)
		}
		value, err := strconv.ParseUint(text, 10, 64)
		if err != nil || into.OverflowUint(value) {
			return fail()
		}
		into.SetUint(value)
	case reflect.Float32, reflect.Float64:
		return assignFloat(into, source, text, fail)
	case reflect.Slice:
		if into.Type().Elem().Kind() != reflect.Uint8 || !isText {
			return fail()
		}
		into.SetBytes([]byte(text))
	default:
		return fail()
	}
	return nil
}

// assignFloat takes integers that a float holds, and decimals that come out the same.
func assignFloat(into reflect.Value, source any, text string, fail func() error) error {
	value, ok := source.(float64)
	if number, isInteger := source.(int64); isInteger {
		value, ok = float64(number), number >= -exactMax && number <= exactMax
	}
	if !ok {
		parsed, err := strconv.ParseFloat(text, into.Type().Bits())
		if err != nil {
			return fail()
		}
		value = parsed
	}
	if into.Kind() == reflect.Float32 && !math.IsNaN(value) && float64(float32(value)) != value {
		return fail()
	}
	into.SetFloat(value)
	return nil
}
