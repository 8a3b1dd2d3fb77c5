package segue_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"segue.test/clients/go/segue"
	seguev1 "segue.test/clients/go/segue/v1"
)

// sidecar is one that only notes what it is sent, on a Unix socket.
type sidecar struct {
	seguev1.UnimplementedSqlServer
	mu       sync.Mutex
	metadata metadata.MD
	deadline time.Duration
	executes []*seguev1.ExecuteRequest
	answer   func(*seguev1.ExecuteRequest) (*seguev1.ExecuteResponse, error)
}

func (s *sidecar) Execute(ctx context.Context, request *seguev1.ExecuteRequest) (*seguev1.ExecuteResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metadata, _ = metadata.FromIncomingContext(ctx)
	if until, given := ctx.Deadline(); given {
		s.deadline = time.Until(until)
	}
	s.executes = append(s.executes, request)
	return s.answer(request)
}

func fake(t *testing.T, answer func(*seguev1.ExecuteRequest) (*seguev1.ExecuteResponse, error)) (*sidecar, *segue.Client) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	must(t, err)
	made := &sidecar{answer: answer}
	server := grpc.NewServer()
	seguev1.RegisterSqlServer(server, made)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	config, err := segue.ParseURL("segue+unix://" + socket)
	must(t, err)
	client, err := segue.NewClient(config)
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return made, client
}

func TestDeadlineAndTraceContextAreSentAlong(t *testing.T) {
	server, client := fake(t, func(*seguev1.ExecuteRequest) (*seguev1.ExecuteResponse, error) {
		return &seguev1.ExecuteResponse{}, nil
	})
	const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	ctx, cancel := context.WithTimeout(segue.WithTraceparent(t.Context(), traceparent), 20*time.Second)
	defer cancel()
	_, err := client.Exec(ctx, "UPDATE x SET y = 1")
	must(t, err)
	equal(t, "traceparent", fmt.Sprint(server.metadata.Get("traceparent")), "["+traceparent+"]")
	if server.deadline <= 0 || server.deadline > 20*time.Second {
		t.Errorf("deadline in %s", server.deadline)
	}
	equal(t, "has a key", server.executes[0].GetIdempotencyKey() != "", true)
}

func TestAnAnswersTokenReplacesWhatItsCallBrought(t *testing.T) {
	number := 0
	server, client := fake(t, func(*seguev1.ExecuteRequest) (*seguev1.ExecuteResponse, error) {
		number++
		if number == 4 {
			return nil, status.Error(codes.InvalidArgument, "an error without details")
		}
		if number == 6 {
			return &seguev1.ExecuteResponse{}, nil
		}
		return &seguev1.ExecuteResponse{ConsistencyToken: fmt.Sprint(number)}, nil
	})
	brought := func() []string { return server.executes[len(server.executes)-1].GetConsistencyTokens() }
	for _, expected := range [][]string{nil, {"1"}, {"2"}, {"3"}, {"3"}, {"5"}, nil} {
		_, _ = client.Exec(deadline(t), "UPDATE x SET y = 1")
		if !slices.Equal(brought(), expected) {
			t.Errorf("call %d brought %v, expected %v", number, brought(), expected)
		}
	}
	// What a context has of its own stays apart.
	var tokens segue.Tokens
	tokens.Add("own", "other")
	_, err := client.Exec(segue.WithTokens(deadline(t), &tokens), "UPDATE x SET y = 1")
	must(t, err)
	if !slices.Equal(brought(), []string{"own", "other"}) || !slices.Equal(tokens.List(), []string{"8"}) {
		t.Errorf("brought %v, kept %v", brought(), tokens.List())
	}
}

// TestOnlyWhatHadNoEffectIsRepeated answers with each kind of error once.
func TestOnlyWhatHadNoEffectIsRepeated(t *testing.T) {
	failed := func(outcome seguev1.Outcome, retryable bool) error {
		made, err := status.New(codes.Aborted, "failed").WithDetails(&seguev1.SqlError{Message: "failed", Outcome: outcome, Retryable: retryable})
		must(t, err)
		return made.Err()
	}
	for _, given := range []struct {
		what  string
		err   error
		key   bool
		calls int
	}{
		{"not applied, retryable", failed(seguev1.Outcome_OUTCOME_NOT_APPLIED, true), false, 2},
		{"not applied, not retryable", failed(seguev1.Outcome_OUTCOME_NOT_APPLIED, false), true, 1},
		{"unknown, retryable, with a key", failed(seguev1.Outcome_OUTCOME_UNKNOWN, true), true, 2},
		{"unknown, retryable, without a key", failed(seguev1.Outcome_OUTCOME_UNKNOWN, true), false, 1},
		{"not stated, without a key", failed(seguev1.Outcome_OUTCOME_UNSPECIFIED, true), false, 1},
		{"applied", failed(seguev1.Outcome_OUTCOME_APPLIED, true), true, 1},
		{"lost, with a key", status.Error(codes.Unavailable, "lost"), true, 2},
		{"lost, without a key", status.Error(codes.Unavailable, "lost"), false, 1},
	} {
		calls := 0
		server, client := fake(t, func(*seguev1.ExecuteRequest) (*seguev1.ExecuteResponse, error) {
			calls++
			if calls == 1 {
				return nil, given.err
			}
			return &seguev1.ExecuteResponse{}, nil
		})
		ctx := deadline(t)
		if !given.key {
			ctx = segue.WithIdempotencyKey(ctx, "")
		}
		_, err := client.Exec(ctx, "UPDATE x SET y = 1")
		equal(t, given.what+": calls", calls, given.calls)
		equal(t, given.what+": failed", err != nil, given.calls == 1)
		if calls == 2 {
			equal(t, given.what+": the same key", server.executes[0].GetIdempotencyKey(), server.executes[1].GetIdempotencyKey())
		}
	}
}
