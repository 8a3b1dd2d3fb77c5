package segue

import (
	"context"
	"errors"
	"slices"

	seguev1 "segue.test/clients/go/segue/v1"
)

// Reasons that this side acts on.
const (
	reasonParameter    = "invalid.parameter"
	reasonWriteInQuery = "refused.write_in_query"
	// reasonTransactionSide: the transaction runs on one side, and a statement's tables are on the other.
	reasonTransactionSide = "refused.transaction_side"
)

// withoutKey are reasons for which a write cannot have an idempotency key. It had no effect.
var withoutKey = []string{"refused.idempotency_of_owner", "idempotency.no_schema", "idempotency.answer_bytes"}

// fitting runs a statement, and once more with parameters of the kinds that its types take, where the
// sidecar does not take them as they are.
func (c *Client) fitting(
	ctx context.Context, t *transaction, query string, arguments []any, commit bool,
	run func(place, []*seguev1.Value) error,
) error {
	params, err := encodeAll(arguments)
	if err != nil {
		return err
	}
	types := c.statements.get(query).types
	if types == nil && commit && t != nil && slices.ContainsFunc(params, mayMisfit) {
		// What fails here takes the whole transaction with it: it is asked before, once for the statement.
		types = c.parameterTypes(ctx, query)
	}
	at, err := t.enter(commit)
	if err != nil {
		return err
	}
	err = run(at, fitAll(params, types))
	if !refusedFor(err, reasonParameter) || types != nil {
		return err
	}
	if types = c.parameterTypes(ctx, query); types == nil {
		return err
	}
	at.again()
	if at, err = t.enter(commit); err != nil {
		return err
	}
	return run(at, fitAll(params, types))
}

// parameterTypes asks for a statement's types; nil where that fails, which the statement itself then does.
func (c *Client) parameterTypes(ctx context.Context, query string) []string {
	answer, err := c.Describe(ctx, query)
	if err != nil {
		return nil
	}
	for _, side := range answer.GetSides() {
		if side.GetError() == nil {
			types := slices.Clone(side.GetParameterTypes())
			c.statements.learn(query, func(entry *known) { entry.types = types })
			return types
		}
	}
	return nil
}

// execute runs a write, or any statement inside a transaction.
func (c *Client) execute(ctx context.Context, t *transaction, query string, arguments []any) (*seguev1.ExecuteResponse, error) {
	var answer *seguev1.ExecuteResponse
	err := c.fitting(ctx, t, query, arguments, t != nil && commits(ctx), func(at place, params []*seguev1.Value) error {
		learned := c.statements.get(query)
		request := &seguev1.ExecuteRequest{
			Statement: statement(query, params), Transaction: at.selector(), Encoding: learned.encoding.proto(false),
		}
		return c.keyed(ctx, at, query, learned, &request.IdempotencyKey, describe("execute", query), func(ctx context.Context) error {
			return c.bringing(ctx, func(tokens []string) (token string, err error) {
				request.ConsistencyTokens = tokens
				answer, err = c.sendExecute(ctx, request)
				return answer.GetConsistencyToken(), err
			})
		}, func() string { return answer.GetTransactionId() })
	})
	if err != nil {
		return nil, err
	}
	c.learnColumns(query, answer.GetResult().GetColumns())
	return answer, nil
}

// keyed makes a write's call: outside transactions with an idempotency key, by which it may be repeated
// when its answer was lost.
func (c *Client) keyed(
	ctx context.Context, at place, query string, learned known, key *string, call Call,
	attempt func(context.Context) error, id func() string,
) error {
	if at.transaction == nil && (!learned.keyless || givenKey(ctx)) {
		*key = c.key(ctx)
	}
	run := func() error {
		outside := unapplied
		if *key != "" {
			outside = keyed
		}
		return c.repeat(ctx, call, at.repeating(outside), attempt)
	}
	err := run()
	if *key != "" && !givenKey(ctx) && refusedFor(err, withoutKey...) {
		c.statements.learn(query, func(entry *known) { entry.keyless = true })
		*key = ""
		err = run()
	}
	return at.leave(id(), err)
}

// refusedFor says whether a call had no effect, for one of these reasons, so that it can be made in another
// way. An earlier attempt of the call may have had one.
func refusedFor(err error, reasons ...string) bool {
	var failed *Error
	return errors.As(err, &failed) && failed.Outcome == OutcomeNotApplied && slices.Contains(reasons, failed.Reason)
}

func givenKey(ctx context.Context) bool {
	_, given := ctx.Value(idempotencyKey).(string)
	return given
}

// batch runs several writes: all or none.
func (c *Client) batch(ctx context.Context, t *transaction, batch *Batch) (*seguev1.BatchResponse, error) {
	commit := t != nil && commits(ctx)
	statements, err := c.encodeBatch(batch, false)
	if err != nil {
		return nil, err
	}
	if commit {
		// What fails here takes the whole transaction with it: the types are asked before.
		if statements, err = c.fitBatch(ctx, batch); err != nil {
			return nil, err
		}
	}
	var answer *seguev1.BatchResponse
	run := func(at place) error {
		request := &seguev1.BatchRequest{
			Statements: statements, Transaction: at.selector(), Encoding: seguev1.Encoding_ENCODING_TYPED,
		}
		return c.keyed(ctx, at, "", known{}, &request.IdempotencyKey, Call{Method: "batch"}, func(ctx context.Context) error {
			return c.bringing(ctx, func(tokens []string) (token string, err error) {
				request.ConsistencyTokens = tokens
				answer, err = c.sendBatch(ctx, request)
				return answer.GetConsistencyToken(), err
			})
		}, func() string { return answer.GetTransactionId() })
	}
	at, err := t.enter(commit)
	if err != nil {
		return nil, err
	}
	if err = run(at); refusedFor(err, reasonParameter) && !commit {
		at.again()
		if statements, err = c.fitBatch(ctx, batch); err != nil {
			return nil, err
		}
		if at, err = t.enter(commit); err != nil {
			return nil, err
		}
		err = run(at)
	}
	return answer, err
}

// fitBatch asks for the types that are not known yet.
func (c *Client) fitBatch(ctx context.Context, batch *Batch) ([]*seguev1.Statement, error) {
	for _, entry := range batch.entries {
		if len(entry.arguments) > 0 && c.statements.get(entry.query).types == nil {
			c.parameterTypes(ctx, entry.query)
		}
	}
	return c.encodeBatch(batch, true)
}

func (c *Client) encodeBatch(batch *Batch, fitted bool) ([]*seguev1.Statement, error) {
	statements := make([]*seguev1.Statement, len(batch.entries))
	for at, entry := range batch.entries {
		params, err := encodeAll(entry.arguments)
		if err != nil {
			return nil, own("statement %d: %v", at+1, err)
		}
		if types := c.statements.get(entry.query).types; types != nil || fitted {
			params = fitAll(params, types)
		}
		statements[at] = statement(entry.query, params)
	}
	return statements, nil
}
