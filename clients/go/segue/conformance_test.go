package segue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"segue.test/clients/go/internal/world"
	"segue.test/clients/go/segue"
)

// scenarioFile is what every client runs: clients/conformance.
type scenarioFile struct {
	Setup   []string          `json:"setup"`
	Queries map[string]string `json:"queries"`
	Values  []struct {
		Type  string   `json:"type"`
		Texts []string `json:"texts"`
		Skip  string   `json:"skip"`
	} `json:"values"`
	Scenarios []scenario `json:"scenarios"`
}

type scenario struct {
	Name  string                       `json:"name"`
	Phase string                       `json:"phase"`
	Calls map[string]int               `json:"calls"`
	Steps []map[string]json.RawMessage `json:"steps"`
}

type step = map[string]json.RawMessage

// phases are those that scenarios stand in, in their order: a migration goes on, and not back here.
var phases = []string{"source_only", "dual_write", "shadow_read", "shift"}

func TestTheScenariosOfAllClientsHold(t *testing.T) {
	file := filepath.Join(world.Repository(), "clients", "conformance", "scenarios.json")
	if named := os.Getenv("SEGUE_SCENARIOS"); named != "" {
		file = named
	}
	text, err := os.ReadFile(file)
	must(t, err)
	var all scenarioFile
	must(t, json.Unmarshal(text, &all))
	if len(all.Scenarios) == 0 || len(all.Values) == 0 {
		t.Fatal("the file has no scenarios")
	}
	migration, err := servers.Migration(all.Setup, all.Queries)
	must(t, err)
	for _, value := range all.Values {
		if value.Skip == "" {
			t.Run("value/"+value.Type, func(t *testing.T) { goesBothWays(t, migration, value.Type, value.Texts) })
		}
	}
	slices.SortStableFunc(all.Scenarios, func(a, b scenario) int {
		return slices.Index(phases, a.Phase) - slices.Index(phases, b.Phase)
	})
	for _, scenario := range all.Scenarios {
		t.Run(scenario.Name, func(t *testing.T) {
			must(t, migration.Serve())
			must(t, migration.Enter(scenario.Phase))
			runScenario(t, migration, scenario)
		})
	}
}

// goesBothWays reads a value, and gives it back.
func goesBothWays(t *testing.T, migration *world.Migration, typeName string, texts []string) {
	client, err := segue.Open(deadline(t), migration.URL())
	must(t, err)
	defer func() { _ = client.Close() }()
	for _, text := range texts {
		quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
		var value any
		one(t, client, []any{&value}, fmt.Sprintf("SELECT %s::%s", quoted, typeName))
		var same bool
		one(t, client, []any{&same}, fmt.Sprintf("SELECT ($1::%s)::text = (%s::%s)::text", typeName, quoted, typeName), value)
		equal(t, text, same, true)
	}
}

// started is a call that runs beside the next steps.
type started struct {
	cancel context.CancelFunc
	done   chan struct{}
	found  outcome
	err    error
}

// outcome is what a call came to.
type outcome struct {
	rows           [][]any
	affected       int64
	alreadyApplied bool
	results        []outcome
	count          int
}

type runner struct {
	t         *testing.T
	migration *world.Migration
	client    *segue.Client
	calls     *counter
	txs       map[string]*segue.Tx
	started   map[string]*started
	locks     []func()
	round     int
}

func runScenario(t *testing.T, migration *world.Migration, given scenario) {
	calls := &counter{}
	client, err := segue.NewClient(segue.Config{Address: migration.Address(), Tracer: calls, ConnectTimeout: limit})
	must(t, err)
	// A scenario begins with a connection that is there.
	_, err = client.Info(deadline(t))
	must(t, err)
	r := &runner{t: t, migration: migration, client: client, calls: calls, txs: map[string]*segue.Tx{}, started: map[string]*started{}}
	defer func() {
		migration.Proxy.Swallow(false)
		for _, lock := range r.locks {
			lock()
		}
		_ = client.Close()
		must(t, migration.Serve())
	}()
	r.run(given.Steps)
	for method, expected := range given.Calls {
		equal(t, "calls of "+method, calls.of(strings.ToLower(method)), expected)
	}
}

func (c *counter) of(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[method]
}

func read[T any](t *testing.T, text json.RawMessage) T {
	t.Helper()
	var value T
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	if text != nil {
		must(t, decoder.Decode(&value))
	}
	return value
}

func (r *runner) run(steps []step) {
	for _, one := range steps {
		if r.t.Failed() {
			return
		}
		r.step(one)
	}
}

