package segue_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"reflect"
	"strconv"
	"testing"
	"time"

	"segue.test/clients/go/segue"
)

func TestAPoolReadsAndWrites(t *testing.T) {
	db, ctx := pool(t), deadline(t)
	must(t, db.PingContext(ctx))
	done, err := db.ExecContext(ctx, "INSERT INTO note (id, body, amount, at) VALUES ($1, $2, $3, $4)", "pool", "it's", "12.50", time.Unix(0, 0))
	must(t, err)
	count, err := done.RowsAffected()
	must(t, err)
	equal(t, "rows affected", count, 1)
	if _, err := done.LastInsertId(); err == nil {
		t.Error("there is no last id")
	}
	var body, amount string
	var at time.Time
	must(t, db.QueryRowContext(ctx, "SELECT body, amount, at FROM note WHERE id = $1", "pool").Scan(&body, &amount, &at))
	equal(t, "body", body, "it's")
	equal(t, "amount", amount, "12.50")
	equal(t, "at", at.UnixMicro(), 0)
	// A write whose rows are read is one call as well.
	must(t, db.QueryRowContext(ctx, "UPDATE note SET body = body || $1 WHERE id = $2 RETURNING body", "!", "pool").Scan(&body))
	equal(t, "returned", body, "it's!")
	// It begins like a read and writes.
	must(t, db.QueryRowContext(ctx, "WITH gone AS (DELETE FROM note WHERE id = $1 RETURNING body) SELECT body FROM gone", "pool").Scan(&body))
	equal(t, "rows left", direct(t, "SELECT count(*) FROM note WHERE id = 'pool'"), "0")
	if err := db.QueryRowContext(ctx, "SELECT body FROM note WHERE id = 'none'").Scan(&body); !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("found %v", err)
	}
	statement, err := db.PrepareContext(ctx, "SELECT $1::int + 1")
	must(t, err)
	defer func() { _ = statement.Close() }()
	for given := range 3 {
		var found int
		must(t, statement.QueryRowContext(ctx, given).Scan(&found))
		equal(t, "next", found, given+1)
	}
	if _, err := db.ExecContext(ctx, "SELECT $1", sql.Named("x", 1)); err == nil {
		t.Error("parameters have no names")
	}
}

func TestATransactionCommitsOrRollsBack(t *testing.T) {
	db, ctx := pool(t), deadline(t)
	tx, err := db.BeginTx(ctx, nil)
	must(t, err)
	_, err = tx.ExecContext(ctx, "INSERT INTO note (id, amount) VALUES ('tx', $1)", "1.5")
	must(t, err)
	var id string
	must(t, tx.QueryRowContext(ctx, "SELECT id FROM note WHERE id = $1", "tx").Scan(&id))
	equal(t, "seen by others", direct(t, "SELECT count(*) FROM note WHERE id = 'tx'"), "0")
	must(t, tx.Commit())
	equal(t, "committed", direct(t, "SELECT count(*) FROM note WHERE id = 'tx'"), "1")

	tx, err = db.BeginTx(ctx, nil)
	must(t, err)
	// A row of many is read, and the transaction goes on.
	must(t, tx.QueryRowContext(ctx, "SELECT i::text FROM generate_series(1, 20000) i").Scan(&id))
	must(t, tx.QueryRowContext(ctx, "DELETE FROM note WHERE id = 'tx' RETURNING id").Scan(&id))
	must(t, tx.Rollback())
	equal(t, "rolled back", direct(t, "SELECT count(*) FROM note WHERE id = 'tx'"), "1")

	tx, err = db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true})
	must(t, err)
	var isolation string
	must(t, tx.QueryRowContext(ctx, "SHOW transaction_isolation").Scan(&isolation))
	equal(t, "isolation", isolation, "serializable")
	if _, err = tx.ExecContext(ctx, "DELETE FROM note"); err == nil {
		t.Error("a read-only transaction wrote")
	}
	must(t, tx.Rollback())
	if _, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSnapshot}); err == nil {
		t.Error("there is no such isolation level")
	}
	// Nothing is sent for a transaction without a statement.
	tx, err = db.BeginTx(ctx, nil)
	must(t, err)
	must(t, tx.Commit())
}

