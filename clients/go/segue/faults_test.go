package segue_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"segue.test/clients/go/segue"
)

// lose makes the answer of what runs next get lost: it is swallowed, and once the source has the write,
// the connection is cut.
func lose(t *testing.T, written func() bool) func() {
	t.Helper()
	shared.Proxy.Swallow(true)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		eventually(t, "the write is there", written)
		shared.Proxy.Swallow(false)
		shared.Proxy.Cut()
	})
	return waiting.Wait
}

func noted(t *testing.T, id string) func() bool {
	return func() bool {
		text, err := shared.Direct("source", "SELECT count(*) FROM note WHERE id LIKE '"+id+"%'")
		if err != nil {
			t.Error(err)
		}
		return text != "0"
	}
}

func TestAWriteWhoseAnswerWasLostHasEffectOnce(t *testing.T) {
	client, ctx := open(t), deadline(t)
	wait := lose(t, noted(t, "lost"))
	done, err := client.Exec(ctx, "INSERT INTO note (id) VALUES ('lost-' || gen_random_uuid())")
	wait()
	must(t, err)
	equal(t, "already applied", done.AlreadyApplied, true)
	equal(t, "affected", done.RowsAffected, 1)
	equal(t, "rows", direct(t, "SELECT count(*) FROM note WHERE id LIKE 'lost%'"), "1")

	wait = lose(t, noted(t, "batch-lost"))
	batch, err := client.Batch(ctx, new(segue.Batch).Add("INSERT INTO note (id) VALUES ('batch-lost-' || gen_random_uuid())"))
	wait()
	must(t, err)
	equal(t, "already applied", batch.AlreadyApplied, true)
	equal(t, "rows", direct(t, "SELECT count(*) FROM note WHERE id LIKE 'batch-lost%'"), "1")
}

func TestAKeyOfTheCallersOwnMakesARepeatHaveTheFirstAnswer(t *testing.T) {
	client := open(t)
	ctx := segue.WithIdempotencyKey(deadline(t), "order-7")
	for attempt := range 2 {
		done, err := client.Exec(ctx, "INSERT INTO note (id) VALUES ($1)", "own-key")
		must(t, err)
		equal(t, "already applied", done.AlreadyApplied, attempt == 1)
		equal(t, "affected", done.RowsAffected, 1)
	}
	var failed *segue.Error
	if _, err := client.Exec(ctx, "INSERT INTO note (id) VALUES ($1)", "other"); !errors.As(err, &failed) || failed.Reason != "idempotency.content_differs" {
		t.Errorf("found %v", err)
	}
}

func TestAWriteWithoutAKeyIsNotRepeatedWhenItsAnswerWasLost(t *testing.T) {
	client, ctx := open(t, "idempotency_keys=false"), deadline(t)
	wait := lose(t, noted(t, "keyless"))
	_, err := client.Exec(ctx, "INSERT INTO note (id) VALUES ('keyless-' || gen_random_uuid())")
	wait()
	unknown(t, err)
	equal(t, "rows", direct(t, "SELECT count(*) FROM note WHERE id LIKE 'keyless%'"), "1")
}

func unknown(t *testing.T, err error) {
	t.Helper()
	var failed *segue.Error
	if !errors.As(err, &failed) || failed.Outcome != segue.OutcomeUnknown || segue.IsRetryable(err) {
		t.Errorf("found %#v", err)
	}
}

func TestACommitWhoseAnswerWasLostHasAnUnknownOutcome(t *testing.T) {
	client, db, ctx := open(t), pool(t), deadline(t)
	runs := 0
	var wait func()
	err := client.InTx(ctx, segue.TxOptions{}, func(tx *segue.Tx) error {
		runs++
		if _, err := tx.Exec(ctx, "INSERT INTO note (id) VALUES ('commit-a')"); err != nil {
			return err
		}
		wait = lose(t, noted(t, "commit-a"))
		return nil
	})
	wait()
	unknown(t, err)
	equal(t, "runs", runs, 1)

	tx, err := db.BeginTx(ctx, nil)
	must(t, err)
	_, err = tx.ExecContext(ctx, "INSERT INTO note (id) VALUES ('commit-b')")
	must(t, err)
	wait = lose(t, noted(t, "commit-b"))
	err = tx.Commit()
	wait()
	unknown(t, err)

	// The same where the last statement commits.
	tx, err = db.BeginTx(ctx, nil)
	must(t, err)
	_, err = tx.ExecContext(ctx, "INSERT INTO note (id) VALUES ('commit-c')")
	must(t, err)
	wait = lose(t, noted(t, "commit-c"))
	_, err = tx.ExecContext(segue.WithCommit(ctx), "INSERT INTO note (id) VALUES ('commit-d')")
	wait()
	unknown(t, err)
	if err := tx.Commit(); err == nil {
		t.Error("no one knows whether it committed")
	}
}

