package segue_test

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"segue.test/clients/go/segue"
)

func TestABatchIsAllOrNone(t *testing.T) {
	client, ctx := open(t), deadline(t)
	batch := new(segue.Batch).
		Add("INSERT INTO note (id, amount) VALUES ($1, $2)", "batch", "1.5").
		Add("UPDATE note SET body = $1 WHERE id = 'batch' RETURNING amount, body", "b")
	done, err := client.Batch(ctx, batch)
	must(t, err)
	equal(t, "results", done.Len(), 2)
	equal(t, "affected", done.RowsAffected(0), 1)
	equal(t, "has a write id", done.WriteID != "", true)
	rows, err := done.Rows(1)
	must(t, err)
	var amount, body string
	equal(t, "a row", rows.Next(), true)
	must(t, rows.Scan(&amount, &body))
	equal(t, "returned", amount+body, "1.5b")
	failing := new(segue.Batch).Add("DELETE FROM note WHERE id = 'batch'").Add("INSERT INTO account VALUES (1, 1)")
	var failed *segue.Error
	if _, err = client.Batch(ctx, failing); !errors.As(err, &failed) || failed.Code != "23505" {
		t.Errorf("found %v", err)
	}
	equal(t, "rows", direct(t, "SELECT count(*) FROM note WHERE id = 'batch'"), "1")
}

func TestNamedStatementsRun(t *testing.T) {
	client, db, ctx := open(t), pool(t), deadline(t)
	var id, balance int64
	one(t, client, []any{&id, &balance}, segue.Named("account_by_id"), 7)
	equal(t, "id", id, 7)
	done, err := db.ExecContext(ctx, segue.Named("deposit"), 7, 11)
	must(t, err)
	count, _ := done.RowsAffected()
	equal(t, "affected", count, 1)
	must(t, db.QueryRowContext(ctx, segue.Named("account_by_id"), 7).Scan(&id, &balance))
	equal(t, "balance", balance, 111)
	if _, err := client.Query(ctx, segue.Named("nobody")); err == nil {
		t.Error("there is no such statement")
	}
}

// counter counts calls by their method.
type counter struct {
	mu    sync.Mutex
	calls map[string]int
}

func (c *counter) Start(_ context.Context, call segue.Call) (string, func(error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		c.calls = make(map[string]int)
	}
	c.calls[call.Method]++
	return "", func(error) {}
}

func (c *counter) total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	total := 0
	for _, count := range c.calls {
		total += count
	}
	return total
}

func counted(t *testing.T) (*segue.Client, *counter) {
	t.Helper()
	calls := &counter{}
	client, err := segue.NewClient(segue.Config{Address: shared.Address(), Tracer: calls})
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client, calls
}

func TestATransactionOfTwoStatementsIsTwoCalls(t *testing.T) {
	client, calls := counted(t)
	ctx := deadline(t)
	tx, err := client.Begin(segue.TxOptions{})
	must(t, err)
	found, err := tx.Exec(ctx, "SELECT balance FROM account WHERE id = 2 FOR UPDATE")
	must(t, err)
	rows, err := found.Rows()
	must(t, err)
	equal(t, "a row", rows.Next(), true)
	done, err := tx.Exec(segue.WithCommit(ctx), "UPDATE account SET balance = balance + 1 WHERE id = 2")
	must(t, err)
	equal(t, "has a write id", done.WriteID != "", true)
	must(t, tx.Commit(ctx))
	equal(t, "calls", calls.total(), 2)
	// database/sql does not tell reads from writes: that FOR UPDATE is one is learned from a refusal.
	db := client.DB()
	sqlTx, err := db.BeginTx(ctx, nil)
	must(t, err)
	var balance int64
	must(t, sqlTx.QueryRowContext(ctx, "SELECT balance FROM account WHERE id = 2 FOR UPDATE").Scan(&balance))
	_, err = sqlTx.ExecContext(segue.WithCommit(ctx), "UPDATE account SET balance = balance + 1 WHERE id = 2")
	must(t, err)
	must(t, sqlTx.Commit())
	equal(t, "calls", calls.total(), 5)
	equal(t, "balance", direct(t, "SELECT balance FROM account WHERE id = 2"), "102")
	// All in one.
	tx, err = client.Begin(segue.TxOptions{Isolation: sql.LevelSerializable})
	must(t, err)
	_, err = tx.Batch(segue.WithCommit(ctx), new(segue.Batch).Add("UPDATE account SET balance = 100 WHERE id = 2"))
	must(t, err)
	must(t, tx.Commit(ctx))
	equal(t, "calls", calls.total(), 6)
	if _, err = tx.Exec(ctx, "SELECT 1"); !errors.Is(err, sql.ErrTxDone) {
		t.Errorf("found %v", err)
	}
}

