package segueotel_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"segue.test/clients/go/segue"
	"segue.test/clients/go/segueotel"
)

func TestACallIsAChildOfTheCallersSpan(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(recorder))
	ctx, parent := provider.Tracer("application").Start(context.Background(), "request")
	tracer := segueotel.Tracer{Provider: provider}
	traceparent, end := tracer.Start(ctx, segue.Call{Method: "execute", Statement: "SELECT $1", Address: "db:7400"})
	if !strings.Contains(traceparent, parent.SpanContext().TraceID().String()) {
		t.Errorf("traceparent %q is not of the caller's trace", traceparent)
	}
	end(errors.Join(&segue.Error{Code: "23505", Message: "there already"}))
	spans := recorder.Ended()
	if len(spans) != 1 || spans[0].Parent().SpanID() != parent.SpanContext().SpanID() {
		t.Fatalf("spans: %v", spans)
	}
	found := attribute.NewSet(spans[0].Attributes()...)
	for name, expected := range map[attribute.Key]string{
		"db.system.name": "postgresql", "db.operation.name": "execute", "db.query.text": "SELECT $1",
		"server.address": "db", "server.port": "7400", "db.response.status_code": "23505", "error.type": "23505",
	} {
		value, _ := found.Value(name)
		if value.String() != expected {
			t.Errorf("%s: found %q, expected %q", name, value.String(), expected)
		}
	}
	if !strings.Contains(traceparent, spans[0].SpanContext().SpanID().String()) {
		t.Errorf("traceparent %q is not that of the span", traceparent)
	}
}

func TestWithoutAProviderNothingIsSent(t *testing.T) {
	traceparent, end := segueotel.Tracer{}.Start(context.Background(), segue.Call{Method: "query"})
	if traceparent != "" {
		t.Errorf("found %q", traceparent)
	}
	end(nil)
}