func TestATransactionThatLostItsConnectionRunsAgain(t *testing.T) {
	client, ctx := open(t), deadline(t)
	runs := 0
	must(t, client.InTx(ctx, segue.TxOptions{}, func(tx *segue.Tx) error {
		runs++
		if _, err := tx.Exec(ctx, "INSERT INTO note (id) VALUES ('again')"); err != nil {
			return err
		}
		if runs == 1 {
			shared.Proxy.Cut()
			shared.Proxy.Refuse(true)
			defer shared.Proxy.Refuse(false)
			short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
			if _, err := tx.Exec(short, "SELECT 1"); err == nil {
				t.Error("there is no connection")
			}
			return &segue.Error{Retryable: true, Outcome: segue.OutcomeNotApplied}
		}
		_, err := tx.Exec(ctx, "UPDATE note SET body = 'again' WHERE id = 'again'")
		return err
	}))
	equal(t, "runs", runs, 2)
	equal(t, "rows", direct(t, "SELECT count(*) FROM note WHERE id = 'again' AND body = 'again'"), "1")
}

// TestCallsOutliveARestartOfTheSidecar kills and restarts the sidecar below readers and writers, none of
// whom may see an error, and no write may be there twice or be missing.
func TestCallsOutliveARestartOfTheSidecar(t *testing.T) {
	migration, err := servers.Migration([]string{"CREATE TABLE item (id bigint PRIMARY KEY, n int NOT NULL)", "INSERT INTO item VALUES (0, 0)"}, nil)
	must(t, err)
	db, err := sql.Open("segue", migration.URL()+"?retry_timeout=60s&connect_timeout=60s")
	must(t, err)
	defer func() { _ = db.Close() }()
	ctx, stop := deadline(t), make(chan struct{})
	var waiting sync.WaitGroup
	var counts [2]atomic.Int64
	for caller := range 4 {
		waiting.Go(func() {
			for turn := 0; ; turn++ {
				select {
				case <-stop:
					return
				default:
				}
				var err error
				if caller%2 == 0 {
					_, err = db.ExecContext(ctx, "UPDATE item SET n = n + 1 WHERE id = 0")
				} else {
					var n int
					err = db.QueryRowContext(ctx, "SELECT n FROM item WHERE id = 0").Scan(&n)
				}
				if err != nil {
					t.Errorf("caller %d, turn %d: %v", caller, turn, err)
					return
				}
				counts[caller%2].Add(1)
			}
		})
	}
	for round := range 4 {
		goal := counts[0].Load() + 20
		eventually(t, "the calls go on", func() bool { return t.Failed() || counts[0].Load() >= goal })
		if round%2 == 0 {
			migration.Kill()
		} else {
			migration.Terminate()
		}
		must(t, migration.Serve())
	}
	goal := counts[0].Load() + 20
	eventually(t, "the calls go on", func() bool { return t.Failed() || counts[0].Load() >= goal })
	close(stop)
	waiting.Wait()
	text, err := migration.Direct("source", "SELECT n FROM item WHERE id = 0")
	must(t, err)
	equal(t, "increments", text, fmt.Sprint(counts[0].Load()))
}

// TestReadsSeeEarlierWritesWhileReadsAreShifted holds the target's rows back, so that only the tokens
// lead a read to where the write is.
func TestReadsSeeEarlierWritesWhileReadsAreShifted(t *testing.T) {
	migration, err := servers.Migration([]string{"CREATE TABLE item (id bigint PRIMARY KEY, n int NOT NULL)", "INSERT INTO item SELECT i, 0 FROM generate_series(1, 20) i"}, nil)
	must(t, err)
	must(t, migration.Enter("shift"))
	db, err := sql.Open("segue", migration.URL())
	must(t, err)
	defer func() { _ = db.Close() }()
	ctx := deadline(t)
	client, err := segue.Raw(ctx, db)
	must(t, err)
	rows, err := client.Query(ctx, "SELECT n FROM item WHERE id = 1")
	must(t, err)
	for rows.Next() {
	}
	must(t, rows.Err())
	equal(t, "who answers", rows.Side(), "target")

	held := migration.Hold(t, "target", "LOCK TABLE item IN EXCLUSIVE MODE")
	var waiting sync.WaitGroup
	for id := 1; id <= 20; id++ {
		waiting.Go(func() {
			if _, err := db.ExecContext(ctx, "UPDATE item SET n = 1 WHERE id = $1", id); err != nil {
				t.Error(err)
			}
		})
	}
	waiting.Wait()
	var sum int
	must(t, db.QueryRowContext(ctx, "SELECT sum(n) FROM item").Scan(&sum))
	equal(t, "what a read sees", sum, 20)
	if len(client.Tokens().List()) == 0 {
		t.Error("the writes are not on the target yet: there must be a token")
	}
	// Another client that brings them sees the same, and one that does not sees what is on the target.
	other, err := segue.Open(ctx, migration.URL())
	must(t, err)
	defer func() { _ = other.Close() }()
	one(t, other, []any{&sum}, "SELECT sum(n)::int FROM item")
	equal(t, "without tokens", sum, 0)
	var tokens segue.Tokens
	tokens.Add(client.Tokens().List()...)
	rows, err = other.Query(segue.WithTokens(ctx, &tokens), "SELECT sum(n)::int FROM item")
	must(t, err)
	equal(t, "a row", rows.Next(), true)
	must(t, rows.Scan(&sum))
	must(t, rows.Close())
	equal(t, "with tokens", sum, 20)
	held()
}