func TestAFailedTransactionDoesNotCommit(t *testing.T) {
	db, ctx := pool(t), deadline(t)
	for _, first := range []bool{true, false} {
		tx, err := db.BeginTx(ctx, nil)
		must(t, err)
		if !first {
			_, err := tx.ExecContext(ctx, "INSERT INTO note (id) VALUES ('failed')")
			must(t, err)
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO account VALUES (1, 1)")
		var failed *segue.Error
		if !errors.As(err, &failed) || failed.SQLState() != "23505" {
			t.Fatalf("found %v", err)
		}
		if _, err = tx.ExecContext(ctx, "SELECT 1"); !errors.As(err, &failed) || failed.Code != "25P02" {
			t.Errorf("first %v: found %v", first, err)
		}
		if err := tx.Commit(); err == nil {
			t.Errorf("first %v: a failed transaction said that it committed", first)
		}
	}
	equal(t, "rows", direct(t, "SELECT count(*) FROM note WHERE id = 'failed'"), "0")
	// A savepoint saves it.
	tx, err := db.BeginTx(ctx, nil)
	must(t, err)
	for _, statement := range []string{"INSERT INTO note (id) VALUES ('saved')", "SAVEPOINT s"} {
		_, err = tx.ExecContext(ctx, statement)
		must(t, err)
	}
	if _, err = tx.ExecContext(ctx, "INSERT INTO account VALUES (1, 1)"); err == nil {
		t.Fatal("the key is there already")
	}
	_, err = tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT s")
	must(t, err)
	must(t, tx.Commit())
	equal(t, "rows", direct(t, "SELECT count(*) FROM note WHERE id = 'saved'"), "1")
}

func TestColumnTypesAreTold(t *testing.T) {
	db := pool(t)
	rows, err := db.QueryContext(deadline(t), "SELECT 1::int4, 'x'::varchar(7), 1.5::numeric(10, 2), now(), '{}'::text[], 'ok'::mood, ''::text, 'x'::bytea")
	must(t, err)
	defer func() { _ = rows.Close() }()
	types, err := rows.ColumnTypes()
	must(t, err)
	names := []string{"INT4", "VARCHAR", "NUMERIC", "TIMESTAMPTZ", "_TEXT", "MOOD", "TEXT", "BYTEA"}
	kinds := []any{int64(0), "", "", time.Time{}, "", "", "", []byte{}}
	for at, column := range types {
		equal(t, "name", column.DatabaseTypeName(), names[at])
		equal(t, names[at], column.ScanType(), reflect.TypeOf(kinds[at]))
	}
	length, ok := types[1].Length()
	equal(t, "length", length, 7)
	equal(t, "has a length", ok, true)
	precision, scale, ok := types[2].DecimalSize()
	equal(t, "precision", precision, 10)
	equal(t, "scale", scale, 2)
	equal(t, "has a precision", ok, true)
	_, ok = types[0].Length()
	equal(t, "int4 has a length", ok, false)
}

func TestErrorsSayWhatTheDatabaseSaid(t *testing.T) {
	db, ctx := pool(t), deadline(t)
	for _, expected := range []struct {
		statement, code, constraint, reason string
	}{
		{"INSERT INTO account VALUES (1, 1)", "23505", "account_pkey", ""},
		{"UPDATE account SET balance = -1 WHERE id = 1", "23514", "balance_not_negative", ""},
		{"SELECT 1 / 0", "22012", "", ""},
		{"SELECT nothing FROM account", "42703", "", ""},
		{"DROP TABLE account", "", "", "refused.ddl"},
	} {
		_, err := db.ExecContext(ctx, expected.statement)
		var failed *segue.Error
		if !errors.As(err, &failed) {
			t.Fatalf("%s: found %v", expected.statement, err)
		}
		equal(t, expected.statement, failed.Code, expected.code)
		equal(t, expected.statement, failed.Constraint, expected.constraint)
		equal(t, expected.statement, failed.Reason, expected.reason)
		equal(t, expected.statement, failed.Outcome, segue.OutcomeNotApplied)
		equal(t, expected.statement, failed.Retryable, false)
		if expected.code != "" {
			equal(t, expected.statement, failed.Side, "source")
		}
	}
}

func TestACanceledContextCancelsTheStatement(t *testing.T) {
	db := pool(t)
	for _, write := range []bool{false, true} {
		for _, cause := range []error{context.DeadlineExceeded, context.Canceled} {
			ctx, cancel := context.WithCancel(t.Context())
			marker := "cancel-" + strconv.FormatBool(write) + cause.Error()
			if errors.Is(cause, context.DeadlineExceeded) {
				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
			} else {
				go func() {
					eventually(t, "the statement runs", func() bool { return running(t, marker) == "1" })
					cancel()
				}()
			}
			statement := "SELECT pg_sleep(50) /* " + marker + " */"
			if write {
				statement = "INSERT INTO note (id) SELECT 'x' FROM pg_sleep(50) /* " + marker + " */"
			}
			_, err := db.ExecContext(ctx, statement)
			if !errors.Is(err, cause) {
				t.Errorf("%s: found %v", marker, err)
			}
			// The sidecar is asked what became of the write.
			var failed *segue.Error
			if write && (!errors.As(err, &failed) || failed.Outcome != segue.OutcomeNotApplied) {
				t.Errorf("%s: found %#v", marker, err)
			}
			eventually(t, "the database has stopped", func() bool { return running(t, marker) == "0" })
			cancel()
		}
	}
}

// running counts the statements with a marker that the source runs.
func running(t *testing.T, marker string) string {
	text, err := shared.Direct("source", "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%"+marker+"%'")
	if err != nil {
		t.Error(err)
	}
	return text
}

func TestAPoolsConnectionsAreReplacedOnlyWhereNothingWasSent(t *testing.T) {
	client := open(t)
	connector := client.Connector()
	below, err := connector.Connect(deadline(t))
	must(t, err)
	connection := below.(*segue.Conn)
	must(t, connection.ResetSession(deadline(t)))
	equal(t, "valid", connection.IsValid(), true)
	// A transaction that was left is rolled back before the next user.
	_, err = connection.BeginTx(deadline(t), driver.TxOptions{})
	must(t, err)
	_, err = connection.ExecContext(deadline(t), "INSERT INTO note (id) VALUES ('left')", nil)
	must(t, err)
	must(t, connection.ResetSession(deadline(t)))
	equal(t, "rows", direct(t, "SELECT count(*) FROM note WHERE id = 'left'"), "0")
	_, err = connection.ExecContext(deadline(t), "INSERT INTO note (id) VALUES ('left')", nil)
	must(t, err)
	equal(t, "rows", direct(t, "SELECT count(*) FROM note WHERE id = 'left'"), "1")
	must(t, client.Close())
	equal(t, "valid", connection.IsValid(), false)
	if err := connection.ResetSession(deadline(t)); !errors.Is(err, driver.ErrBadConn) {
		t.Errorf("found %v", err)
	}
	if _, err := connection.ExecContext(deadline(t), "SELECT 1", nil); !errors.Is(err, sql.ErrConnDone) {
		t.Errorf("found %v", err)
	}
}

func eventually(t *testing.T, what string, probe func() bool) {
	t.Helper()
	until := time.Now().Add(limit)
	for !probe() {
		if time.Now().After(until) {
			t.Errorf("not within %s: %s", limit, what)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}
