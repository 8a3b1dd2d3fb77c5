package segue

import (
	"context"
	"slices"
	"sync"
)

// Tokens are consistency tokens: a call that brings them sees the writes that they cover. A [Client] has
// its own, which all its calls share, those of database/sql too; [WithTokens] gives a context others. They
// may be used by several goroutines.
type Tokens struct {
	mu   sync.Mutex
	held []string
}

// Add takes tokens of another process, as [Tokens.List] gave them.
func (t *Tokens) Add(tokens ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, token := range tokens {
		t.add(token)
	}
}

// List gives the tokens, to be passed on to another process.
func (t *Tokens) List() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.held)
}

func (t *Tokens) add(token string) {
	if token != "" && !slices.Contains(t.held, token) {
		t.held = append(t.held, token)
	}
}

// replace puts an answer's token in the place of what its call brought. What other calls got in the
// meantime stays.
func (t *Tokens) replace(brought []string, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(brought) > 0 {
		t.held = slices.DeleteFunc(t.held, func(held string) bool { return slices.Contains(brought, held) })
	}
	t.add(token)
}

// failed takes the token of an error: where there is none, what the call brought stays.
func (t *Tokens) failed(brought []string, err *Error) {
	if err.token != "" {
		t.replace(brought, err.token)
	}
}

type contextKey int

const (
	tokensKey contextKey = iota
	routingKey
	idempotencyKey
	traceparentKey
	commitKey
	begunKey
)

// WithTokens makes calls with the context keep and bring these tokens instead of the client's: those of
// one user's session, for example.
func WithTokens(ctx context.Context, tokens *Tokens) context.Context {
	return context.WithValue(ctx, tokensKey, tokens)
}

// WithRoutingKey makes reads with the same key see the same side while reads are being shifted: the id of
// a user, for example. At most 1024 bytes.
func WithRoutingKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, routingKey, key)
}

// WithIdempotencyKey names a single write or a batch, so that it has effect once, however often and by
// whichever process it is made: a repeat has the answer of the first. At most 255 bytes, kept for a day.
// An empty key turns the one off that the client would make.
func WithIdempotencyKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, idempotencyKey, key)
}

// WithTraceparent gives the W3C trace context of calls where no [Tracer] does.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	return context.WithValue(ctx, traceparentKey, traceparent)
}

// WithCommit makes the next statement of a transaction its last one: it commits in the same call, and the
// Commit that follows is no call any more. A statement that fails rolls the transaction back.
func WithCommit(ctx context.Context) context.Context {
	return context.WithValue(ctx, commitKey, true)
}

func commits(ctx context.Context) bool {
	wanted, _ := ctx.Value(commitKey).(bool)
	return wanted
}
