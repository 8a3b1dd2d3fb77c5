package segue

import (
	"context"
	"database/sql"
	"errors"
	"time"

	seguev1 "segue.test/clients/go/segue/v1"
)

const (
	defaultAttempts = 10
	conflictMin     = 10 * time.Millisecond
	conflictMax     = time.Second
)

// Result says what a write did.
type Result struct {
	// RowsAffected counts rows inserted, updated or deleted.
	RowsAffected int64
	// WriteID is the id of the write, as traces and the outbox have it; empty where nothing was committed.
	WriteID string
	// AlreadyApplied says that an earlier call with the same idempotency key made the write: this is its
	// answer.
	AlreadyApplied bool

	result *seguev1.StatementResult
}

// Rows gives the rows of RETURNING, and of a read that was run as a write.
func (r Result) Rows() (*Rows, error) { return resultRows(r.result) }

// Query runs a read, whose rows come while they are read. A statement that would write is refused: run it
// by Exec.
func (c *Client) Query(ctx context.Context, query string, arguments ...any) (*Rows, error) {
	rows, _, err := c.read(ctx, nil, query, arguments, false)
	return rows, err
}

// Exec runs a write. It commits by itself.
func (c *Client) Exec(ctx context.Context, query string, arguments ...any) (Result, error) {
	return c.exec(ctx, nil, query, arguments)
}

func (c *Client) exec(ctx context.Context, t *transaction, query string, arguments []any) (Result, error) {
	answer, err := c.execute(ctx, t, query, arguments)
	if err != nil {
		return Result{}, err
	}
	return Result{
		RowsAffected: int64(answer.GetResult().GetAffectedRows()), WriteID: answer.GetWriteId(),
		AlreadyApplied: answer.GetAlreadyApplied(), result: answer.GetResult(),
	}, nil
}

// Batch is several writes in one call: all or none.
type Batch struct{ entries []batchEntry }

type batchEntry struct {
	query     string
	arguments []any
}

// Add puts a statement behind those that are there, and gives the batch.
func (b *Batch) Add(query string, arguments ...any) *Batch {
	b.entries = append(b.entries, batchEntry{query, arguments})
	return b
}

// Len gives the number of statements.
func (b *Batch) Len() int { return len(b.entries) }

// BatchResult says what a batch did.
type BatchResult struct {
	// WriteID and AlreadyApplied are as in [Result].
	WriteID        string
	AlreadyApplied bool

	results []*seguev1.StatementResult
}

// Len gives the number of results: one for each statement.
func (r *BatchResult) Len() int { return len(r.results) }

// RowsAffected gives how many rows the statement at a place changed, the first being 0.
func (r *BatchResult) RowsAffected(at int) int64 { return int64(r.results[at].GetAffectedRows()) }

// Rows gives the rows of RETURNING of the statement at a place, the first being 0.
func (r *BatchResult) Rows(at int) (*Rows, error) { return resultRows(r.results[at]) }

// Batch runs several writes in one transaction: all or none.
func (c *Client) Batch(ctx context.Context, batch *Batch) (*BatchResult, error) {
	return batchResult(c.batch(ctx, nil, batch))
}

func batchResult(answer *seguev1.BatchResponse, err error) (*BatchResult, error) {
	if err != nil {
		return nil, err
	}
	return &BatchResult{
		WriteID: answer.GetWriteId(), AlreadyApplied: answer.GetAlreadyApplied(), results: answer.GetResults(),
	}, nil
}

// Tx is a transaction. It begins with its first call.
type Tx struct{ transaction *transaction }

// Begin makes a transaction. Nothing is sent: its first call begins it, and where that fails, the next one
// does.
func (c *Client) Begin(options TxOptions) (*Tx, error) {
	t, err := c.transaction(options)
	if err != nil {
		return nil, err
	}
	t.reopens = true
	return &Tx{t}, nil
}

// Query runs a read, whose rows come while they are read. One that locks rows (FOR UPDATE) is a write: run it
// by Exec. With [WithCommit] it is the last statement.
func (t *Tx) Query(ctx context.Context, query string, arguments ...any) (*Rows, error) {
	rows, _, err := t.transaction.client.read(ctx, t.transaction, query, arguments, commits(ctx))
	return rows, err
}

// Exec runs a statement. With [WithCommit] it is the last one.
func (t *Tx) Exec(ctx context.Context, query string, arguments ...any) (Result, error) {
	return t.transaction.client.exec(ctx, t.transaction, query, arguments)
}

// Batch runs several statements in one call. With [WithCommit] they are the last ones.
func (t *Tx) Batch(ctx context.Context, batch *Batch) (*BatchResult, error) {
	return batchResult(t.transaction.client.batch(ctx, t.transaction, batch))
}

// Commit commits. After a statement with [WithCommit], and where there was no statement, nothing is sent.
func (t *Tx) Commit(ctx context.Context) error { return t.transaction.commit(ctx) }

// Rollback rolls back. It does nothing where the transaction has ended.
func (t *Tx) Rollback(ctx context.Context) error { return t.transaction.rollback(ctx) }

// InTx runs a function in a transaction and commits. Where anything fails with an error that is
// [IsRetryable], all of it is rolled back and run again, after a pause that grows and is never the same
// for two. Where the function has committed, and where no one knows whether the commit took effect, it is
// not run again, whatever the error says.
func (c *Client) InTx(ctx context.Context, options TxOptions, run func(*Tx) error) error {
	return retried(ctx, options, func() (bool, error) {
		tx, err := c.Begin(options)
		if err != nil {
			return false, err
		}
		err = inTx(tx, run, func() error { return tx.Commit(ctx) }, func() error { return tx.Rollback(ctx) })
		return tx.transaction.tookEffect(), err
	})
}

// RunInTx is [Client.InTx] for a pool of database/sql.
func RunInTx(ctx context.Context, db *sql.DB, options TxOptions, run func(*sql.Tx) error) error {
	return retried(ctx, options, func() (bool, error) {
		var made begun
		beginning := context.WithValue(ctx, begunKey, &made)
		tx, err := db.BeginTx(beginning, &sql.TxOptions{Isolation: options.Isolation, ReadOnly: options.ReadOnly})
		if err != nil {
			return false, err
		}
		err = inTx(tx, run, tx.Commit, tx.Rollback)
		return made.transaction != nil && made.transaction.tookEffect(), err
	})
}

func inTx[T any](tx T, run func(T) error, commit, rollback func() error) error {
	ended := false
	// Also where the function panics.
	defer func() {
		if !ended {
			_ = rollback()
		}
	}()
	if err := run(tx); err != nil {
		return err
	}
	ended = true
	return commit()
}

// retried makes attempts, each of which also says whether it took effect, or may have.
func retried(ctx context.Context, options TxOptions, attempt func() (bool, error)) error {
	attempts := options.Attempts
	if attempts <= 0 {
		attempts = defaultAttempts
	}
	pause, moved := conflictMin, false
	for {
		tookEffect, err := attempt()
		attempts--
		if err == nil || attempts == 0 || tookEffect {
			return err
		}
		var failed *Error
		errors.As(err, &failed)
		if !IsRetryable(err) {
			// Where the primary changed after its first statement, a transaction is refused as one that
			// needs both sides. Only a second run tells the two apart.
			if moved || reasonOf(err) != reasonTransactionSide {
				return err
			}
			moved = true
		}
		if !sleep(ctx, jittered(max(pause, failed.RetryDelay))) {
			return err
		}
		pause = min(2*pause, conflictMax)
	}
}
