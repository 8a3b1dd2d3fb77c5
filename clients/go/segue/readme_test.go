package segue_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing"

	"segue.test/clients/go/segue"
)

// readme is the example of README.md.
func readme(address string) error {
	// begin
	ctx := context.Background()
	client, err := segue.Open(ctx, address)
	if err != nil {
		return err
	}
	defer client.Close()

	// A single write has an idempotency key by itself: it is safe to repeat, and is repeated, when its answer
	// is lost.
	if _, err := client.Exec(ctx, "INSERT INTO account (id, balance) VALUES ($1, $2)", 1001, 50); err != nil {
		return err
	}

	// Several writes in one call, all or none.
	batch := new(segue.Batch).
		Add("UPDATE account SET balance = balance - $1 WHERE id = $2", 20, 1001).
		Add("UPDATE account SET balance = balance + $1 WHERE id = $2", 20, 1)
	if _, err := client.Batch(ctx, batch); err != nil {
		return err
	}

	// A transaction that is run again on serialization failures. Its first call begins it, its last one commits.
	options := segue.TxOptions{Isolation: sql.LevelSerializable}
	err = client.InTx(ctx, options, func(tx *segue.Tx) error {
		rows, err := tx.Query(ctx, "SELECT balance FROM account WHERE id = $1", 1001)
		if err != nil {
			return err
		}
		defer rows.Close()
		var balance int64
		for rows.Next() {
			if err := rows.Scan(&balance); err != nil {
				return err
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
		_, err = tx.Exec(segue.WithCommit(ctx), "UPDATE account SET balance = $1 WHERE id = $2", 2*balance, 1001)
		return err
	})
	if err != nil {
		return err
	}

	// The same connection and the same consistency tokens below database/sql.
	var balance int64
	if err := client.DB().QueryRowContext(ctx, "SELECT balance FROM account WHERE id = 1001").Scan(&balance); err != nil {
		return err
	}
	fmt.Println("balance:", balance)
	// end
	return nil
}

func Example_readme() {
	if err := readme(shared.URL()); err != nil {
		fmt.Println(err)
	}
	// Output: balance: 60
}

func TestTheExampleOfTheReadmeIsTheOneThatRuns(t *testing.T) {
	source, err := os.ReadFile("readme_test.go")
	must(t, err)
	text, err := os.ReadFile("../README.md")
	must(t, err)
	shown := between(t, string(text), "<!-- example: begin -->\n```go\n", "```\n<!-- example: end -->")
	run := between(t, string(source), "\t// begin\n", "\t// end\n")
	run = strings.ReplaceAll("\n"+run, "\n\t", "\n")[1:]
	equal(t, "the example", strings.Replace(run, "address", `"segue://127.0.0.1:7400"`, 1), shown)
	equal(t, "its output is told", strings.Contains(string(text), "It prints `balance: 60`."), true)
}

func between(t *testing.T, text, begin, end string) string {
	t.Helper()
	_, after, found := strings.Cut(text, begin)
	inner, _, closed := strings.Cut(after, end)
	if !found || !closed {
		t.Fatalf("%q and %q are not there", begin, end)
	}
	return inner
}
