package segue

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	seguev1 "segue.test/clients/go/segue/v1"
)

const (
	// More calls of one stream the sidecar does not take (max_pipeline_calls is 512).
	pipeCallsMax = 500
	// Bytes of one answer that wait to be read before its stream takes no further part.
	pipeBytesMax = 4 << 20
	// How long a call that was cancelled waits for what it came to.
	cancelGrace = time.Second
)

// pipe is one stream of many calls: Sql.Pipeline.
//
// Its reader never waits for the reader of one answer while other calls wait for theirs. What is read
// slowly has its stream to itself soon, since new calls take another.
type pipe struct {
	stream seguev1.Sql_PipelineClient
	// end ends the stream.
	end     context.CancelFunc
	sending sync.Mutex

	mu    sync.Mutex
	room  *sync.Cond
	calls map[uint64]*pipeCall
	next  uint64
	// slow: an answer is read slowly; no new call is put behind it.
	slow bool
	// failed is why the stream has ended.
	failed error
}

// pipeCall is one call that waits for its answer, or for further parts of it.
type pipeCall struct {
	pipe  *pipe
	id    uint64
	parts []*seguev1.PipelineResponse
	bytes int
	ended bool
	// wake has an entry where something came.
	wake chan struct{}
}

// pipes are those of a client: one, but for answers that are read slowly.
type pipes struct {
	mu      sync.Mutex
	current *pipe
	// absent: the sidecar is older and has none.
	absent bool
}

// pipe gives the stream for a new call; nil where calls go without.
func (c *Client) pipe() (*pipe, error) {
	c.pipes.mu.Lock()
	defer c.pipes.mu.Unlock()
	if c.pipes.absent {
		return nil, nil
	}
	if current := c.pipes.current; current != nil && current.takes() {
		return current, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := c.stub.Pipeline(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	made := &pipe{stream: stream, end: cancel, calls: make(map[uint64]*pipeCall)}
	made.room = sync.NewCond(&made.mu)
	c.pipes.current = made
	go made.read()
	return made, nil
}

func (p *pipe) takes() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slow && len(p.calls) == 0 {
		// It was read to its end.
		p.slow = false
	}
	return p.failed == nil && !p.slow && len(p.calls) < pipeCallsMax
}

// read hands answers over until the stream ends.
func (p *pipe) read() {
	for {
		answer, err := p.stream.Recv()
		p.mu.Lock()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = status.Error(codes.Unavailable, "the sidecar ended the stream")
			}
			p.failed = err
			for _, call := range p.calls {
				call.signal()
			}
			p.mu.Unlock()
			p.end()
			return
		}
		// One that nobody waits for any more was cancelled.
		if call := p.calls[answer.GetId()]; call != nil {
			call.take(answer)
			p.slow = p.slow || call.bytes > pipeBytesMax
			for call.bytes > pipeBytesMax && len(p.calls) == 1 && p.calls[call.id] != nil {
				p.room.Wait()
			}
		}
		p.mu.Unlock()
	}
}

// take is called with the pipe locked.
func (c *pipeCall) take(answer *seguev1.PipelineResponse) {
	c.parts = append(c.parts, answer)
	c.bytes += proto.Size(answer)
	part, isPart := answer.GetAnswer().(*seguev1.PipelineResponse_Query)
	if !isPart || part.Query.GetFooter() != nil {
		c.ended = true
		delete(c.pipe.calls, c.id)
	}
	c.signal()
}

func (c *pipeCall) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// begin sends a call.
func (p *pipe) begin(ctx context.Context, request *seguev1.PipelineRequest) (*pipeCall, error) {
	p.mu.Lock()
	p.next++
	call := &pipeCall{pipe: p, id: p.next, wake: make(chan struct{}, 1)}
	p.calls[call.id] = call
	p.mu.Unlock()
	request.Id = call.id
	if until, given := ctx.Deadline(); given {
		request.Timeout = durationpb.New(max(time.Until(until), time.Millisecond))
	}
	if sent, _ := metadata.FromOutgoingContext(ctx); len(sent.Get("traceparent")) > 0 {
		request.Traceparent = sent.Get("traceparent")[0]
	}
	if err := p.send(request); err != nil {
		// The stream has ended: its reader knows why.
		_, _ = call.receive(context.WithoutCancel(ctx))
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.calls, call.id)
		return nil, p.failed
	}
	return call, nil
}

func (p *pipe) send(request *seguev1.PipelineRequest) error {
	p.sending.Lock()
	defer p.sending.Unlock()
	return p.stream.Send(request)
}

