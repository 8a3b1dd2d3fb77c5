package segue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/grpc/codes"

	seguev1 "segue.test/clients/go/segue/v1"
)

// Column is one column of an answer.
type Column struct {
	// Name is the column's.
	Name string
	// Type is the type's name without its schema: "int4", "_text" for an array.
	Type string
	// OID is the type's object id on the database that answered.
	OID uint32
	// Modifier is PostgreSQL's type modifier; -1 where the type has none.
	Modifier int32
}

// Rows are the rows of an answer, which come while they are read. Close them, or read them to their end:
// a transaction takes no other call before.
type Rows struct {
	header   []*seguev1.Column
	columns  []Column
	decoders []decoder
	// begun is the transaction that the call began.
	begun string

	client *Client
	at     place
	// jar and brought: whose tokens the answer's token replaces.
	jar     *Tokens
	brought []string
	ctx     context.Context
	cancel  context.CancelFunc
	stream  parts

	packed reader
	left   int
	typed  []*seguev1.Row
	footer *seguev1.Footer
	// streams: the first part was not the last one.
	streams bool
	read    uint64

	values []any
	err    error
	done   bool
}

func (e encoding) proto(alone bool) seguev1.Encoding {
	if e == packed || (e == undecided && alone) {
		return seguev1.Encoding_ENCODING_PACKED
	}
	return seguev1.Encoding_ENCODING_TYPED
}

// learnColumns notes whether packed rows of a statement can be read here.
func (c *Client) learnColumns(query string, columns []*seguev1.Column) {
	if len(columns) == 0 {
		return
	}
	wanted := packed
	for _, column := range columns {
		if decoderOf(column.GetTypeOid()) == nil {
			wanted = typed
		}
	}
	if c.statements.get(query).encoding != wanted {
		c.statements.learn(query, func(entry *known) { entry.encoding = wanted })
	}
}

// either runs a statement that gives rows for database/sql, which does not tell reads from writes: as a read
// where it is one.
func (c *Client) either(ctx context.Context, t *transaction, query string, arguments []any) (*Rows, error) {
	// The last statement of a transaction must not fail for being taken for a read.
	commit := t != nil && commits(ctx)
	if !commit && mayRead(query) && !c.statements.get(query).writes {
		rows, begins, err := c.read(ctx, t, query, arguments, false)
		if reasonOf(err) != reasonWriteInQuery {
			return rows, err
		}
		c.statements.learn(query, func(entry *known) { entry.writes = true })
		begins.again()
	}
	answer, err := c.execute(ctx, t, query, arguments)
	if err != nil {
		return nil, err
	}
	return resultRows(answer.GetResult())
}

// resultRows gives the rows of RETURNING.
func resultRows(result *seguev1.StatementResult) (*Rows, error) {
	rows := &Rows{cancel: func() {}, footer: &seguev1.Footer{}}
	rows.setColumns(result.GetColumns())
	rows.take(result.GetRows())
	rows.footer.RowCount = uint64(rows.left + len(rows.typed))
	return rows, nil
}

// read runs a read and waits for the first part of its answer.
func (c *Client) read(ctx context.Context, t *transaction, query string, arguments []any, commit bool) (*Rows, place, error) {
	var rows *Rows
	var last place
	err := c.fitting(ctx, t, query, arguments, commit, func(at place, params []*seguev1.Value) error {
		last = at
		var err error
		rows, err = c.openRows(ctx, at, query, params)
		if err == nil {
			// A commit comes behind the last row.
			return at.opened(rows.begun, rows.footer != nil)
		}
		return at.leave("", err)
	})
	if err != nil {
		return nil, last, err
	}
	return rows, last, nil
}

func (c *Client) openRows(ctx context.Context, at place, query string, params []*seguev1.Value) (*Rows, error) {
	outside := at.transaction == nil
	learned := c.statements.get(query).encoding
	request := &seguev1.QueryRequest{
		Statement: statement(query, params), Transaction: at.selector(), RoutingKey: c.routingKey(ctx),
		Encoding: learned.proto(outside),
	}
	rows, err := c.openStream(ctx, at, query, request)
	if err != nil {
		return nil, err
	}
	if learned == undecided {
		c.learnColumns(query, rows.header)
		if outside && c.statements.get(query).encoding == typed {
			// It has a type that is not known here: the sidecar decodes it. Nothing was given out yet.
			rows.cancel()
			request.Encoding = seguev1.Encoding_ENCODING_TYPED
			return c.openStream(ctx, at, query, request)
		}
	}
	return rows, nil
}

