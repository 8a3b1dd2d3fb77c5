// Package segueotel makes OpenTelemetry spans of the calls of segue, and sends the trace context along, so
// that the sidecar's spans are children of the application's. Importing it is enough:
//
//	import _ "segue.test/clients/go/segueotel"
package segueotel

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"segue.test/clients/go/segue"
)

const scope = "segue.test/clients/go/segueotel"

func init() { segue.RegisterTracer(Tracer{}) }

// Tracer is a [segue.Tracer] that makes spans of OpenTelemetry.
type Tracer struct {
	// Provider makes the spans; nil stands for the global one.
	Provider trace.TracerProvider
}

// Start begins a client span with the stable attributes of database calls.
func (t Tracer) Start(ctx context.Context, call segue.Call) (string, func(error)) {
	provider := t.Provider
	if provider == nil {
		provider = otel.GetTracerProvider()
	}
	ctx, span := provider.Tracer(scope).Start(ctx, "segue "+call.Method,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes(call)...))
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier.Get("traceparent"), func(err error) { end(span, err) }
}

func attributes(call segue.Call) []attribute.KeyValue {
	made := []attribute.KeyValue{
		attribute.String("db.system.name", "postgresql"), attribute.String("db.operation.name", call.Method),
	}
	if call.Statement != "" {
		// It has placeholders for its values.
		made = append(made, attribute.String("db.query.text", call.Statement))
	}
	if call.Name != "" {
		made = append(made, attribute.String("db.stored_procedure.name", call.Name))
	}
	if strings.HasPrefix(call.Address, "/") {
		return append(made, attribute.String("server.address", call.Address))
	}
	if host, port, err := net.SplitHostPort(call.Address); err == nil {
		made = append(made, attribute.String("server.address", host))
		if number, err := strconv.Atoi(port); err == nil {
			made = append(made, attribute.Int("server.port", number))
		}
	}
	return made
}

func end(span trace.Span, err error) {
	defer span.End()
	if err == nil {
		return
	}
	kind := "unknown"
	var failed *segue.Error
	if errors.As(err, &failed) {
		if kind = failed.Reason; kind == "" {
			kind = failed.Code
		}
		if failed.Code != "" {
			span.SetAttributes(attribute.String("db.response.status_code", failed.Code))
		}
	}
	span.SetAttributes(attribute.String("error.type", kind))
	span.SetStatus(codes.Error, err.Error())
}
