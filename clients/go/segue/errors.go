package segue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	seguev1 "segue.test/clients/go/segue/v1"
)

// Outcome is what is known about the effect of a call that failed.
type Outcome int

const (
	// OutcomeUnknown says that no one can tell. Look before you repeat the call.
	OutcomeUnknown Outcome = iota
	// OutcomeNotApplied says that nothing was changed.
	OutcomeNotApplied
	// OutcomeApplied says that the change was committed; only the answer could not be given.
	OutcomeApplied
)

// String gives the outcome's name: unknown, not_applied, applied.
func (o Outcome) String() string {
	switch o {
	case OutcomeNotApplied:
		return "not_applied"
	case OutcomeApplied:
		return "applied"
	default:
		return "unknown"
	}
}

// Error is a call that failed. [errors.As] finds it in what every function of this package and of
// database/sql gives; [errors.Is] finds [context.Canceled] and [context.DeadlineExceeded] in it.
type Error struct {
	// Status is the gRPC code.
	Status codes.Code
	// Code is the SQLSTATE, five characters; empty where the error did not come from a database.
	Code string
	// Message says what went wrong.
	Message string
	// Detail is the database's DETAIL.
	Detail string
	// Hint is the database's HINT, or what to do.
	Hint string
	// Position is the character in the statement, from 1; 0 where it is not known.
	Position int
	// Constraint, Schema, Table and Column are what the database named, if any.
	Constraint, Schema, Table, Column string
	// Side is the database that the error came from: source, target, or empty.
	Side string
	// Reason is the stable name of an error of segue's own: "refused.ddl".
	Reason string
	// Retryable says whether the same call may succeed when it is made again; inside a transaction, the
	// whole transaction.
	Retryable bool
	// Outcome says whether the call had an effect.
	Outcome Outcome
	// RetryDelay is how long to wait before that.
	RetryDelay time.Duration

	token string
	// lost says that no answer came, so that the error is this side's own.
	lost  bool
	cause error
}

// Error gives one line.
func (e *Error) Error() string {
	var text strings.Builder
	text.WriteString("segue: ")
	if e.Side != "" {
		text.WriteString(e.Side + ": ")
	}
	text.WriteString(e.Message)
	switch {
	case e.Code != "":
		fmt.Fprintf(&text, " (SQLSTATE %s)", e.Code)
	case e.Reason != "":
		fmt.Fprintf(&text, " (%s)", e.Reason)
	}
	if e.Hint != "" {
		text.WriteString("; " + e.Hint)
	}
	return text.String()
}

// SQLState gives Code, under the name that other drivers of PostgreSQL have for it.
func (e *Error) SQLState() string { return e.Code }

// Unwrap gives what caused the error on this side, such as [context.Canceled].
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus lets [status.FromError] see the code.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Status, e.Message) }

// repeatable says that the whole call had no effect and may succeed when it is made again.
func (e *Error) repeatable() bool { return e.Retryable && e.Outcome == OutcomeNotApplied }

// IsRetryable says whether a transaction that failed with err may be run again: nothing of it was
// applied, and it may succeed the next time.
func IsRetryable(err error) bool {
	var failed *Error
	return errors.As(err, &failed) && failed.repeatable()
}

// own makes an error of this side's before anything was sent.
func own(format string, arguments ...any) *Error {
	return &Error{
		Status: codes.InvalidArgument, Message: fmt.Sprintf(format, arguments...), Reason: "client",
		Outcome: OutcomeNotApplied,
	}
}

// fromStatus reads what a call failed with.
func fromStatus(ctx context.Context, err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	read := fromProto(status.Convert(err))
	// The stream's own end and the caller's: the caller's is what it asked for.
	if ended := ctx.Err(); ended != nil && (read.lost || read.Status == codes.DeadlineExceeded || read.Status == codes.Canceled) {
		read.cause = ended
	}
	return read
}

func fromProto(found *status.Status) *Error {
	made := &Error{Status: found.Code(), Message: found.Message(), lost: true}
	for _, detail := range found.Details() {
		switch detail := detail.(type) {
		case *seguev1.SqlError:
			made.read(detail)
		case *errdetails.RetryInfo:
			made.RetryDelay = detail.GetRetryDelay().AsDuration()
		}
	}
	if made.lost && made.Reason == "" {
		made.Reason = "connection"
		if made.Status == codes.Unimplemented {
			made.lost, made.Outcome = false, OutcomeNotApplied
		}
	}
	switch made.Status {
	case codes.DeadlineExceeded:
		made.cause = context.DeadlineExceeded
	case codes.Canceled:
		made.cause = context.Canceled
	}
	return made
}

func (e *Error) read(detail *seguev1.SqlError) {
	e.lost = false
	e.Code, e.Reason = detail.GetSqlstate(), detail.GetReason()
	e.Message, e.Detail, e.Hint = detail.GetMessage(), detail.GetDetail(), detail.GetHint()
	e.Position = int(detail.GetPosition())
	e.Constraint, e.Schema = detail.GetConstraint(), detail.GetSchema()
	e.Table, e.Column = detail.GetTable(), detail.GetColumn()
	e.Side = sideName(detail.GetSide())
	e.Retryable = detail.GetRetryable()
	e.token = detail.GetConsistencyToken()
	switch detail.GetOutcome() {
	case seguev1.Outcome_OUTCOME_NOT_APPLIED:
		e.Outcome = OutcomeNotApplied
	case seguev1.Outcome_OUTCOME_APPLIED:
		e.Outcome = OutcomeApplied
	default:
		e.Outcome = OutcomeUnknown
	}
}

func sideName(side seguev1.Side) string {
	switch side {
	case seguev1.Side_SIDE_SOURCE:
		return "source"
	case seguev1.Side_SIDE_TARGET:
		return "target"
	default:
		return ""
	}
}