func (c *Client) openStream(ctx context.Context, at place, query string, request *seguev1.QueryRequest) (*Rows, error) {
	var rows *Rows
	err := c.repeat(ctx, describe("query", query), at.repeating(safe), func(ctx context.Context) error {
		tokens, err := c.brought(ctx)
		if err != nil {
			return err
		}
		request.ConsistencyTokens = tokens
		opened := &Rows{client: c, at: at, jar: c.jar(ctx), brought: tokens}
		opened.ctx, opened.cancel = context.WithCancel(ctx)
		if err := opened.open(request, c.statements.get(query).short); err != nil {
			opened.cancel()
			failed := fromStatus(ctx, err)
			c.jar(ctx).failed(tokens, failed)
			return failed
		}
		rows = opened
		return nil
	})
	if err == nil {
		c.learnLength(query, !rows.streams && len(rows.packed.rest) < shortBytesMax && len(rows.typed) < shortRowsMax)
	}
	return rows, err
}

const (
	// Answers above these limits have streams of their own.
	shortBytesMax = 64 << 10
	shortRowsMax  = 1000
)

// learnLength notes whether a statement's answer was short.
func (c *Client) learnLength(query string, short bool) {
	if c.statements.get(query).short != short {
		c.statements.learn(query, func(entry *known) { entry.short = short })
	}
}

func (r *Rows) open(request *seguev1.QueryRequest, short bool) error {
	stream, err := r.client.sendQuery(r.ctx, request, short)
	if err != nil {
		return err
	}
	r.stream = stream
	part, err := r.receive()
	if err != nil {
		return err
	}
	r.setColumns(part.GetHeader().GetColumns())
	r.begun = part.GetHeader().GetTransactionId()
	err = r.accept(part)
	r.streams = r.footer == nil
	return err
}

func (r *Rows) receive() (*seguev1.QueryResponse, error) {
	part, err := r.stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, &Error{Status: codes.Unavailable, Message: "the answer ended early", Reason: "connection", lost: true}
	}
	return part, err
}

func (r *Rows) setColumns(columns []*seguev1.Column) {
	r.header = columns
	r.columns = make([]Column, len(columns))
	r.decoders = make([]decoder, len(columns))
	r.values = make([]any, len(columns))
	for at, column := range columns {
		r.columns[at] = Column{
			Name: column.GetName(), Type: column.GetTypeName(), OID: column.GetTypeOid(), Modifier: column.GetTypeModifier(),
		}
		r.decoders[at] = decoderOf(column.GetTypeOid())
	}
}

// accept takes a part, and with the last one what stands behind the rows.
func (r *Rows) accept(part *seguev1.QueryResponse) error {
	r.take(part.GetRows())
	footer := part.GetFooter()
	if footer == nil {
		return nil
	}
	r.footer = footer
	if t := r.at.transaction; t != nil && r.at.commits && r.streams {
		t.mu.Lock()
		t.state = txCommitted
		t.mu.Unlock()
	}
	r.jar.replace(r.brought, footer.GetConsistencyToken())
	// What is left is the stream's status, which a footer says to be good.
	_, _ = r.stream.Recv()
	r.cancel()
	return nil
}

func (r *Rows) take(rows *seguev1.Rows) {
	switch given := rows.GetEncoding().(type) {
	case *seguev1.Rows_Packed:
		r.packed = reader{rest: given.Packed.GetCells()}
		r.left = int(given.Packed.GetRowCount())
	case *seguev1.Rows_Typed:
		r.typed = given.Typed.GetRows()
	}
}

// Columns gives the columns. They are known before the first row is read.
func (r *Rows) Columns() []Column { return slices.Clone(r.columns) }

// Next reads the next row. It gives false behind the last one and where reading failed, which Err tells.
func (r *Rows) Next() bool {
	err := r.next(r.values)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return err == nil
}

