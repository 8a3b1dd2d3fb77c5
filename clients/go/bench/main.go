// Command bench measures the client beside pgx, both through database/sql, in one run: pgx directly to the
// source, the client through a sidecar. Rounds of the two alternate, so that what else the machine does
// meets both.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"segue.test/clients/go/internal/world"
	_ "segue.test/clients/go/segue"
)

// rounds of each measurement.
const rounds = 4

var setup = []string{
	`CREATE TABLE item (id bigint PRIMARY KEY, name text NOT NULL, price numeric(12,2) NOT NULL, at timestamptz NOT NULL,
		size float8 NOT NULL, ok boolean NOT NULL, tag text, n int NOT NULL)`,
	`INSERT INTO item SELECT i, 'name ' || i, i / 100.0, now(), i * 0.1, i % 2 = 0, NULL, i FROM generate_series(1, 20000) i`,
	"CREATE TABLE log (id bigint PRIMARY KEY, body text NOT NULL)",
}

var logged atomic.Int64

// measurement is one call.
type measurement struct {
	name string
	run  func(context.Context, *sql.DB) error
}

func rows(count int) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		found, err := db.QueryContext(ctx, "SELECT id, name, price, at, size, ok, tag, n FROM item WHERE id <= $1", count)
		if err != nil {
			return err
		}
		defer func() { _ = found.Close() }()
		read := 0
		for found.Next() {
			var id, n int64
			var name, price string
			var tag sql.NullString
			var at time.Time
			var size float64
			var ok bool
			if err := found.Scan(&id, &name, &price, &at, &size, &ok, &tag, &n); err != nil {
				return err
			}
			read++
		}
		if read != count {
			return fmt.Errorf("%d rows came", read)
		}
		return found.Err()
	}
}

var measurements = []measurement{
	{"point read", func(ctx context.Context, db *sql.DB) error {
		var name string
		return db.QueryRowContext(ctx, "SELECT name FROM item WHERE id = $1", 77).Scan(&name)
	}},
	{"100 rows", rows(100)},
	{"10,000 rows", rows(10_000)},
	{"insert", func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "INSERT INTO log VALUES ($1, $2)", logged.Add(1), "body")
		return err
	}},
}

func main() {
	span := flag.Duration("span", 2*time.Second, "time of one round")
	phase := flag.String("phase", "shadow_read", "the migration's phase")
	flag.Parse()
	if err := run(*span, *phase); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(span time.Duration, phase string) error {
	servers, err := world.Start()
	if err != nil {
		return err
	}
	defer func() { _ = servers.Close() }()
	migration, err := servers.Migration(setup, nil)
	if err != nil {
		return err
	}
	if err := migration.Enter(phase); err != nil {
		return err
	}
	native, err := sql.Open("pgx", migration.DSN("source"))
	if err != nil {
		return err
	}
	through, err := sql.Open("segue", "segue://"+migration.SidecarAddress())
	if err != nil {
		return err
	}
	fmt.Println("| call | callers | pgx p50 | segue p50 | pgx/s | segue/s | segue's time to pgx's |")
	fmt.Println("|---|---|---|---|---|---|---|")
	for _, callers := range []int{1, 16} {
		for _, db := range []*sql.DB{native, through} {
			db.SetMaxOpenConns(callers)
			db.SetMaxIdleConns(callers)
		}
		for _, measured := range measurements {
			var seen [2]sample
			for range rounds {
				for at, db := range []*sql.DB{native, through} {
					if err := seen[at].round(db, measured, callers, span/rounds); err != nil {
						return fmt.Errorf("%s: %w", measured.name, err)
					}
				}
			}
			fmt.Printf("| %s | %d | %s | %s | %.0f | %.0f | %.2f |\n", measured.name, callers, seen[0].p50(), seen[1].p50(),
				seen[0].rate(), seen[1].rate(), float64(seen[1].p50())/float64(seen[0].p50()))
		}
	}
	return nil
}

type sample struct {
	times []time.Duration
	span  time.Duration
}

func (s *sample) round(db *sql.DB, measured measurement, callers int, span time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// Connections and prepared statements are there before.
	if err := measured.run(ctx, db); err != nil {
		return err
	}
	var mu sync.Mutex
	var waiting sync.WaitGroup
	var failed error
	begun := time.Now()
	for range callers {
		waiting.Go(func() {
			var times []time.Duration
			var err error
			for err == nil && time.Since(begun) < span {
				at := time.Now()
				err = measured.run(ctx, db)
				times = append(times, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			s.times = append(s.times, times...)
			if err != nil {
				failed = err
			}
		})
	}
	waiting.Wait()
	s.span += time.Since(begun)
	return failed
}

func (s *sample) p50() time.Duration {
	slices.Sort(s.times)
	return s.times[len(s.times)/2].Round(10 * time.Microsecond)
}

func (s *sample) rate() float64 { return float64(len(s.times)) / s.span.Seconds() }