func TestSerializationFailuresAreRunAgain(t *testing.T) {
	client, ctx := open(t), deadline(t)
	const callers, each = 4, 5
	var waiting sync.WaitGroup
	failures := make(chan error, callers)
	options := segue.TxOptions{Isolation: sql.LevelSerializable, Attempts: 100}
	for caller := range callers {
		waiting.Go(func() {
			for range each {
				var err error
				if caller%2 == 0 {
					err = client.InTx(ctx, options, func(tx *segue.Tx) error {
						var balance int64
						rows, err := tx.Query(ctx, "SELECT balance FROM account WHERE id = 3")
						if err != nil {
							return err
						}
						for rows.Next() {
							if err := rows.Scan(&balance); err != nil {
								return err
							}
						}
						if rows.Err() != nil {
							return rows.Err()
						}
						_, err = tx.Exec(ctx, "UPDATE account SET balance = $1 WHERE id = 3", balance+1)
						return err
					})
				} else {
					err = segue.RunInTx(ctx, client.DB(), options, func(tx *sql.Tx) error {
						var balance int64
						if err := tx.QueryRowContext(ctx, "SELECT balance FROM account WHERE id = 3").Scan(&balance); err != nil {
							return err
						}
						_, err := tx.ExecContext(ctx, "UPDATE account SET balance = $1 WHERE id = 3", balance+1)
						return err
					})
				}
				if err != nil {
					failures <- err
					return
				}
			}
		})
	}
	waiting.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	equal(t, "balance", direct(t, "SELECT balance FROM account WHERE id = 3"), "120")
	// What cannot become better is not run again.
	runs := 0
	err := client.InTx(ctx, segue.TxOptions{}, func(tx *segue.Tx) error {
		runs++
		_, err := tx.Exec(ctx, "INSERT INTO account VALUES (1, 1)")
		return err
	})
	equal(t, "failed", err != nil, true)
	equal(t, "runs", runs, 1)
}

func TestALargeAnswerTakesLittleMemory(t *testing.T) {
	client, ctx := open(t), deadline(t)
	const count, heapMax = 200_000, 16 << 20
	// 200,000 rows of 100 bytes are 20 MB.
	for _, query := range []string{
		"SELECT i, repeat('x', 100) FROM generate_series(1, 200000) i",
		"SELECT i, repeat('x', 100), 'ok'::mood FROM generate_series(1, 200000) i",
	} {
		runtime.GC()
		var before, now runtime.MemStats
		runtime.ReadMemStats(&before)
		rows, err := client.Query(ctx, query)
		must(t, err)
		read := 0
		for rows.Next() {
			if read++; read%20_000 == 0 {
				runtime.GC()
				runtime.ReadMemStats(&now)
				if now.HeapAlloc > before.HeapAlloc+heapMax {
					t.Fatalf("%s: the heap grew by %d bytes", query, now.HeapAlloc-before.HeapAlloc)
				}
			}
		}
		must(t, rows.Err())
		equal(t, "rows", read, count)
		equal(t, "side", rows.Side(), "source")
	}
	// One that is not read to its end leaves nothing behind.
	rows, err := client.Query(ctx, "SELECT i FROM generate_series(1, 1000000) i /* left */")
	must(t, err)
	equal(t, "a row", rows.Next(), true)
	must(t, rows.Close())
	eventually(t, "the database has stopped", func() bool { return running(t, "left") == "0" })
}

// TestAnAnswerThatTurnsOutLargeHoldsNobodyUp: the statement was short before, so that it shares a stream.
func TestAnAnswerThatTurnsOutLargeHoldsNobodyUp(t *testing.T) {
	client, ctx := open(t), deadline(t)
	const query, count, heapMax = "SELECT i, repeat('x', 1000) FROM generate_series(1, $1) i", 60_000, 32 << 20
	read := func(wanted int, between func(at int)) {
		rows, err := client.Query(ctx, query, wanted)
		must(t, err)
		found := 0
		for rows.Next() {
			if found++; between != nil && found%10_000 == 0 {
				between(found)
			}
		}
		must(t, rows.Err())
		equal(t, "rows", found, wanted)
	}
	for range 3 {
		read(3, nil)
	}
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	read(count, func(at int) {
		// Its reader makes other calls, and they are answered.
		var number int
		one(t, client, []any{&number}, "SELECT $1::int4", at)
		equal(t, "answer", number, at)
		_, err := client.Exec(ctx, "UPDATE account SET balance = balance WHERE id = 4")
		must(t, err)
		runtime.GC()
		runtime.ReadMemStats(&now)
		if now.HeapAlloc > before.HeapAlloc+heapMax {
			t.Errorf("the heap grew by %d bytes", now.HeapAlloc-before.HeapAlloc)
		}
	})
	read(3, nil)
	// One that is left is cancelled, and the stream goes on.
	for range 3 {
		rows, err := client.Query(ctx, query, count)
		must(t, err)
		equal(t, "a row", rows.Next(), true)
		must(t, rows.Close())
		read(3, nil)
	}
}

func TestALargeAnswerCanFailInItsMiddle(t *testing.T) {
	client := open(t)
	rows, err := client.Query(deadline(t), "SELECT 1 / (100000 - i), repeat('x', 100) FROM generate_series(1, 200000) i")
	must(t, err)
	read := 0
	for rows.Next() {
		read++
	}
	var failed *segue.Error
	if !errors.As(rows.Err(), &failed) || failed.Code != "22012" {
		t.Errorf("after %d rows: found %v", read, rows.Err())
	}
}

func TestASidecarThatIsNotUpIsWaitedForWithADeadline(t *testing.T) {
	begun := time.Now()
	_, err := segue.Open(deadline(t), "segue://127.0.0.1:1?connect_timeout=300ms&retry_timeout=0s")
	var failed *segue.Error
	if !errors.As(err, &failed) || failed.Reason != "connection" || failed.Outcome != segue.OutcomeNotApplied {
		t.Errorf("found %v", err)
	}
	if took := time.Since(begun); took < 250*time.Millisecond || took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := segue.Open(ctx, "segue://127.0.0.1:1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("found %v", err)
	}
}
