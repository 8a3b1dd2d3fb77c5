package segue

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"time"
)

// driverName is what database/sql knows the driver by.
const driverName = "segue"

func init() { sql.Register(driverName, Driver{}) }

// Driver is the driver that database/sql knows as "segue".
type Driver struct{}

// Open makes a connection by a URL; database/sql calls OpenConnector instead.
func (d Driver) Open(url string) (driver.Conn, error) {
	connector, err := d.OpenConnector(url)
	if err != nil {
		return nil, err
	}
	return connector.Connect(context.Background())
}

// OpenConnector reads a URL (see [ParseURL]). All connections of one pool share one client, its connection
// to the sidecar and its consistency tokens.
func (Driver) OpenConnector(url string) (driver.Connector, error) {
	config, err := ParseURL(url)
	if err != nil {
		return nil, err
	}
	client, err := NewClient(config)
	if err != nil {
		return nil, err
	}
	return &Connector{client: client, owned: true}, nil
}

// Connector makes the connections of a pool. [Client.Connector] gives one.
type Connector struct {
	client *Client
	owned  bool
}

// Connector gives what [sql.OpenDB] takes.
func (c *Client) Connector() *Connector { return &Connector{client: c} }

// Client gives the client below the pool: sql.DB.Driver does not lead there, [Raw] does.
func (c *Connector) Client() *Client { return c.client }

// Connect gives a connection. It sends nothing: all share one to the sidecar.
func (c *Connector) Connect(ctx context.Context) (driver.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &Conn{client: c.client}, nil
}

// Driver gives the driver.
func (c *Connector) Driver() driver.Driver { return Driver{} }

// Close ends the client where the pool made it.
func (c *Connector) Close() error {
	if !c.owned {
		return nil
	}
	return c.client.Close()
}

// Raw gives the client below a pool, for what database/sql has no words for.
func Raw(ctx context.Context, db *sql.DB) (*Client, error) {
	connection, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	var client *Client
	err = connection.Raw(func(below any) error {
		found, ok := below.(*Conn)
		if !ok {
			return own("the pool is not one of segue: its connections are %T", below)
		}
		client = found.client
		return nil
	})
	return client, errors.Join(err, connection.Close())
}

// Conn is one connection of a pool: the place of a transaction.
type Conn struct {
	client *Client
	tx     *transaction
}

var (
	_ driver.Connector                      = (*Connector)(nil)
	_ io.Closer                             = (*Connector)(nil)
	_ driver.DriverContext                  = Driver{}
	_ driver.Pinger                         = (*Conn)(nil)
	_ driver.SessionResetter                = (*Conn)(nil)
	_ driver.Validator                      = (*Conn)(nil)
	_ driver.QueryerContext                 = (*Conn)(nil)
	_ driver.ExecerContext                  = (*Conn)(nil)
	_ driver.ConnPrepareContext             = (*Conn)(nil)
	_ driver.ConnBeginTx                    = (*Conn)(nil)
	_ driver.NamedValueChecker              = (*Conn)(nil)
	_ driver.StmtQueryContext               = (*prepared)(nil)
	_ driver.StmtExecContext                = (*prepared)(nil)
	_ driver.RowsColumnTypeDatabaseTypeName = (*driverRows)(nil)
	_ driver.RowsColumnTypeScanType         = (*driverRows)(nil)
	_ driver.RowsColumnTypeLength           = (*driverRows)(nil)
	_ driver.RowsColumnTypePrecisionScale   = (*driverRows)(nil)
)

// Ping runs a read: the sidecar answers, and a database behind it.
func (c *Conn) Ping(ctx context.Context) error {
	rows, err := c.client.Query(ctx, "SELECT 1")
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
	}
	return rows.Err()
}

// ResetSession makes the connection ready for its next user. A transaction that was left is rolled back.
func (c *Conn) ResetSession(ctx context.Context) error {
	if c.client.closed.Load() {
		// Nothing was sent.
		return driver.ErrBadConn
	}
	return c.leaveTx(ctx)
}

// IsValid says whether the pool may keep the connection. What happens to the connection to the sidecar
// does not matter: it comes back by itself.
func (c *Conn) IsValid() bool { return !c.client.closed.Load() }

// Close rolls back what is open.
func (c *Conn) Close() error { return c.leaveTx(context.Background()) }

func (c *Conn) leaveTx(ctx context.Context) error {
	left := c.tx
	c.tx = nil
	if left == nil || c.client.closed.Load() {
		return nil
	}
	return left.rollback(ctx)
}

