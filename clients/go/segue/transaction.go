package segue

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	seguev1 "segue.test/clients/go/segue/v1"
)

// rollbackTimeout bounds a rollback, which nobody's deadline covers. What it does not reach the sidecar
// rolls back by itself.
const rollbackTimeout = 10 * time.Second

// TxOptions are those of a new transaction.
type TxOptions struct {
	// Isolation is the level; zero stands for the database's default. There are read committed, repeatable
	// read and serializable.
	Isolation sql.IsolationLevel
	// ReadOnly refuses writes.
	ReadOnly bool
	// IdleTimeout is how long it may be without a call; zero stands for the sidecar's limit.
	IdleTimeout time.Duration
	// TotalTimeout is how long it may be open; zero stands for the sidecar's limit.
	TotalTimeout time.Duration
	// Attempts is how often [Client.InTx] and [RunInTx] run the function at most; zero stands for 10.
	Attempts int
}

func (o TxOptions) proto() (*seguev1.TransactionOptions, error) {
	made := &seguev1.TransactionOptions{ReadOnly: o.ReadOnly}
	switch o.Isolation {
	case sql.LevelDefault:
	case sql.LevelReadCommitted:
		made.Isolation = seguev1.Isolation_ISOLATION_READ_COMMITTED
	case sql.LevelRepeatableRead:
		made.Isolation = seguev1.Isolation_ISOLATION_REPEATABLE_READ
	case sql.LevelSerializable:
		made.Isolation = seguev1.Isolation_ISOLATION_SERIALIZABLE
	default:
		return nil, own("isolation level %s does not exist here; there are Read Committed, Repeatable Read and Serializable", o.Isolation)
	}
	if o.IdleTimeout > 0 {
		made.IdleTimeout = durationpb.New(o.IdleTimeout)
	}
	if o.TotalTimeout > 0 {
		made.TotalTimeout = durationpb.New(o.TotalTimeout)
	}
	return made, nil
}

type txState int

const (
	txNew txState = iota
	txOpen
	// txCommitting: the answer of the call that commits is being read.
	txCommitting
	txCommitted
	txRolledBack
)

// transaction begins with its first call.
type transaction struct {
	client  *Client
	options *seguev1.TransactionOptions

	// reopens: where the first call fails, the next one begins the transaction. In database/sql, as with
	// other drivers, a transaction has failed then.
	reopens bool

	// mu is held while a call is made: which of two would begin it is nothing a caller can mean.
	mu    sync.Mutex
	state txState
	id    string
	// failed is why it was rolled back without having been asked to.
	failed error
}

func (c *Client) transaction(options TxOptions) (*transaction, error) {
	made, err := options.proto()
	if err != nil {
		return nil, err
	}
	return &transaction{client: c, options: made}, nil
}

// place is where a call runs: outside transactions, or in one.
type place struct {
	transaction *transaction
	begins      bool
	commits     bool
}

// enter takes the transaction for one call; leave gives it back.
func (t *transaction) enter(commit bool) (place, error) {
	if t == nil {
		return place{}, nil
	}
	t.mu.Lock()
	at := place{transaction: t, begins: t.state == txNew, commits: commit}
	if err := t.usable(); err != nil {
		t.mu.Unlock()
		return place{}, err
	}
	return at, nil
}

func (t *transaction) usable() error {
	switch {
	case t.failed != nil:
		return &Error{
			Status: codes.FailedPrecondition, Code: "25P02", Reason: "client", Outcome: OutcomeNotApplied,
			Message: "the transaction was rolled back by an earlier error: " + t.failed.Error(),
			Hint:    "run the whole transaction again", Retryable: IsRetryable(t.failed), cause: t.failed,
		}
	case t.state == txCommitting || t.state == txCommitted || t.state == txRolledBack:
		return &Error{
			Status: codes.FailedPrecondition, Reason: "client", Outcome: OutcomeNotApplied,
			Message: "the transaction has ended", cause: sql.ErrTxDone,
		}
	}
	return nil
}

// tookEffect says whether it was committed, or may have been: what is run again would be there twice.
func (t *transaction) tookEffect() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == nil {
		return t.state == txCommitting || t.state == txCommitted
	}
	var failed *Error
	return errors.As(t.failed, &failed) && failed.Outcome != OutcomeNotApplied
}

