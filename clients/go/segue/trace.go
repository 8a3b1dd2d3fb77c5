package segue

import (
	"context"
	"sync/atomic"
)

// Call is what a [Tracer] is told of a call.
type Call struct {
	// Method is query, execute, batch, begin, commit, rollback, describe or info.
	Method string
	// Statement is the statement's text with its placeholders; empty where there is none.
	Statement string
	// Name is the name of a named statement.
	Name string
	// Address is the sidecar's.
	Address string
}

// Tracer makes spans of calls. The package segueotel, a module of its own, has one for OpenTelemetry.
type Tracer interface {
	// Start begins a span. It gives the W3C traceparent to send along, which may be empty, and what to
	// call at the span's end.
	Start(ctx context.Context, call Call) (traceparent string, end func(error))
}

var registered atomic.Pointer[Tracer]

// RegisterTracer sets the tracer of clients whose [Config] has none.
func RegisterTracer(tracer Tracer) { registered.Store(&tracer) }

func (c *Client) trace(ctx context.Context, call Call) (string, func(error)) {
	tracer := c.config.Tracer
	if tracer == nil {
		if found := registered.Load(); found != nil {
			tracer = *found
		}
	}
	if tracer == nil {
		traceparent, _ := ctx.Value(traceparentKey).(string)
		return traceparent, func(error) {}
	}
	call.Address = c.config.Address
	traceparent, end := tracer.Start(ctx, call)
	if traceparent == "" {
		traceparent, _ = ctx.Value(traceparentKey).(string)
	}
	return traceparent, end
}
