package segue

import (
	"database/sql/driver"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Dimension is one dimension of an array.
type Dimension struct {
	// Length is the number of elements along it.
	Length int
	// LowerBound is the index of the first one: 1 unless the array says otherwise.
	LowerBound int
}

// Array is an array as PostgreSQL has it, with the bounds that Go's slices do not have.
type Array struct {
	// Dimensions has none for an empty array.
	Dimensions []Dimension
	// Elements stand row by row. What is read has strings and nil, which is NULL.
	Elements []any
}

// Scan takes an array.
func (a *Array) Scan(source any) error {
	text, ok := textSource(source)
	if !ok {
		return unfit(source, a)
	}
	read, err := parseArray(text)
	if err != nil {
		return err
	}
	*a = Array{Dimensions: read.dimensions, Elements: make([]any, len(read.elements))}
	for at, element := range read.elements {
		if element != nil {
			a.Elements[at] = *element
		}
	}
	return nil
}

// ArrayOf reads an array into a slice and gives a slice as an array: dest is a pointer to a slice, or for
// several dimensions to nested slices. NULL is a nil slice; elements that may be NULL are pointers, or
// sql.Null. Bounds that do not begin with 1 are an error: see [Array].
func ArrayOf(dest any) interface {
	driver.Valuer
	Scan(source any) error
} {
	return arrayOf{dest}
}

type arrayOf struct{ dest any }

// Value gives PostgreSQL's text.
func (a arrayOf) Value() (driver.Value, error) {
	made, err := encode(a.dest)
	if err != nil {
		return nil, err
	}
	form, _ := decodeTyped(made)
	return form, nil
}

// Scan takes an array or NULL.
func (a arrayOf) Scan(source any) error {
	into := reflect.ValueOf(a.dest)
	if into.Kind() != reflect.Pointer || into.IsNil() || into.Elem().Kind() != reflect.Slice {
		return fmt.Errorf("segue: ArrayOf(%T): expected a pointer to a slice", a.dest)
	}
	if source == nil {
		into.Elem().SetZero()
		return nil
	}
	text, ok := textSource(source)
	if !ok {
		return unfit(source, a.dest)
	}
	read, err := parseArray(text)
	if err != nil {
		return err
	}
	if len(read.dimensions) == 0 {
		into.Elem().Set(reflect.MakeSlice(into.Elem().Type(), 0, 0))
		return nil
	}
	for _, dimension := range read.dimensions {
		if dimension.LowerBound != 1 {
			return fmt.Errorf("segue: the array's bounds begin with %d, which a slice cannot hold; read it into a segue.Array", dimension.LowerBound)
		}
	}
	rest, err := fill(into.Elem(), read.dimensions, read.elements)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("segue: %d elements are left over", len(rest))
	}
	return err
}

func fill(into reflect.Value, dimensions []Dimension, elements []*string) ([]*string, error) {
	// A slice of bytes is an element, not a dimension.
	if into.Kind() != reflect.Slice || into.Type().Elem().Kind() == reflect.Uint8 {
		return nil, fmt.Errorf("segue: the array has %d dimensions more than %s", len(dimensions), into.Type())
	}
	length := dimensions[0].Length
	made := reflect.MakeSlice(into.Type(), length, length)
	for at := range length {
		if len(dimensions) > 1 {
			var err error
			if elements, err = fill(made.Index(at), dimensions[1:], elements); err != nil {
				return nil, err
			}
			continue
		}
		var source any
		if elements[0] != nil {
			source = *elements[0]
		}
		if err := assign(made.Index(at).Addr().Interface(), source); err != nil {
			return nil, fmt.Errorf("element %d: %w", at, err)
		}
		elements = elements[1:]
	}
	into.Set(made)
	return elements, nil
}

type arrayText struct {
	dimensions []Dimension
	elements   []*string
}

// dimensionsMax is PostgreSQL's.
const dimensionsMax = 6

