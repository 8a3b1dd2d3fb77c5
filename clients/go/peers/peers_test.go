// Package peers_test runs pgx's own tests of its database/sql driver with this driver: run.
package peers_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	// Named, so that go.mod has the version whose tests are run.
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"segue.test/clients/go/internal/world"
	"segue.test/clients/go/segue"
)

var migration *world.Migration

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	servers, err := world.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = servers.Close() }()
	if migration, err = servers.Migration(nil, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// connector gives the driver's connections, but for DDL, which segue refuses: an operator would run it, on
// both databases, and so does it.
type connector struct{ *segue.Connector }

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	below, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &connection{below.(*segue.Conn)}, nil
}

type connection struct{ *segue.Conn }

var (
	isDDL = regexp.MustCompile(`(?is)^\s*(create|drop)\s`)
	// A table of a session, or of a test before; here it is made anew.
	temporary = regexp.MustCompile(`(?i)create (?:temporary )?table (\w+)`)
)

func (c *connection) ExecContext(ctx context.Context, query string, arguments []driver.NamedValue) (driver.Result, error) {
	if !isDDL.MatchString(query) {
		return c.Conn.ExecContext(ctx, query, arguments)
	}
	made := temporary.ReplaceAllString(query, "drop table if exists $1 cascade; create table $1")
	for _, side := range []string{"source", "target"} {
		if _, err := migration.Direct(side, made); err != nil {
			return nil, err
		}
	}
	return driver.RowsAffected(0), nil
}

// PrepareContext leads statements back to ExecContext.
func (c *connection) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	made, err := c.Conn.PrepareContext(ctx, query)
	if err != nil || !isDDL.MatchString(query) {
		return made, err
	}
	return &statement{made, c, query}, nil
}

type statement struct {
	driver.Stmt
	connection *connection
	query      string
}

func (s *statement) Exec([]driver.Value) (driver.Result, error) {
	return s.connection.ExecContext(context.Background(), s.query, nil)
}

func openDB(t testing.TB) *sql.DB {
	t.Helper()
	client, err := segue.Open(context.Background(), migration.URL())
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return sql.OpenDB(connector{client.Connector()})
}

func skipCockroachDB(testing.TB, *sql.DB, string) {}

func skipPostgreSQLVersionLessThan(testing.TB, *sql.DB, int64) {}

// testWithAllQueryExecModes: there is one.
func testWithAllQueryExecModes(t *testing.T, f func(t *testing.T, db *sql.DB)) {
	db := openDB(t)
	defer closeDB(t, db)
	f(t, db)
	ensureDBValid(t, db)
}

func TestTheDriverIsTheOneThatIsTested(t *testing.T) {
	if name := fmt.Sprintf("%T", openDB(t).Driver()); !strings.HasPrefix(name, "segue.") {
		t.Fatalf("the driver is a %s", name)
	}
}
