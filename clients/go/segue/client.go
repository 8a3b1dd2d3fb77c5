package segue

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	seguev1 "segue.test/clients/go/segue/v1"
)

const (
	// Answers are bounded by the sidecar's limits, not by this side's.
	receiveBytesMax = 1 << 30
	// A connection that went silent is noticed within half a minute.
	keepaliveTime    = 20 * time.Second
	keepaliveTimeout = 10 * time.Second
	reconnectMin     = 50 * time.Millisecond
	reconnectMax     = 2 * time.Second
	dialTimeout      = 5 * time.Second
)

// Client is a connection to a sidecar, over which any number of calls run at a time. It connects and
// connects again by itself.
type Client struct {
	config     Config
	connection *grpc.ClientConn
	stub       seguev1.SqlClient
	tokens     Tokens
	statements statements
	pipes      pipes
	closed     atomic.Bool
	db         func() *sql.DB
}

// Open makes a client by a URL (see [ParseURL]) and waits until the sidecar answers, for connect_timeout
// at most.
func Open(ctx context.Context, url string) (*Client, error) {
	config, err := ParseURL(url)
	if err != nil {
		return nil, err
	}
	client, err := NewClient(config)
	if err != nil {
		return nil, err
	}
	if _, err := client.Info(ctx); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return client, nil
}

// NewClient makes a client. It connects with the first call.
func NewClient(config Config) (*Client, error) {
	if config.Address == "" {
		return nil, errors.New("segue: the configuration has no address; expected host:port or the path of a socket")
	}
	transport := insecure.NewCredentials()
	if config.TLS != nil {
		transport = credentials.NewTLS(config.TLS.Clone())
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		// Which call may be repeated is decided here, not by a service configuration.
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		// It must not go to sleep and come back in the middle of a deadline.
		grpc.WithIdleTimeout(0),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(receiveBytesMax)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: reconnectMin, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMax},
			MinConnectTimeout: dialTimeout,
		}),
	}
	var target string
	if strings.HasPrefix(config.Address, "/") {
		path := config.Address
		target = "passthrough:///localhost"
		options = append(options, grpc.WithAuthority("localhost"),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			}))
	} else {
		target = "dns:///" + config.Address
	}
	connection, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, own("the address %q cannot be used: %v", config.Address, err)
	}
	client := &Client{config: config, connection: connection, stub: seguev1.NewSqlClient(connection)}
	client.db = sync.OnceValue(func() *sql.DB { return sql.OpenDB(client.Connector()) })
	return client, nil
}

// Close ends the connection. Calls that are under way fail, those of DB too.
func (c *Client) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	return c.connection.Close()
}

// DB gives a pool of database/sql over this client. Closing it leaves the client open.
func (c *Client) DB() *sql.DB { return c.db() }

// Tokens gives the consistency tokens that the client keeps.
func (c *Client) Tokens() *Tokens { return &c.tokens }

// Info tells the sidecar's version, features and limits, and where the migration stands.
func (c *Client) Info(ctx context.Context) (*seguev1.InfoResponse, error) {
	var answer *seguev1.InfoResponse
	err := c.repeat(ctx, Call{Method: "info"}, safe, func(ctx context.Context) (err error) {
		answer, err = c.stub.Info(ctx, &seguev1.InfoRequest{})
		return err
	})
	return answer, err
}

// Describe tells the types of a statement's parameters and columns as each database prepares it.
func (c *Client) Describe(ctx context.Context, query string) (*seguev1.DescribeResponse, error) {
	var answer *seguev1.DescribeResponse
	err := c.repeat(ctx, describe("describe", query), safe, func(ctx context.Context) (err error) {
		request := &seguev1.DescribeRequest{Statement: statement(query, nil)}
		answer, err = c.stub.Describe(ctx, request)
		return err
	})
	return answer, err
}

// ready waits until there is a connection.
func (c *Client) ready(ctx context.Context) error {
	if c.closed.Load() {
		return &Error{
			Status: codes.Canceled, Message: "the client is closed", Reason: "client", Outcome: OutcomeNotApplied,
			cause: sql.ErrConnDone,
		}
	}
	if c.connection.GetState() == connectivity.Ready {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, c.config.connectTimeout())
	defer cancel()
	for {
		state := c.connection.GetState()
		if state == connectivity.Ready {
			return nil
		}
		if state == connectivity.Shutdown {
			return c.ready(ctx)
		}
		c.connection.Connect()
		if c.connection.WaitForStateChange(limited, state) {
			continue
		}
		failed := &Error{
			Status: codes.Unavailable, Reason: "connection", Outcome: OutcomeNotApplied, Retryable: true,
			Message: "no connection to the sidecar at " + c.config.Address,
			Hint:    "see that segue serves there and that nothing is in the way; connect_timeout is how long is waited",
			cause:   ctx.Err(),
		}
		if failed.cause != nil {
			failed.Status = codes.DeadlineExceeded
			if errors.Is(failed.cause, context.Canceled) {
				failed.Status = codes.Canceled
			}
		}
		return failed
	}
}

// newKey makes an idempotency key that no one else makes.
func newKey() string {
	var random [16]byte
	// It never fails: crypto/rand ends the program where the system has no random numbers.
	_, _ = rand.Read(random[:])
	return "go-" + hex.EncodeToString(random[:])
}