// selector says to the sidecar where the call runs.
func (p place) selector() *seguev1.TransactionSelector {
	t := p.transaction
	if t == nil {
		return nil
	}
	if p.begins {
		return &seguev1.TransactionSelector{
			Selector: &seguev1.TransactionSelector_Begin{Begin: t.options}, Commit: p.commits,
		}
	}
	return &seguev1.TransactionSelector{Selector: &seguev1.TransactionSelector_Id{Id: t.id}, Commit: p.commits}
}

// repeating says when the call may be made again; write is what holds outside transactions.
func (p place) repeating(outside repeating) repeating {
	switch {
	case p.transaction == nil:
		return outside
	case p.begins && p.commits:
		return unapplied
	case p.begins:
		// Nothing came before it, and without a commit nothing stays of it.
		return safe
	default:
		return never
	}
}

// leave notes what the call came to.
func (p place) leave(id string, err error) error {
	t := p.transaction
	if t == nil {
		return err
	}
	defer t.mu.Unlock()
	return p.noted(id, err)
}

// opened is leave for an answer that has begun; complete says that it has ended as well.
func (p place) opened(id string, complete bool) error {
	t := p.transaction
	if t == nil {
		return nil
	}
	defer t.mu.Unlock()
	switch {
	case !p.commits || complete:
		return p.noted(id, nil)
	default:
		t.state = txCommitting
		return nil
	}
}

// noted is leave without giving the transaction back.
func (p place) noted(id string, err error) error {
	t := p.transaction
	if err == nil {
		switch {
		case p.commits:
			t.state = txCommitted
		case p.begins:
			t.state, t.id = txOpen, id
		}
		return nil
	}
	var failed *Error
	if !errors.As(err, &failed) {
		failed = own("%v", err)
	}
	if failed.Reason == "transaction.in_use" {
		return err
	}
	if failed.lost && !p.commits {
		// Whatever the call did is rolled back: what did not come to its commit has no effect.
		failed.Outcome, failed.Retryable = OutcomeNotApplied, failed.cause == nil
	}
	if p.begins || p.commits || failed.lost || failed.Reason == "transaction.not_found" {
		if failed.lost && !p.commits && t.id != "" {
			go t.abandon(t.id)
		}
		t.state, t.failed = txRolledBack, err
		if t.reopens && p.begins && failed.Outcome == OutcomeNotApplied {
			t.state, t.failed = txNew, nil
		}
	}
	return err
}

// again makes a transaction new whose first call failed, where that call is to be made in another way.
func (p place) again() {
	if t := p.transaction; t != nil && p.begins {
		t.mu.Lock()
		t.state, t.failed = txNew, nil
		t.mu.Unlock()
	}
}

// abandon tells the sidecar that nobody goes on with a transaction, so that its locks do not wait for the
// idle timeout.
func (t *transaction) abandon(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
	defer cancel()
	// It may be gone already: nothing is lost.
	_ = t.client.sendRollback(ctx, id)
}

func (t *transaction) commit(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed != nil {
		return t.usable()
	}
	switch t.state {
	case txNew:
		// Nothing was done in it.
		t.state = txCommitted
		return nil
	case txCommitted:
		return nil
	case txCommitting, txRolledBack:
		return t.usable()
	}
	err := t.client.repeat(ctx, Call{Method: "commit"}, never, func(ctx context.Context) error {
		return t.client.bringing(ctx, func(tokens []string) (string, error) {
			request := &seguev1.CommitRequest{TransactionId: t.id, ConsistencyTokens: tokens}
			answer, err := t.client.sendCommit(ctx, request)
			return answer.GetConsistencyToken(), err
		})
	})
	return place{transaction: t, commits: true}.noted("", err)
}

func (t *transaction) rollback(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != txOpen {
		if t.state == txNew {
			t.state = txRolledBack
		}
		return nil
	}
	t.state = txRolledBack
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	err := t.client.repeat(ctx, Call{Method: "rollback"}, safe, func(ctx context.Context) error {
		return t.client.sendRollback(ctx, t.id)
	})
	if reasonOf(err) == "transaction.not_found" {
		return nil
	}
	return err
}