// Values gives the row's values, in the types that the package's documentation names. The slice is that of
// all rows.
func (r *Rows) Values() []any { return r.values }

// Scan puts the row's values into what the pointers point to. What does not fit is an error.
func (r *Rows) Scan(dest ...any) error {
	if len(dest) != len(r.values) {
		return fmt.Errorf("segue: the row has %d columns, %d destinations were given", len(r.values), len(dest))
	}
	for at := range dest {
		if err := assign(dest[at], r.values[at]); err != nil {
			return fmt.Errorf("column %d (%s): %w", at+1, r.columns[at].Name, err)
		}
	}
	return nil
}

// Err gives what reading failed with.
func (r *Rows) Err() error { return r.err }

// Side gives the database that answered, once all rows are read: source or target.
func (r *Rows) Side() string { return sideName(r.footer.GetSide()) }

// Close ends the reading. Inside a transaction it reads the rest, since a statement that is cancelled takes
// the transaction with it.
func (r *Rows) Close() error {
	if r.done {
		return nil
	}
	r.done = true
	defer r.cancel()
	if r.at.transaction == nil {
		r.cancel()
		return nil
	}
	for r.footer == nil && r.err == nil {
		part, err := r.receive()
		if err == nil {
			err = r.accept(part)
		}
		if err != nil {
			r.err = r.failed(err)
			return r.err
		}
	}
	return nil
}

func (r *Rows) failed(err error) error {
	failed := fromStatus(r.ctx, err)
	r.jar.failed(r.brought, failed)
	r.cancel()
	if t := r.at.transaction; t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		// The call that began it has answered: from here on it is one inside.
		return place{transaction: t, commits: r.at.commits}.noted("", failed)
	}
	if failed.lost {
		failed.Outcome = OutcomeNotApplied
	}
	return failed
}

// next decodes the next row; io.EOF says that there is none.
func (r *Rows) next(values []any) error {
	if r.done {
		return io.EOF
	}
	if r.err != nil {
		return r.err
	}
	for {
		switch {
		case r.left > 0:
			r.left--
			r.read++
			return r.broken(r.nextPacked(values))
		case len(r.typed) > 0:
			row := r.typed[0]
			r.typed = r.typed[1:]
			r.read++
			return r.broken(nextTyped(row, values))
		case r.footer != nil:
			r.done = true
			if r.read != r.footer.GetRowCount() {
				return r.broken(fmt.Errorf("the answer has %d rows, %d came", r.footer.GetRowCount(), r.read))
			}
			return io.EOF
		}
		part, err := r.receive()
		if err == nil {
			err = r.accept(part)
		}
		if err != nil {
			r.err = r.failed(err)
			return r.err
		}
	}
}

// broken is an answer that cannot be what the sidecar meant.
func (r *Rows) broken(err error) error {
	if err == nil {
		return nil
	}
	r.cancel()
	r.err = &Error{Status: codes.DataLoss, Reason: "client", Message: "the answer cannot be read: " + err.Error(), Outcome: OutcomeUnknown}
	return r.err
}

func (r *Rows) nextPacked(values []any) error {
	for at := range values {
		length := r.packed.int32()
		if length == -1 && !r.packed.failed {
			values[at] = nil
			continue
		}
		cell := r.packed.take(length)
		if r.packed.failed {
			return errLength
		}
		decode := r.decoders[at]
		if decode == nil {
			return fmt.Errorf("column %s has type %s, which has no packed form here", r.columns[at].Name, r.columns[at].Type)
		}
		value, err := decode(cell)
		if err != nil {
			return fmt.Errorf("column %s of type %s: %w", r.columns[at].Name, r.columns[at].Type, err)
		}
		values[at] = value
	}
	return nil
}

func nextTyped(row *seguev1.Row, values []any) error {
	if len(row.GetValues()) != len(values) {
		return fmt.Errorf("a row has %d values for %d columns", len(row.GetValues()), len(values))
	}
	for at, value := range row.GetValues() {
		if value.GetKind() == nil {
			return fmt.Errorf("a value of column %d has no kind", at+1)
		}
		values[at], _ = decodeTyped(value)
	}
	return nil
}
