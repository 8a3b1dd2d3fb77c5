package segue_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"segue.test/clients/go/segue"
)

// TestAWholeMigrationShowsItsCallersNoError goes from source_only over shift to reversed and back under load:
// single writes, reads of what was written, and transactions of database/sql.
func TestAWholeMigrationShowsItsCallersNoError(t *testing.T) {
	migration, err := servers.Migration([]string{
		"CREATE TABLE item (id bigint PRIMARY KEY, n bigint NOT NULL)",
		"INSERT INTO item SELECT i, 0 FROM generate_series(0, 7) i",
	}, nil)
	must(t, err)
	db, err := sql.Open("segue", migration.URL())
	must(t, err)
	defer func() { _ = db.Close() }()
	load := &load{db: db, stop: make(chan struct{})}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	for caller := range 4 {
		load.waiting.Go(func() { load.run(ctx, t, caller) })
	}
	moves := func(what string) {
		goal := load.writes.Load() + 40
		eventually(t, "the load goes on after "+what, func() bool { return t.Failed() || load.writes.Load() >= goal })
	}
	moves("the start")
	for _, phase := range []string{"dual_write", "shadow_read", "shift"} {
		must(t, migration.Enter(phase))
		moves(phase)
	}
	for _, change := range []string{"cutover", "rollback"} {
		_, err := migration.Run(change, "--yes", "--force", "--reason", "a test")
		must(t, err)
		moves(change)
	}
	close(load.stop)
	load.waiting.Wait()
	// Each write had its effect once, and both sides have it.
	for _, side := range []string{"source", "target"} {
		eventually(t, side+" has all writes", func() bool {
			text, err := migration.Direct(side, "SELECT sum(n) FROM item")
			return err == nil && text == fmt.Sprint(load.writes.Load())
		})
	}
	t.Logf("%d writes, %d reads", load.writes.Load(), load.reads.Load())
}

type load struct {
	db            *sql.DB
	stop          chan struct{}
	waiting       sync.WaitGroup
	writes, reads atomic.Int64
}

// run writes to a row that no other caller writes to, and must read what it wrote.
func (l *load) run(ctx context.Context, t *testing.T, caller int) {
	for n := 1; ; n++ {
		select {
		case <-l.stop:
			return
		default:
		}
		if err := l.write(ctx, caller, n); err != nil {
			t.Errorf("caller %d, write %d: %v", caller, n, err)
			return
		}
		l.writes.Add(1)
		var found int
		if err := l.db.QueryRowContext(ctx, "SELECT n FROM item WHERE id = $1", caller).Scan(&found); err != nil || found != n {
			t.Errorf("caller %d, read %d: found %d: %v", caller, n, found, err)
			return
		}
		l.reads.Add(1)
	}
}

func (l *load) write(ctx context.Context, caller, n int) error {
	if caller%2 == 0 {
		_, err := l.db.ExecContext(ctx, "UPDATE item SET n = n + 1 WHERE id = $1", caller)
		return err
	}
	return segue.RunInTx(ctx, l.db, segue.TxOptions{Attempts: 100}, func(tx *sql.Tx) error {
		var found int
		if err := tx.QueryRowContext(ctx, "SELECT n FROM item WHERE id = $1", caller).Scan(&found); err != nil {
			return err
		}
		if found != n-1 {
			return fmt.Errorf("a transaction sees %d", found)
		}
		_, err := tx.ExecContext(ctx, "UPDATE item SET n = $2 WHERE id = $1", caller, n)
		return err
	})
}