// Prepare keeps the statement's text; the sidecar prepares statements once for all.
func (c *Conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// PrepareContext keeps the statement's text; the sidecar prepares statements once for all.
func (c *Conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &prepared{conn: c, query: query}, nil
}

// Begin makes a transaction with the database's defaults.
func (c *Conn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx makes a transaction. Nothing is sent: its first statement begins it.
func (c *Conn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	if c.client.closed.Load() {
		return nil, driver.ErrBadConn
	}
	t, err := c.client.transaction(TxOptions{
		Isolation: sql.IsolationLevel(options.Isolation), ReadOnly: options.ReadOnly,
	})
	if err != nil {
		return nil, err
	}
	c.tx = t
	if begun, wanted := ctx.Value(begunKey).(*begun); wanted {
		begun.transaction = t
	}
	return &driverTx{conn: c, transaction: t, ctx: ctx}, nil
}

// begun tells [RunInTx] which transaction database/sql has made for it.
type begun struct{ transaction *transaction }

type driverTx struct {
	conn        *Conn
	transaction *transaction
	// ctx is that of BeginTx: the driver's Commit has none of its own.
	ctx context.Context
}

func (t *driverTx) Commit() error {
	t.conn.tx = nil
	return t.transaction.commit(t.ctx)
}

func (t *driverTx) Rollback() error {
	t.conn.tx = nil
	return t.transaction.rollback(t.ctx)
}

// CheckNamedValue takes every value that can be a parameter; whether it can is seen at the call.
func (c *Conn) CheckNamedValue(given *driver.NamedValue) error {
	if given.Name != "" {
		return own("parameter %q has a name; statements have $1, $2, … only", given.Name)
	}
	made, err := encode(given.Value)
	if err != nil {
		return own("parameter $%d: %v", given.Ordinal, err)
	}
	given.Value = made
	return nil
}

func plain(given []driver.NamedValue) []any {
	arguments := make([]any, len(given))
	for at, argument := range given {
		arguments[at] = argument.Value
	}
	return arguments
}

// QueryContext runs a statement that gives rows.
func (c *Conn) QueryContext(ctx context.Context, query string, arguments []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.client.either(ctx, c.tx, query, plain(arguments))
	if err != nil {
		return nil, err
	}
	return &driverRows{rows: rows}, nil
}

// ExecContext runs a statement.
func (c *Conn) ExecContext(ctx context.Context, query string, arguments []driver.NamedValue) (driver.Result, error) {
	answer, err := c.client.execute(ctx, c.tx, query, plain(arguments))
	if err != nil {
		return nil, err
	}
	return driver.RowsAffected(answer.GetResult().GetAffectedRows()), nil
}

// prepared is a statement's text.
type prepared struct {
	conn  *Conn
	query string
}

func (p *prepared) Close() error { return nil }

// NumInput leaves the counting to the sidecar.
func (p *prepared) NumInput() int { return -1 }

func (p *prepared) CheckNamedValue(given *driver.NamedValue) error {
	return p.conn.CheckNamedValue(given)
}

func (p *prepared) Exec(arguments []driver.Value) (driver.Result, error) {
	return p.ExecContext(context.Background(), numbered(arguments))
}

func (p *prepared) Query(arguments []driver.Value) (driver.Rows, error) {
	return p.QueryContext(context.Background(), numbered(arguments))
}

func numbered(arguments []driver.Value) []driver.NamedValue {
	made := make([]driver.NamedValue, len(arguments))
	for at, argument := range arguments {
		made[at] = driver.NamedValue{Ordinal: at + 1, Value: argument}
	}
	return made
}

func (p *prepared) ExecContext(ctx context.Context, arguments []driver.NamedValue) (driver.Result, error) {
	return p.conn.ExecContext(ctx, p.query, arguments)
}

func (p *prepared) QueryContext(ctx context.Context, arguments []driver.NamedValue) (driver.Rows, error) {
	return p.conn.QueryContext(ctx, p.query, arguments)
}

type driverRows struct {
	rows   *Rows
	values []any
}

func (r *driverRows) Columns() []string {
	names := make([]string, len(r.rows.columns))
	for at, column := range r.rows.columns {
		names[at] = column.Name
	}
	return names
}

func (r *driverRows) Close() error { return r.rows.Close() }

func (r *driverRows) Next(dest []driver.Value) error {
	if r.values == nil {
		r.values = make([]any, len(dest))
	}
	if err := r.rows.next(r.values); err != nil {
		return err
	}
	for at, value := range r.values {
		dest[at] = value
	}
	return nil
}

func (r *driverRows) ColumnTypeDatabaseTypeName(at int) string {
	return strings.ToUpper(r.rows.columns[at].Type)
}

func (r *driverRows) ColumnTypeScanType(at int) reflect.Type {
	switch r.rows.columns[at].OID {
	case oidBool:
		return reflect.TypeFor[bool]()
	case oidInt2, oidInt4, oidInt8, oidOid:
		return reflect.TypeFor[int64]()
	case oidFloat4, oidFloat8:
		return reflect.TypeFor[float64]()
	case oidTimestamp, oidTimestampTZ, oidDate:
		return reflect.TypeFor[time.Time]()
	case oidBytea, oidJSON, oidJSONB:
		return reflect.TypeFor[[]byte]()
	default:
		return reflect.TypeFor[string]()
	}
}

// modifierHead stands before the length, or precision and scale, in a type modifier.
const modifierHead = 4

func (r *driverRows) ColumnTypeLength(at int) (int64, bool) {
	column := r.rows.columns[at]
	switch column.OID {
	case oidText, oidBytea:
		return math.MaxInt64, true
	case oidVarchar, oidBpchar:
		if column.Modifier < modifierHead {
			return math.MaxInt64, true
		}
		return int64(column.Modifier - modifierHead), true
	case oidBit, oidVarbit:
		return int64(max(column.Modifier, 0)), column.Modifier >= 0
	default:
		return 0, false
	}
}

func (r *driverRows) ColumnTypePrecisionScale(at int) (int64, int64, bool) {
	column := r.rows.columns[at]
	if column.OID != oidNumeric || column.Modifier < modifierHead {
		return 0, 0, false
	}
	modifier := int64(column.Modifier - modifierHead)
	// The scale has eleven bits and a sign.
	return modifier >> 16 & 0xFFFF, (modifier&0x7FF ^ 1024) - 1024, true
}
