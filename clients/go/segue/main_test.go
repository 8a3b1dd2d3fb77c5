package segue_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"segue.test/clients/go/internal/world"
	"segue.test/clients/go/segue"
)

// limit bounds each call of a test, so that a fault is an error and not a test that hangs.
const limit = 60 * time.Second

var setup = []string{
	"CREATE TYPE mood AS ENUM ('sad', 'ok', 'very happy')",
	"CREATE TYPE pair AS (a int, b text)",
	"CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
	`CREATE TABLE account (id bigint PRIMARY KEY, balance bigint NOT NULL,
		CONSTRAINT balance_not_negative CHECK (balance >= 0))`,
	"CREATE TABLE note (id text PRIMARY KEY, body text, amount numeric, data jsonb, at timestamptz, day date, raw bytea, tags text[], ok boolean, size float8)",
	"INSERT INTO account SELECT i, 100 FROM generate_series(1, 50) AS i",
}

var queries = map[string]string{
	"orders.sql": "-- name: account_by_id :one\nSELECT id, balance FROM account WHERE id = $1;\n\n" +
		"-- name: deposit :execrows\nUPDATE account SET balance = balance + $2 WHERE id = $1;\n",
}

var (
	servers *world.Servers
	shared  *world.Migration
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if servers, err = world.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = servers.Close() }()
	if shared, err = servers.Migration(setup, queries); err == nil {
		err = shared.Enter("shadow_read")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// open gives a client of the shared sidecar, with more in its URL.
func open(t *testing.T, options ...string) *segue.Client {
	t.Helper()
	client, err := segue.Open(deadline(t), shared.URL()+"?"+strings.Join(options, "&"))
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// pool gives a pool of database/sql.
func pool(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("segue", shared.URL())
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, what string, found, expected T) {
	t.Helper()
	if found != expected {
		t.Errorf("%s: found %#v, expected %#v", what, found, expected)
	}
}

// direct gives what the source holds, without segue.
func direct(t *testing.T, query string) string {
	t.Helper()
	text, err := shared.Direct("source", query)
	must(t, err)
	return text
}

// one runs a query of one row and reads it.
func one(t *testing.T, client *segue.Client, dest []any, query string, arguments ...any) {
	t.Helper()
	rows, err := client.Query(deadline(t), query, arguments...)
	must(t, err)
	defer func() { _ = rows.Close() }()
	if !rows.Next() {
		t.Fatalf("%s: no row: %v", query, rows.Err())
	}
	must(t, rows.Scan(dest...))
	if rows.Next() {
		t.Fatalf("%s: more than one row", query)
	}
	must(t, rows.Err())
}