// parseArray reads an array as PostgreSQL writes it.
func parseArray(text string) (arrayText, error) {
	fail := fmt.Errorf("segue: %q is not an array as PostgreSQL writes it", text)
	var read arrayText
	body := text
	var bounds []int
	if strings.HasPrefix(body, "[") {
		head, rest, found := strings.Cut(body, "=")
		if !found {
			return read, fail
		}
		for part := range strings.SplitSeq(strings.TrimSuffix(strings.TrimPrefix(head, "["), "]"), "][") {
			low, _, _ := strings.Cut(part, ":")
			number, err := strconv.Atoi(low)
			if err != nil {
				return read, fail
			}
			bounds = append(bounds, number)
		}
		body = rest
	}
	depth, deepest := 0, 0
	var counts [dimensionsMax + 1]int
	lengths := [dimensionsMax + 1]int{}
	for at := 0; at < len(body); {
		switch body[at] {
		case '{':
			depth++
			if depth > dimensionsMax {
				return read, fail
			}
			deepest = max(deepest, depth)
			counts[depth] = 0
			at++
		case '}':
			if depth == 0 {
				return read, fail
			}
			lengths[depth] = counts[depth]
			depth--
			counts[depth]++
			at++
		case ',':
			at++
		default:
			element, end, ok := parseElement(body, at)
			if !ok || depth == 0 {
				return read, fail
			}
			read.elements = append(read.elements, element)
			counts[depth]++
			at = end
		}
	}
	if depth != 0 || deepest == 0 {
		return read, fail
	}
	if len(read.elements) == 0 {
		return read, nil
	}
	product := 1
	for level := 1; level <= deepest; level++ {
		dimension := Dimension{Length: lengths[level], LowerBound: 1}
		if level <= len(bounds) {
			dimension.LowerBound = bounds[level-1]
		}
		product *= dimension.Length
		read.dimensions = append(read.dimensions, dimension)
	}
	if product != len(read.elements) {
		return read, fail
	}
	return read, nil
}

// parseElement reads the element at a place; nil is NULL.
func parseElement(body string, at int) (*string, int, bool) {
	if body[at] != '"' {
		end := strings.IndexAny(body[at:], ",}")
		if end < 0 {
			return nil, 0, false
		}
		text := body[at : at+end]
		if text == "NULL" {
			return nil, at + end, true
		}
		return &text, at + end, true
	}
	var text strings.Builder
	for at++; at < len(body); at++ {
		switch body[at] {
		case '\\':
			at++
			if at < len(body) {
				text.WriteByte(body[at])
			}
		case '"':
			made := text.String()
			return &made, at + 1, true
		default:
			text.WriteByte(body[at])
		}
	}
	return nil, 0, false
}

// arrayForm writes an array as PostgreSQL does. element gives the next one, or false for NULL.
func arrayForm(dimensions []Dimension, element func() (string, bool)) string {
	if len(dimensions) == 0 {
		return "{}"
	}
	var text strings.Builder
	shifted := false
	for _, dimension := range dimensions {
		shifted = shifted || dimension.LowerBound != 1
	}
	if shifted {
		for _, dimension := range dimensions {
			fmt.Fprintf(&text, "[%d:%d]", dimension.LowerBound, dimension.LowerBound+dimension.Length-1)
		}
		text.WriteByte('=')
	}
	writeLevel(&text, dimensions, element)
	return text.String()
}

func writeLevel(text *strings.Builder, dimensions []Dimension, element func() (string, bool)) {
	text.WriteByte('{')
	for at := range dimensions[0].Length {
		if at > 0 {
			text.WriteByte(',')
		}
		if len(dimensions) > 1 {
			writeLevel(text, dimensions[1:], element)
			continue
		}
		if made, given := element(); given {
			text.WriteString(quotedElement(made))
		} else {
			text.WriteString("NULL")
		}
	}
	text.WriteByte('}')
}

func quotedElement(text string) string {
	if text != "" && !strings.EqualFold(text, "NULL") && !strings.ContainsAny(text, "{},\"\\ \t\n\r\v\f") {
		return text
	}
	return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(text) + `"`
}