func (r *runner) step(one step) {
	t := r.t
	has := func(name string) bool { _, found := one[name]; return found }
	text := func(name string) string { return read[string](t, one[name]) }
	switch {
	case has("repeat"):
		for r.round = 1; r.round <= read[int](t, one["repeat"]); r.round++ {
			r.run(read[[]step](t, one["steps"]))
		}
	case has("together"):
		var waiting sync.WaitGroup
		for _, call := range read[[]step](t, one["together"]) {
			waiting.Go(func() {
				if _, err := r.call(deadline(t), call); err != nil {
					t.Error(err)
				}
			})
		}
		waiting.Wait()
	case has("begin"):
		tx, err := r.client.Begin(segue.TxOptions{ReadOnly: read[bool](t, one["read_only"])})
		must(t, err)
		r.txs[text("begin")] = tx
	case has("rollback"):
		must(t, r.txs[text("rollback")].Rollback(deadline(t)))
	case has("proxy"):
		switch text("proxy") {
		case "swallow":
			r.migration.Proxy.Swallow(true)
		case "pass":
			r.migration.Proxy.Swallow(false)
		case "cut":
			r.migration.Proxy.Cut()
		default:
			t.Fatalf("unknown step %v", one)
		}
	case has("sidecar"):
		if text("sidecar") == "kill" {
			r.migration.Kill()
		} else {
			must(t, r.migration.Serve())
		}
	case has("direct"):
		r.expectRows(r.direct(one["direct"]), read[[][]*string](t, one["rows"]))
	case has("await"):
		wanted := read[[][]*string](t, read[step](t, one["await"])["rows"])
		eventually(t, string(one["await"]), func() bool { return reflect.DeepEqual(r.direct(one["await"]), wanted) })
	case has("lock"):
		lock := read[map[string]string](t, one["lock"])
		r.locks = append(r.locks, r.migration.Hold(t, lock["side"], lock["sql"]))
	case has("unlock"):
		r.locks[len(r.locks)-1]()
	case has("start"):
		ctx, cancel := context.WithCancel(deadline(t))
		made := &started{cancel: cancel, done: make(chan struct{})}
		r.started[text("start")] = made
		go func() {
			defer close(made.done)
			made.found, made.err = r.call(ctx, one)
		}()
	case has("cancel"):
		r.started[text("cancel")].cancel()
	case has("finish"):
		made := r.started[text("finish")]
		r.expect(one, func() (outcome, error) {
			<-made.done
			return made.found, made.err
		})
	default:
		r.expect(one, func() (outcome, error) { return r.call(deadline(t), one) })
	}
}

// direct gives rows without segue; no scenario's value has a | or a line's end in it.
func (r *runner) direct(given json.RawMessage) [][]*string {
	wanted := read[map[string]any](r.t, given)
	text, err := r.migration.Direct(wanted["side"].(string), wanted["sql"].(string))
	must(r.t, err)
	var rows [][]*string
	for line := range strings.SplitSeq(text, "\n") {
		var row []*string
		for cell := range strings.SplitSeq(line, "|") {
			row = append(row, &cell)
		}
		rows = append(rows, row)
	}
	return rows
}

type statementStep struct {
	SQL        string            `json:"sql"`
	Name       string            `json:"name"`
	Params     []json.RawMessage `json:"params"`
	Statements []statementStep   `json:"statements"`
}

func (s statementStep) text() string {
	if s.Name != "" {
		return segue.Named(s.Name)
	}
	return s.SQL
}

func (r *runner) params(given statementStep) []any {
	made := make([]any, len(given.Params))
	for at, text := range given.Params {
		switch value := read[any](r.t, text).(type) {
		case map[string]any:
			if _, isRound := value["round"]; isRound {
				made[at] = r.round
			} else {
				made[at] = segue.Numeric(value["numeric"].(string))
			}
		case json.Number:
			number, err := value.Int64()
			must(r.t, err)
			made[at] = number
		default:
			made[at] = value
		}
	}
	return made
}

// caller is a client, or a transaction.
type caller interface {
	Query(ctx context.Context, query string, arguments ...any) (*segue.Rows, error)
	Exec(ctx context.Context, query string, arguments ...any) (segue.Result, error)
	Batch(ctx context.Context, batch *segue.Batch) (*segue.BatchResult, error)
}

