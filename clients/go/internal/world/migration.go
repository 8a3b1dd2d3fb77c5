package world

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const configuration = `
[source]
dsn = "%s"
[target]
dsn = "%s"
[listen]
sql = "127.0.0.1:%d"
admin = "127.0.0.1:%d"
drain_timeout = "5s"
[queries]
paths = ["%s"]
[outbox]
poll_interval = "100ms"
[control]
poll_interval = "200ms"
[read_routing]
target_percentage = 100
escalation_schedule = []
[read_routing.rollback_trigger]
window = "10s"
latency_p99_threshold = "30s"
outbox_age_threshold = "1m"
mismatch_rate_threshold = 1.0
`

// Migration is a database on each server, and the sidecar between them.
type Migration struct {
	servers *Servers
	name    string
	home    string
	port    int
	process *exec.Cmd
	phase   string

	// Proxy stands before the sidecar.
	Proxy *Proxy
}

// Migration makes both databases and starts a sidecar in phase source_only. Statements of setup that begin
// with INSERT are run on the source only; queries are files of named statements.
func (s *Servers) Migration(setup []string, queries map[string]string) (*Migration, error) {
	s.count++
	m := &Migration{servers: s, name: fmt.Sprintf("shop_%d", s.count), port: FreePort(), phase: "source_only"}
	for _, side := range []string{"source", "target"} {
		if _, err := s.psql(side, "postgres", "CREATE DATABASE "+m.name); err != nil {
			return nil, err
		}
		for _, statement := range setup {
			if side == "target" && strings.HasPrefix(statement, "INSERT") {
				continue
			}
			if _, err := s.psql(side, m.name, statement); err != nil {
				return nil, err
			}
		}
	}
	m.home = filepath.Join(s.folder, m.name)
	folder := filepath.Join(m.home, "queries")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	for name, text := range queries {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	text := fmt.Sprintf(configuration, s.DSN("source", m.name), s.DSN("target", m.name), m.port, FreePort(), folder)
	if err := os.WriteFile(m.config(), []byte(text), 0o644); err != nil {
		return nil, err
	}
	if _, err := m.Run("init"); err != nil {
		return nil, err
	}
	var err error
	if m.Proxy, err = newProxy(m.port); err != nil {
		return nil, err
	}
	return m, m.Serve()
}

func (m *Migration) config() string { return filepath.Join(m.home, "segue.toml") }

// Address is where the proxy listens: host:port.
func (m *Migration) Address() string { return m.Proxy.address }

// SidecarAddress is where the sidecar itself listens.
func (m *Migration) SidecarAddress() string { return fmt.Sprintf("127.0.0.1:%d", m.port) }

// URL is the client's way through the proxy.
func (m *Migration) URL() string { return "segue://" + m.Address() }

// DSN is the direct way to one of the databases.
func (m *Migration) DSN(side string) string { return m.servers.DSN(side, m.name) }

// Direct runs statements without segue; columns are parted by |.
func (m *Migration) Direct(side, sql string) (string, error) {
	return m.servers.psql(side, m.name, sql)
}

// Run runs a subcommand of segue to its end, and gives what it printed.
func (m *Migration) Run(arguments ...string) (string, error) {
	command := exec.Command(Program(), append(arguments, "--config", m.config())...)
	command.Dir, command.Env = m.home, environment()
	output, err := command.Output()
	if err != nil {
		var exit *exec.ExitError
		_ = errors.As(err, &exit)
		return "", fmt.Errorf("segue %s: %w: %s%s", strings.Join(arguments, " "), err, output, exit.Stderr)
	}
	return string(output), nil
}

// Serve starts the sidecar and waits until it takes calls.
func (m *Migration) Serve() error {
	if m.process != nil {
		return nil
	}
	log, err := os.OpenFile(filepath.Join(m.home, "segue.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	m.process = exec.Command(Program(), "serve", "--config", m.config())
	m.process.Dir, m.process.Env = m.home, environment()
	m.process.Stdout, m.process.Stderr = log, log
	m.process.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := m.process.Start(); err != nil {
		return err
	}
	return Eventually("segue serves", startLimit, func() (bool, error) {
		probe, err := net.Dial("tcp", m.SidecarAddress())
		if err == nil {
			return true, probe.Close()
		}
		var status syscall.WaitStatus
		if gone, _ := syscall.Wait4(m.process.Process.Pid, &status, syscall.WNOHANG, nil); gone != 0 {
			text, _ := os.ReadFile(filepath.Join(m.home, "segue.log"))
			return false, fmt.Errorf("segue has ended:\n%s", text)
		}
		return false, nil
	})
}

// Kill ends the sidecar as kill -9 does.
func (m *Migration) Kill() { m.end(syscall.SIGKILL) }

// Terminate asks it to end, and waits.
func (m *Migration) Terminate() { m.end(syscall.SIGTERM) }

func (m *Migration) end(signal syscall.Signal) {
	if m.process == nil {
		return
	}
	_ = m.process.Process.Signal(signal)
	_ = m.process.Wait()
	m.process = nil
}

type status struct {
	Phase string `json:"phase"`
	Fleet struct {
		Settled          bool    `json:"settled"`
		SettledAt        any     `json:"settled_at"`
		TargetPercentage float64 `json:"target_percentage"`
	} `json:"fleet"`
}

func (m *Migration) status() (status, error) {
	var read status
	output, err := m.Run("status", "--json")
	if err != nil {
		return read, err
	}
	return read, json.Unmarshal([]byte(output), &read)
}

func (s status) settled() bool {
	_, told := s.Fleet.SettledAt.(string)
	return told && s.Fleet.Settled
}

func (m *Migration) wait(what string, holds func(status) bool) error {
	return Eventually(what, startLimit, func() (bool, error) {
		now, err := m.status()
		return err == nil && holds(now), err
	})
}

// Enter goes on to a phase, up to shift, where all reads go to the target then.
func (m *Migration) Enter(phase string) error {
	order := []string{"source_only", "dual_write", "shadow_read", "shift"}
	for slices.Index(order, m.phase) < slices.Index(order, phase) {
		if err := m.wait("the fleet is settled", status.settled); err != nil {
			return err
		}
		m.phase = order[slices.Index(order, m.phase)+1]
		if _, err := m.Run("phase", "advance", "--to", m.phase, "--force", "--reason", "a test"); err != nil {
			return err
		}
		if err := m.wait("the fleet is there", func(now status) bool { return now.Phase == m.phase && now.settled() }); err != nil {
			return err
		}
		if m.phase == "dual_write" {
			if _, err := m.Run("backfill"); err != nil {
				return err
			}
		}
	}
	if m.phase == "shift" {
		return m.wait("all reads go to the target", func(now status) bool { return now.Fleet.TargetPercentage == 100 })
	}
	return nil
}

// Hold runs a statement without segue in a transaction that stays open until what it gives is called.
func (m *Migration) Hold(t testing.TB, side, statement string) func() {
	t.Helper()
	command := exec.Command("/usr/lib/postgresql/15/bin/psql", "-X", "-q", "-A", "-t", "-d", m.DSN(side))
	command.Env = environment()
	input, err1 := command.StdinPipe()
	output, err2 := command.StdoutPipe()
	if err := errors.Join(err1, err2, command.Start()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(input, "BEGIN;\n"+statement+";\n\\echo held\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	for lines.Scan() && lines.Text() != "held" {
	}
	release := sync.OnceFunc(func() {
		// Its end rolls back.
		_ = input.Close()
		_ = command.Wait()
	})
	t.Cleanup(release)
	return release
}
