package segue_test

import (
	"context"
	"database/sql"
	"errors"
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
	commits  int
	answer   func(*seguev1.ExecuteRequest) (*seguev1.ExecuteResponse, error)
	// stop ends it, and every call that it has not answered.
	stop func()
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

func (s *sidecar) Commit(context.Context, *seguev1.CommitRequest) (*seguev1.CommitResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commits++
	return &seguev1.CommitResponse{WriteId: "w"}, nil
}

func fake(t *testing.T, answer func(*seguev1.ExecuteRequest) (*seguev1.ExecuteResponse, error)) (*sidecar, *segue.Client) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	must(t, err)
	made := &sidecar{answer: answer}
	server := grpc.NewServer()
	made.stop = server.Stop
	seguev1.RegisterSqlServer(server, made)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	config, err := segue.ParseURL("segue+unix://" + socket + "?connect_timeout=300ms")
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

// failure is what a sidecar answers where a call failed.
func failure(t *testing.T, code codes.Code, detail *seguev1.SqlError) error {
	t.Helper()
	made, err := status.New(code, "failed").WithDetails(detail)
	must(t, err)
	return made.Err()
}

// TestWhatFailsAfterTheCommitIsNotRunAgain: its writes would be there twice.
func TestWhatFailsAfterTheCommitIsNotRunAgain(t *testing.T) {
	passing := &segue.Error{Message: "it may pass", Retryable: true, Outcome: segue.OutcomeNotApplied}
	moved := &segue.Error{Message: "both sides", Reason: "refused.transaction_side", Outcome: segue.OutcomeNotApplied}
	const insert = "INSERT INTO x VALUES (1)"
	for _, after := range []*segue.Error{passing, moved} {
		for what, run := range map[string]func(context.Context, *segue.Client) error{
			"InTx, WithCommit": func(ctx context.Context, client *segue.Client) error {
				return client.InTx(ctx, segue.TxOptions{}, func(tx *segue.Tx) error {
					_, err := tx.Exec(segue.WithCommit(ctx), insert)
					return errors.Join(err, after)
				})
			},
			"InTx, Commit": func(ctx context.Context, client *segue.Client) error {
				return client.InTx(ctx, segue.TxOptions{}, func(tx *segue.Tx) error {
					_, err := tx.Exec(ctx, insert)
					return errors.Join(err, tx.Commit(ctx), after)
				})
			},
			"RunInTx, WithCommit": func(ctx context.Context, client *segue.Client) error {
				return segue.RunInTx(ctx, client.DB(), segue.TxOptions{}, func(tx *sql.Tx) error {
					_, err := tx.ExecContext(segue.WithCommit(ctx), insert)
					return errors.Join(err, after)
				})
			},
			"RunInTx, Commit": func(ctx context.Context, client *segue.Client) error {
				return segue.RunInTx(ctx, client.DB(), segue.TxOptions{}, func(tx *sql.Tx) error {
					_, err := tx.ExecContext(ctx, insert)
					return errors.Join(err, tx.Commit(), after)
				})
			},
		} {
			server, client := fake(t, func(*seguev1.ExecuteRequest) (*seguev1.ExecuteResponse, error) {
				return &seguev1.ExecuteResponse{TransactionId: "t", WriteId: "w"}, nil
			})
			if err := run(deadline(t), client); !errors.Is(err, after) {
				t.Errorf("%s: found %v", what, err)
			}
			equal(t, what+": runs", len(server.executes), 1)
		}
	}
}

// TestATransactionWhoseCommitMayHaveTakenEffectIsNotRunAgain: also where the function hides that error
// behind another.
func TestATransactionWhoseCommitMayHaveTakenEffectIsNotRunAgain(t *testing.T) {
	passing := &segue.Error{Message: "it may pass", Retryable: true, Outcome: segue.OutcomeNotApplied}
	for _, given := range []struct {
		what  string
		err   error
		calls int
	}{
		{"lost", status.Error(codes.Unavailable, "lost"), 1},
		{"applied", failure(t, codes.Internal, &seguev1.SqlError{Outcome: seguev1.Outcome_OUTCOME_APPLIED}), 1},
		{"not applied", failure(t, codes.Aborted, &seguev1.SqlError{Outcome: seguev1.Outcome_OUTCOME_NOT_APPLIED}), 2},
	} {
		for _, pooled := range []bool{false, true} {
			server, client := fake(t, func(*seguev1.ExecuteRequest) (*seguev1.ExecuteResponse, error) { return nil, given.err })
			ctx, options := deadline(t), segue.TxOptions{Attempts: 2}
			var err error
			if pooled {
				err = segue.RunInTx(ctx, client.DB(), options, func(tx *sql.Tx) error {
					_, _ = tx.ExecContext(segue.WithCommit(ctx), "UPDATE x SET y = 1")
					return passing
				})
			} else {
				err = client.InTx(ctx, options, func(tx *segue.Tx) error {
					_, _ = tx.Exec(segue.WithCommit(ctx), "UPDATE x SET y = 1")
					return passing
				})
			}
			if !errors.Is(err, passing) {
				t.Errorf("%s: found %v", given.what, err)
			}
			equal(t, fmt.Sprintf("%s, pooled %t: calls", given.what, pooled), len(server.executes), given.calls)
		}
	}
}

// TestAnUnknownOutcomeStaysSoUnlessARepeatSettlesIt: the first attempt's answer is lost, and the repeat fails.
func TestAnUnknownOutcomeStaysSoUnlessARepeatSettlesIt(t *testing.T) {
	none := seguev1.Outcome_OUTCOME_NOT_APPLIED
	for _, given := range []struct {
		what     string
		repeat   error
		expected segue.Outcome
		calls    int
	}{
		{"no sidecar is there", nil, segue.OutcomeUnknown, 1},
		{"refused by segue", failure(t, codes.FailedPrecondition, &seguev1.SqlError{Outcome: none, Reason: "refused.x"}), segue.OutcomeUnknown, 2},
		{"refused for its parameter", failure(t, codes.InvalidArgument, &seguev1.SqlError{Outcome: none, Reason: "invalid.parameter"}), segue.OutcomeUnknown, 2},
		{"refused for its key", failure(t, codes.FailedPrecondition, &seguev1.SqlError{Outcome: none, Reason: "idempotency.no_schema"}), segue.OutcomeUnknown, 2},
		{"stopped", failure(t, codes.Canceled, &seguev1.SqlError{Outcome: none, Sqlstate: "57014"}), segue.OutcomeUnknown, 2},
		{"applied", failure(t, codes.Internal, &seguev1.SqlError{Outcome: seguev1.Outcome_OUTCOME_APPLIED}), segue.OutcomeApplied, 2},
		{"refused by the database", failure(t, codes.FailedPrecondition, &seguev1.SqlError{Outcome: none, Sqlstate: "23514"}), segue.OutcomeNotApplied, 2},
	} {
		var server *sidecar
		calls := 0
		server, client := fake(t, func(*seguev1.ExecuteRequest) (*seguev1.ExecuteResponse, error) {
			calls++
			switch {
			case given.repeat == nil:
				go server.stop()
				return nil, status.Error(codes.Unavailable, "lost")
			case calls == 1:
				return nil, status.Error(codes.Unavailable, "lost")
			}
			return nil, given.repeat
		})
		_, err := client.Exec(deadline(t), "UPDATE x SET y = $1", 1)
		var failed *segue.Error
		if !errors.As(err, &failed) {
			t.Fatalf("%s: found %v", given.what, err)
		}
		equal(t, given.what+": outcome", failed.Outcome, given.expected)
		equal(t, given.what+": may be run again", segue.IsRetryable(err), false)
		equal(t, given.what+": calls", calls, given.calls)
	}
}