// receive gives the next part of the answer. A context that ends does not keep what has come.
func (c *pipeCall) receive(ctx context.Context) (*seguev1.PipelineResponse, error) {
	for {
		part, err := c.pop()
		if part != nil || err != nil {
			return part, err
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// pop gives nothing where nothing has come.
func (c *pipeCall) pop() (*seguev1.PipelineResponse, error) {
	c.pipe.mu.Lock()
	defer c.pipe.mu.Unlock()
	if len(c.parts) > 0 {
		part := c.parts[0]
		c.parts = c.parts[1:]
		c.bytes -= proto.Size(part)
		c.pipe.room.Signal()
		return part, nil
	}
	if c.ended {
		return nil, io.EOF
	}
	return nil, c.pipe.failed
}

// cancel tells the sidecar that nobody waits any more. The call is answered all the same.
func (c *pipeCall) cancel() {
	// Where the stream has ended there is nothing to cancel.
	_ = c.pipe.send(&seguev1.PipelineRequest{Id: c.id, Call: &seguev1.PipelineRequest_Cancel{Cancel: &seguev1.Cancel{}}})
}

// abandon cancels the call unless it has ended, and drops what comes of its answer.
func (c *pipeCall) abandon() {
	c.pipe.mu.Lock()
	over := c.ended || c.pipe.failed != nil
	c.parts, c.bytes, c.ended = nil, 0, true
	delete(c.pipe.calls, c.id)
	c.pipe.room.Signal()
	c.pipe.mu.Unlock()
	if !over {
		c.cancel()
	}
}

// ask makes a call and waits for its whole answer. When its context ends, it tells the sidecar and waits for
// what the call came to, for a moment: that it was applied, or surely not, is better than not to know.
func (p *pipe) ask(ctx context.Context, request *seguev1.PipelineRequest) (*seguev1.PipelineResponse, error) {
	call, err := p.begin(ctx, request)
	if err != nil {
		return nil, err
	}
	answer, err := call.receive(ctx)
	if err != nil && ctx.Err() != nil {
		call.cancel()
		waiting, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelGrace)
		defer cancel()
		answer, err = call.receive(waiting)
	}
	if err != nil {
		call.abandon()
		if ctx.Err() != nil {
			err = status.FromContextError(ctx.Err()).Err()
		}
		return nil, err
	}
	if failed := answer.GetStatus(); failed != nil {
		return nil, status.FromProto(failed).Err()
	}
	return answer, nil
}

// Of a sidecar that has no pipeline the stream ends with this code, and nothing was begun.
func isAbsent(err error) bool { return status.Code(err) == codes.Unimplemented }

// asked makes a call by a stream, or without one where there is none.
func asked[T any](
	ctx context.Context, c *Client, request *seguev1.PipelineRequest,
	answer func(*seguev1.PipelineResponse) T, alone func() (T, error),
) (T, error) {
	var none T
	p, err := c.pipe()
	if err != nil {
		return none, err
	}
	if p == nil {
		return alone()
	}
	found, err := p.ask(ctx, request)
	if err == nil {
		return answer(found), nil
	}
	if isAbsent(err) {
		c.pipes.mu.Lock()
		c.pipes.absent = true
		c.pipes.mu.Unlock()
		return alone()
	}
	return none, err
}

func (c *Client) sendExecute(ctx context.Context, request *seguev1.ExecuteRequest) (*seguev1.ExecuteResponse, error) {
	wrapped := &seguev1.PipelineRequest{Call: &seguev1.PipelineRequest_Execute{Execute: request}}
	return asked(ctx, c, wrapped, (*seguev1.PipelineResponse).GetExecute,
		func() (*seguev1.ExecuteResponse, error) { return c.stub.Execute(ctx, request) })
}

func (c *Client) sendBatch(ctx context.Context, request *seguev1.BatchRequest) (*seguev1.BatchResponse, error) {
	wrapped := &seguev1.PipelineRequest{Call: &seguev1.PipelineRequest_Batch{Batch: request}}
	return asked(ctx, c, wrapped, (*seguev1.PipelineResponse).GetBatch,
		func() (*seguev1.BatchResponse, error) { return c.stub.Batch(ctx, request) })
}

func (c *Client) sendCommit(ctx context.Context, request *seguev1.CommitRequest) (*seguev1.CommitResponse, error) {
	wrapped := &seguev1.PipelineRequest{Call: &seguev1.PipelineRequest_Commit{Commit: request}}
	return asked(ctx, c, wrapped, (*seguev1.PipelineResponse).GetCommit,
		func() (*seguev1.CommitResponse, error) { return c.stub.Commit(ctx, request) })
}

func (c *Client) sendRollback(ctx context.Context, id string) error {
	request := &seguev1.RollbackRequest{TransactionId: id}
	wrapped := &seguev1.PipelineRequest{Call: &seguev1.PipelineRequest_Rollback{Rollback: request}}
	_, err := asked(ctx, c, wrapped, (*seguev1.PipelineResponse).GetRollback,
		func() (*seguev1.RollbackResponse, error) { return c.stub.Rollback(ctx, request) })
	return err
}

// parts is the answer to a query.
type parts interface {
	Recv() (*seguev1.QueryResponse, error)
}

// sendQuery begins a read: on a stream of its own, whose parts wait for their reader, or where the statement
// is known for short answers on the shared one, which costs less.
func (c *Client) sendQuery(ctx context.Context, request *seguev1.QueryRequest, short bool) (parts, error) {
	if short {
		p, err := c.pipe()
		if err != nil {
			return nil, err
		}
		if p != nil {
			wrapped := &seguev1.PipelineRequest{Call: &seguev1.PipelineRequest_Query{Query: request}}
			call, err := p.begin(ctx, wrapped)
			if err == nil {
				return newPipeParts(ctx, call), nil
			}
			if !isAbsent(err) {
				return nil, err
			}
		}
	}
	return c.stub.Query(ctx, request)
}

type pipeParts struct {
	ctx  context.Context
	call *pipeCall
	// stop keeps the end of the context from being looked for.
	stop func() bool
}

func newPipeParts(ctx context.Context, call *pipeCall) *pipeParts {
	// Whoever closes the rows early ends their context.
	return &pipeParts{ctx, call, context.AfterFunc(ctx, call.abandon)}
}

// Recv gives the next part, and behind the last one io.EOF.
func (p *pipeParts) Recv() (*seguev1.QueryResponse, error) {
	answer, err := p.call.receive(p.ctx)
	if err != nil {
		if p.ctx.Err() != nil && !errors.Is(err, io.EOF) {
			p.call.abandon()
			err = status.FromContextError(p.ctx.Err()).Err()
		}
		return nil, err
	}
	if failed := answer.GetStatus(); failed != nil {
		return nil, status.FromProto(failed).Err()
	}
	part := answer.GetQuery()
	if part.GetFooter() != nil {
		p.stop()
	}
	return part, nil
}