func (r *runner) call(ctx context.Context, one step) (outcome, error) {
	t := r.t
	var where caller = r.client
	if name, found := one["in"]; found {
		where = r.txs[read[string](t, name)]
		if read[bool](t, one["commit"]) {
			ctx = segue.WithCommit(ctx)
		}
	}
	if key, found := one["key"]; found {
		if string(key) == "false" {
			ctx = segue.WithIdempotencyKey(ctx, "")
		} else {
			ctx = segue.WithIdempotencyKey(ctx, read[string](t, key))
		}
	}
	if seconds, found := one["timeout"]; found {
		limited, cancel := context.WithTimeout(ctx, time.Duration(read[float64](t, seconds)*float64(time.Second)))
		defer cancel()
		ctx = limited
	}
	for verb, text := range one {
		switch verb {
		case "run":
			steps, fail := read[[]step](t, one["steps"]), read[bool](t, one["fail"])
			err := r.client.InTx(ctx, segue.TxOptions{}, func(tx *segue.Tx) error {
				r.txs[read[string](t, text)] = tx
				r.run(steps)
				if fail {
					return &segue.Error{Message: "it may pass", Retryable: true, Outcome: segue.OutcomeNotApplied}
				}
				return nil
			})
			return outcome{}, err
		case "query", "stream":
			given := read[statementStep](t, text)
			rows, err := where.Query(ctx, given.text(), r.params(given)...)
			if err != nil {
				return outcome{}, err
			}
			most := -1
			if limit, found := one["read"]; found {
				most = read[int](t, limit)
			}
			return drain(rows, verb == "stream", most)
		case "execute":
			given := read[statementStep](t, text)
			done, err := where.Exec(ctx, given.text(), r.params(given)...)
			if err != nil {
				return outcome{}, err
			}
			rows, err := done.Rows()
			if err != nil {
				return outcome{}, err
			}
			found, err := drain(rows, false, -1)
			found.affected, found.alreadyApplied = done.RowsAffected, done.AlreadyApplied
			return found, err
		case "batch":
			return r.batch(ctx, where, read[statementStep](t, text))
		case "commit":
			if _, isFlag := one["in"]; isFlag {
				continue
			}
			return outcome{}, r.txs[read[string](t, text)].Commit(ctx)
		case "connect":
			seconds := read[map[string]float64](t, text)["timeout"]
			timeout := strconv.FormatFloat(seconds, 'f', -1, 64) + "s"
			client, err := segue.Open(ctx, r.migration.URL()+"?connect_timeout="+timeout)
			if err == nil {
				err = client.Close()
			}
			return outcome{}, err
		case "increments":
			return outcome{}, r.increments(ctx, text)
		}
	}
	return outcome{}, fmt.Errorf("unknown step %v", one)
}

func (r *runner) batch(ctx context.Context, where caller, given statementStep) (outcome, error) {
	batch := new(segue.Batch)
	for _, statement := range given.Statements {
		batch.Add(statement.text(), r.params(statement)...)
	}
	done, err := where.Batch(ctx, batch)
	if err != nil {
		return outcome{}, err
	}
	var found outcome
	for at := range done.Len() {
		rows, err := done.Rows(at)
		if err != nil {
			return outcome{}, err
		}
		result, err := drain(rows, false, -1)
		if err != nil {
			return outcome{}, err
		}
		result.affected = done.RowsAffected(at)
		found.results = append(found.results, result)
	}
	return found, nil
}

func drain(rows *segue.Rows, counts bool, most int) (outcome, error) {
	var found outcome
	for (most < 0 || found.count < most) && rows.Next() {
		found.count++
		if !counts {
			found.rows = append(found.rows, slices.Clone(rows.Values()))
		}
	}
	return found, errors.Join(rows.Err(), rows.Close())
}

func (r *runner) increments(ctx context.Context, text json.RawMessage) error {
	given := read[struct {
		Callers, Each int
		Read, Write   string
		Isolation     string
	}](r.t, text)
	if given.Isolation != "serializable" {
		return fmt.Errorf("unknown isolation %q", given.Isolation)
	}
	failures := make([]error, given.Callers)
	var waiting sync.WaitGroup
	for at := range given.Callers {
		waiting.Go(func() {
			for range given.Each {
				options := segue.TxOptions{Isolation: 6, Attempts: 100}
				failures[at] = errors.Join(failures[at], r.client.InTx(ctx, options, func(tx *segue.Tx) error {
					rows, err := tx.Query(ctx, given.Read)
					if err != nil {
						return err
					}
					found, err := drain(rows, false, -1)
					if err != nil {
						return err
					}
					_, err = tx.Exec(ctx, given.Write, found.rows[0][0].(int64)+1)
					return err
				}))
			}
		})
	}
	waiting.Wait()
	return errors.Join(failures...)
}

