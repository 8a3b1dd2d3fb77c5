package segue

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	seguev1 "segue.test/clients/go/segue/v1"
)

const (
	repeatMin = 20 * time.Millisecond
	repeatMax = time.Second
	// More tokens the sidecar does not take in one call.
	tokensMax = 256
)

// repeating says when a call may be made again by itself.
type repeating int

const (
	// never: the call is part of a transaction that is under way.
	never repeating = iota
	// unapplied: where the sidecar says that it had no effect.
	unapplied
	// keyed: also where no one knows, since a repeat has the same idempotency key.
	keyed
	// safe: the same for what changes nothing, or nothing that stays.
	safe
)

// repeat makes a call, and makes it again as far as it may be.
func (c *Client) repeat(ctx context.Context, call Call, when repeating, attempt func(context.Context) error) error {
	traceparent, end := c.trace(ctx, call)
	calling := ctx
	if traceparent != "" {
		calling = metadata.AppendToOutgoingContext(ctx, "traceparent", traceparent)
	}
	err := c.repeated(calling, when, attempt)
	if err == nil {
		end(nil)
		return nil
	}
	end(err)
	return err
}

func (c *Client) repeated(ctx context.Context, when repeating, attempt func(context.Context) error) *Error {
	until := time.Now().Add(c.config.retryTimeout())
	pause := repeatMin
	unknown := false
	for {
		if err := c.ready(ctx); err != nil {
			// It has waited for as long as it may.
			return fromStatus(ctx, err).after(unknown)
		}
		failed := once(ctx, attempt)
		if failed == nil {
			return nil
		}
		// Asked before what earlier attempts came to is put into it: a repeat that is refused for good is the
		// last one.
		again := failed.again(when)
		failed = failed.after(unknown)
		if ctx.Err() != nil || !again || c.closed.Load() || !time.Now().Before(until) {
			return failed
		}
		unknown = unknown || (when == keyed && failed.Outcome == OutcomeUnknown)
		if !sleep(ctx, jittered(max(pause, failed.RetryDelay))) {
			return failed
		}
		pause = min(2*pause, repeatMax)
	}
}

func once(ctx context.Context, attempt func(context.Context) error) *Error {
	if err := attempt(ctx); err != nil {
		return fromStatus(ctx, err)
	}
	return nil
}

// again says whether the call that failed so may be made again.
func (e *Error) again(when repeating) bool {
	switch {
	case when == never || e.Reason == "client":
		return false
	case e.repeatable():
		return true
	case when == unapplied || e.Outcome != OutcomeUnknown:
		return false
	case e.lost:
		// The transport's own codes; others, such as a message that is too large, come again.
		return e.Status == codes.Unavailable || e.Status == codes.Unknown || e.Status == codes.Internal ||
			e.Status == codes.Canceled || e.Status == codes.Aborted
	default:
		return e.Retryable || e.Status == codes.Unknown
	}
}

// after gives the error of a repeat: where no one knows what an earlier attempt came to, what the last one
// says of itself is not true of the whole call, unless it settles that.
func (e *Error) after(unknown bool) *Error {
	if !unknown || e.settles() {
		return e
	}
	made := *e
	made.Outcome = OutcomeUnknown
	return &made
}

// settles says whether the error of a repeat tells what the attempts before it came to: the database has run
// the statement and refused it, which it does not do to one whose key it has seen. What may pass, and what
// stopped the repeat before its end, tells nothing of them.
func (e *Error) settles() bool {
	switch {
	case e.lost || e.Outcome == OutcomeUnknown:
		return false
	case e.Outcome == OutcomeApplied:
		return true
	default:
		return e.Code != "" && !e.Retryable && e.Status != codes.Canceled && e.Status != codes.DeadlineExceeded
	}
}

// jittered gives between half of the pause and all of it, so that those who failed together do not come
// back together.
func jittered(pause time.Duration) time.Duration {
	return pause/2 + rand.N(pause/2+1)
}

func sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// jar gives the tokens that a call brings and replaces.
func (c *Client) jar(ctx context.Context) *Tokens {
	if tokens, found := ctx.Value(tokensKey).(*Tokens); found && tokens != nil {
		return tokens
	}
	return &c.tokens
}

// brought gives the tokens for a call. Where there are more than one call can bring, calls of their own
// make one of many.
func (c *Client) brought(ctx context.Context) ([]string, error) {
	jar := c.jar(ctx)
	for {
		held := jar.List()
		if len(held) <= tokensMax {
			return held, nil
		}
		some := held[:tokensMax]
		request := &seguev1.QueryRequest{Statement: statement("SELECT 1", nil), ConsistencyTokens: some}
		stream, err := c.stub.Query(ctx, request)
		if err != nil {
			return nil, err
		}
		var footer *seguev1.Footer
		for footer == nil {
			part, err := stream.Recv()
			if err != nil {
				return nil, err
			}
			footer = part.GetFooter()
		}
		jar.replace(some, footer.GetConsistencyToken())
	}
}

// bringing makes one attempt of a call with the tokens, and keeps what it answers.
func (c *Client) bringing(ctx context.Context, attempt func(tokens []string) (string, error)) error {
	tokens, err := c.brought(ctx)
	if err != nil {
		return err
	}
	token, err := attempt(tokens)
	if err == nil {
		c.jar(ctx).replace(tokens, token)
		return nil
	}
	failed := fromStatus(ctx, err)
	c.jar(ctx).failed(tokens, failed)
	return failed
}

// key gives the idempotency key of a write of its own.
func (c *Client) key(ctx context.Context) string {
	if given, found := ctx.Value(idempotencyKey).(string); found {
		return given
	}
	if c.config.NoIdempotencyKeys {
		return ""
	}
	return newKey()
}

func (c *Client) routingKey(ctx context.Context) string {
	if given, found := ctx.Value(routingKey).(string); found {
		return given
	}
	return c.config.RoutingKey
}

// namedPrefix begins the text that stands for a named statement. As SQL it is a comment alone, which is
// never a statement.
const namedPrefix = "-- name: "

// Named stands for a statement of the sidecar's query files, wherever a statement's text is expected:
// db.QueryContext(ctx, segue.Named("get_order"), 7).
func Named(name string) string { return namedPrefix + name }

// statementName gives the name that Named was given.
func statementName(query string) (string, bool) {
	name, found := strings.CutPrefix(query, namedPrefix)
	if !found || strings.ContainsAny(name, "\r\n") {
		return "", false
	}
	return strings.TrimSpace(name), true
}

func statement(query string, params []*seguev1.Value) *seguev1.Statement {
	if name, found := statementName(query); found {
		return &seguev1.Statement{Text: &seguev1.Statement_Name{Name: name}, Params: params}
	}
	return &seguev1.Statement{Text: &seguev1.Statement_Sql{Sql: query}, Params: params}
}

func describe(method, query string) Call {
	if name, found := statementName(query); found {
		return Call{Method: method, Name: name}
	}
	return Call{Method: method, Statement: query}
}

// reasonOf gives the reason of an error, whatever it is.
func reasonOf(err error) string {
	var failed *Error
	if errors.As(err, &failed) {
		return failed.Reason
	}
	return ""
}
