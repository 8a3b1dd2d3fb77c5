// Package world starts what the tests need: two PostgreSQL servers, sidecars between them, and a proxy
// before each. All of it lies in one temporary folder, which a guard process empties and removes as soon
// as the test's process ends, however it does.
package world

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	startLimit = 2 * time.Minute
	pollPause  = 50 * time.Millisecond
	// Below the ports of outgoing connections, so that a stopped server finds its port free again.
	portMin = 12_000
	portMax = 32_000
)

const serverSettings = `
listen_addresses = '127.0.0.1'
max_connections = 200
shared_buffers = 64MB
timezone = 'UTC'
lc_messages = 'C'
dynamic_shared_memory_type = mmap
fsync = off
synchronous_commit = off
`

// Repository is the folder of the repository.
func Repository() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..", "..")
}

// Program is the segue to be tested: SEGUE_BIN, or what cargo built.
func Program() string {
	if named := os.Getenv("SEGUE_BIN"); named != "" {
		return named
	}
	return filepath.Join(Repository(), "target", "debug", "segue")
}

// Servers are a source and a target that all tests share.
type Servers struct {
	folder string
	guard  *exec.Cmd
	alive  io.WriteCloser
	lent   *syscall.Credential
	ports  [2]int
	count  int
}

// Start starts both servers.
func Start() (*Servers, error) {
	if _, err := os.Stat(Program()); err != nil {
		return nil, fmt.Errorf("segue is missing; run cargo build, or name one by SEGUE_BIN: %w", err)
	}
	s := &Servers{}
	if err := s.makeFolder(); err != nil {
		return nil, err
	}
	for side, home := range []string{"/usr/lib/postgresql/15", filepath.Join(Repository(), ".build", "postgresql-18")} {
		if err := s.startServer(side, home); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

func (s *Servers) makeFolder() (err error) {
	if s.folder, err = os.MkdirTemp("", "segue-go-"); err != nil {
		return err
	}
	// Other accounts look in: the servers' own.
	if err = os.Chmod(s.folder, 0o755); err != nil {
		return err
	}
	s.guard = exec.Command("sh", filepath.Join(Repository(), "tests", "support", "guard.sh"), s.folder)
	s.guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if s.alive, err = s.guard.StdinPipe(); err != nil {
		return err
	}
	if err = s.guard.Start(); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		s.lent, err = lentAccount()
	}
	return err
}

// lentAccount: PostgreSQL refuses root, which lends it another account.
func lentAccount() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		if found, err := user.Lookup(name); err == nil {
			uid, err1 := strconv.ParseUint(found.Uid, 10, 32)
			gid, err2 := strconv.ParseUint(found.Gid, 10, 32)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
		}
	}
	return nil, errors.New("as root the servers need an account postgres or nobody")
}

func (s *Servers) startServer(side int, home string) error {
	folder := filepath.Join(s.folder, []string{"source", "target"}[side])
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	if s.lent != nil {
		if err := os.Chown(folder, int(s.lent.Uid), int(s.lent.Gid)); err != nil {
			return err
		}
	}
	programs, data := filepath.Join(home, "bin"), filepath.Join(folder, "data")
	made := s.command(folder, filepath.Join(programs, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	if output, err := made.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, output)
	}
	settings := serverSettings + "unix_socket_directories = '" + folder + "'\n"
	if err := os.WriteFile(filepath.Join(data, "postgresql.auto.conf"), []byte(settings), 0o644); err != nil {
		return err
	}
	s.ports[side] = FreePort()
	log, err := os.Create(filepath.Join(folder, "server.log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	server := s.command(folder, filepath.Join(programs, "postgres"), "-D", data, "-p", strconv.Itoa(s.ports[side]))
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		return err
	}
	return Eventually("PostgreSQL is ready", startLimit, func() (bool, error) {
		text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
		lines := strings.Split(string(text), "\n")
		return err == nil && len(lines) > 7 && strings.TrimSpace(lines[7]) == "ready", nil
	})
}

func (s *Servers) command(folder, program string, arguments ...string) *exec.Cmd {
	command := exec.Command(program, arguments...)
	command.Dir = folder
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: s.lent}
	return command
}

// Close ends the servers and what works in their folder.
func (s *Servers) Close() error {
	return errors.Join(s.alive.Close(), s.guard.Wait())
}

// DSN is the direct way to a database on one side: source or target.
func (s *Servers) DSN(side, database string) string {
	port := s.ports[0]
	if side == "target" {
		port = s.ports[1]
	}
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s", port, database)
}

// psql runs statements without segue; columns are parted by |.
func (s *Servers) psql(side, database, sql string) (string, error) {
	command := exec.Command("/usr/lib/postgresql/15/bin/psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", s.DSN(side, database), "-c", sql)
	command.Env = environment()
	var errors bytes.Buffer
	command.Stderr = &errors
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w: %s", side, sql, err, errors.String())
	}
	return strings.TrimRight(string(output), "\n"), nil
}

// environment is without what the shell says to segue or to libpq.
func environment() []string {
	var kept []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "SEGUE_") && !strings.HasPrefix(entry, "PG") && !strings.HasPrefix(entry, "OTEL_") {
			kept = append(kept, entry)
		}
	}
	return kept
}

// FreePort gives a port on which no one listens.
func FreePort() int {
	for {
		port := portMin + rand.IntN(portMax-portMin)
		probe, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = probe.Close()
			return port
		}
	}
}

// Eventually asks until the probe says yes.
func Eventually(what string, limit time.Duration, probe func() (bool, error)) error {
	until := time.Now().Add(limit)
	for {
		holds, err := probe()
		if holds || err != nil {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("not within %s: %s", limit, what)
		}
		time.Sleep(pollPause)
	}
}