func (r *runner) expect(one step, call func() (outcome, error)) {
	t := r.t
	begun := time.Now()
	grown := watched(call)
	found, err := grown.found, grown.err
	if within, given := one["within"]; given {
		if took := time.Since(begun).Seconds(); took > read[float64](t, within) {
			t.Errorf("took %.1f s, more than %s", took, within)
		}
	}
	if expected, given := one["error"]; given {
		r.expectError(read[map[string]any](t, expected), err)
		return
	}
	must(t, err)
	for name, text := range one {
		switch name {
		case "rows":
			r.expectRows(rendered(found.rows), read[[][]*string](t, text))
		case "affected":
			equal(t, name, found.affected, read[int64](t, text))
		case "already_applied":
			equal(t, name, found.alreadyApplied, read[bool](t, text))
		case "count":
			equal(t, name, found.count, read[int](t, text))
		case "memory_mb_max":
			if megabytes := grown.bytes >> 20; megabytes > read[int64](t, text) {
				t.Errorf("the heap grew by %d MB", megabytes)
			}
		case "results":
			for at, result := range read[[]step](t, text) {
				equal(t, "affected", found.results[at].affected, read[int64](t, result["affected"]))
				if rows, given := result["rows"]; given {
					r.expectRows(rendered(found.results[at].rows), read[[][]*string](t, rows))
				}
			}
		}
	}
}

type watchedCall struct {
	found outcome
	err   error
	bytes int64
}

// watched makes a call and looks how far the heap grows meanwhile.
func watched(call func() (outcome, error)) watchedCall {
	var made watchedCall
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	done := make(chan struct{})
	go func() {
		defer close(done)
		made.found, made.err = call()
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var bytes int64
	for {
		select {
		case <-done:
			made.bytes = bytes
			return made
		case <-tick.C:
			runtime.ReadMemStats(&now)
			bytes = max(bytes, int64(now.HeapInuse)-int64(before.HeapInuse))
		}
	}
}

func (r *runner) expectRows(found, expected [][]*string) {
	r.t.Helper()
	if !reflect.DeepEqual(found, expected) && len(found)+len(expected) > 0 {
		show := func(rows [][]*string) string { text, _ := json.Marshal(rows); return string(text) }
		r.t.Errorf("rows: found %s, expected %s", show(found), show(expected))
	}
}

// rendered writes values as PostgreSQL does.
func rendered(rows [][]any) [][]*string {
	var made [][]*string
	for _, row := range rows {
		texts := make([]*string, len(row))
		for at, value := range row {
			switch value := value.(type) {
			case nil:
			case bool:
				texts[at] = new(strconv.FormatBool(value)[:1])
			default:
				texts[at] = new(fmt.Sprint(value))
			}
		}
		made = append(made, texts)
	}
	return made
}

func (r *runner) expectError(expected map[string]any, err error) {
	t := r.t
	var found *segue.Error
	if !errors.As(err, &found) {
		t.Fatalf("found %v, expected an error %v", err, expected)
	}
	for name, value := range expected {
		given := map[string]any{
			"sqlstate": found.Code, "constraint": found.Constraint, "table": found.Table, "column": found.Column, "side": found.Side,
			"reason": found.Reason, "retryable": found.Retryable, "outcome": found.Outcome.String(), "kind": value,
		}
		if seen, known := given[name]; !known || seen != value {
			t.Errorf("%s: found %v, expected %v: %+v", name, seen, value, found)
		}
	}
	if kind, told := expected["kind"].(string); told && !isKind(found, kind) {
		t.Errorf("it is not of kind %s: %+v", kind, found)
	}
}

// isKind says what other clients have a class for; here SQLSTATE, reason and code say it.
func isKind(found *segue.Error, kind string) bool {
	class := ""
	if len(found.Code) == 5 {
		class = found.Code[:2]
	}
	switch kind {
	case "unique":
		return found.Code == "23505"
	case "integrity":
		return class == "23"
	case "data":
		return class == "22" || found.Reason == "invalid.parameter"
	case "programming":
		return class == "42" || found.Status == codes.InvalidArgument || found.Status == codes.NotFound || found.Reason == "refused.write_in_query"
	case "not_supported":
		return strings.HasPrefix(found.Reason, "refused.")
	case "deadline":
		return errors.Is(found, context.DeadlineExceeded)
	case "cancelled":
		return errors.Is(found, context.Canceled)
	case "unavailable":
		return found.Status == codes.Unavailable
	case "outcome_unknown":
		return found.Outcome == segue.OutcomeUnknown
	default:
		return false
	}
}
