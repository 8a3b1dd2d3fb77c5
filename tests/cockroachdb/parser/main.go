// Command parser says which statements CockroachDB's own parser refuses.
//
// It reads one JSON object a line, {"id": …, "sql": …, "kind": "sql" or "plpgsql"}, and answers
// each with a line {"id": …, "refusals": […], "parts": […], "kinds": […]}: no refusals where all is
// well. A text may hold several statements. The bodies of functions are parsed too: the SQL in them
// is answered as parts, statement by statement, and the kinds of their statements in PL/pgSQL.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	plpgsql "github.com/cockroachdb/cockroachdb-parser/pkg/sql/plpgsql/parser"

	"github.com/cockroachdb/cockroachdb-parser/pkg/sql/parser"
	"github.com/cockroachdb/cockroachdb-parser/pkg/sql/pgwire/pgerror"
	"github.com/cockroachdb/cockroachdb-parser/pkg/sql/sem/plpgsqltree"
	"github.com/cockroachdb/cockroachdb-parser/pkg/sql/sem/tree"
	"github.com/cockroachdb/errors"
)

// A function's text can be long.
const lineBytesMax = 64 << 20

type question struct {
	ID   json.RawMessage `json:"id"`
	SQL  string          `json:"sql"`
	Kind string          `json:"kind"`
}

type refusal struct {
	// Where is empty for the statement itself, or says whose body it is.
	Where   string `json:"where"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Detail  string `json:"detail,omitempty"`
}

type answer struct {
	ID       json.RawMessage `json:"id"`
	Refusals []refusal       `json:"refusals"`
	Parts    []string        `json:"parts"`
	Kinds    []string        `json:"kinds"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, lineBytesMax)
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			fail(fmt.Errorf("line %q: %w", lines.Text(), err))
		}
		answered := answer{ID: asked.ID, Refusals: []refusal{}, Parts: []string{}, Kinds: []string{}}
		answered.judge(asked)
		if err := encoder.Encode(answered); err != nil {
			fail(err)
		}
		// Whoever asks may wait for each answer.
		if err := out.Flush(); err != nil {
			fail(err)
		}
	}
	if err := lines.Err(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "parser:", err)
	os.Exit(1)
}

func (a *answer) judge(asked question) {
	switch asked.Kind {
	case "sql":
		a.statements("", asked.SQL)
	case "plpgsql":
		a.block("the body", asked.SQL)
	default:
		fail(fmt.Errorf("kind %q; there are sql and plpgsql", asked.Kind))
	}
}

func (a *answer) statements(where, sql string) {
	parsed, err := guarded(func() (parsed []tree.Statement, err error) {
		all, err := parser.Parse(sql)
		for _, one := range all {
			parsed = append(parsed, one.AST)
		}
		return parsed, err
	})
	if err != nil {
		a.Refusals = append(a.Refusals, refused(where, err))
		return
	}
	for _, statement := range parsed {
		if where != "" {
			a.Parts = append(a.Parts, tree.AsStringWithFlags(statement, tree.FmtParsable))
		}
		if routine, is := statement.(*tree.CreateRoutine); is {
			a.body(routine)
		}
	}
}

func (a *answer) body(routine *tree.CreateRoutine) {
	var language, text string
	for _, option := range routine.Options {
		switch it := option.(type) {
		case tree.RoutineLanguage:
			language = strings.ToLower(string(it))
		case tree.RoutineBodyStr:
			text = string(it)
		}
	}
	where := "body of " + tree.AsString(&routine.Name)
	switch language {
	case "plpgsql":
		a.block(where, text)
	case "sql":
		a.statements(where, text)
	}
}

func (a *answer) block(where, text string) {
	parsed, err := guarded(func() (*plpgsqltree.Block, error) {
		parsed, err := plpgsql.Parse(text)
		return parsed.AST, err
	})
	if err != nil {
		a.Refusals = append(a.Refusals, refused(where, err))
		return
	}
	plpgsqltree.Walk(a, parsed)
}

// Visit notes a statement of a body.
func (a *answer) Visit(statement plpgsqltree.Statement) (plpgsqltree.Statement, bool) {
	kind := strings.TrimPrefix(fmt.Sprintf("%T", statement), "*plpgsqltree.")
	a.Kinds = append(a.Kinds, kind)
	switch it := statement.(type) {
	case *plpgsqltree.CursorDeclaration:
		a.part(it.Query)
	case *plpgsqltree.Execute:
		a.part(it.SqlStmt)
	case *plpgsqltree.Open:
		a.part(it.Query)
	case *plpgsqltree.ReturnQuery:
		a.part(it.SqlStmt)
	case *plpgsqltree.Declaration:
		a.expression(it.Expr)
	case *plpgsqltree.Assignment:
		a.expression(it.Value)
	case *plpgsqltree.If:
		a.expression(it.Condition)
	case *plpgsqltree.ElseIf:
		a.expression(it.Condition)
	case *plpgsqltree.While:
		a.expression(it.Condition)
	case *plpgsqltree.Exit:
		a.expression(it.Condition)
	case *plpgsqltree.Continue:
		a.expression(it.Condition)
	case *plpgsqltree.Return:
		a.expression(it.Expr)
	case *plpgsqltree.ReturnNext:
		a.expression(it.Expr)
	case *plpgsqltree.Assert:
		a.expression(it.Condition)
	case *plpgsqltree.Raise:
		for _, one := range it.Params {
			a.expression(one)
		}
		for _, one := range it.Options {
			a.expression(one.Expr)
		}
	}
	return statement, true
}

func (a *answer) part(statement tree.Statement) {
	if statement != nil {
		a.Parts = append(a.Parts, tree.AsStringWithFlags(statement, tree.FmtParsable))
	}
}

func (a *answer) expression(expression tree.Expr) {
	if expression != nil {
		text := tree.AsStringWithFlags(expression, tree.FmtParsable)
		a.Parts = append(a.Parts, "SELECT "+text)
	}
}

// guarded turns a panic of the parser into its error: it raises some of them so.
func guarded[T any](parse func() (T, error)) (parsed T, err error) {
	defer func() {
		if raised := recover(); raised != nil {
			err = fmt.Errorf("the parser panicked: %v", raised)
		}
	}()
	return parse()
}

func refused(where string, err error) refusal {
	return refusal{
		Where:   where,
		Code:    pgerror.GetPGCode(err).String(),
		Message: err.Error(),
		Detail:  strings.Join(errors.GetAllDetails(err), "\n"),
	}
}
