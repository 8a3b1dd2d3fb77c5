package world

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// Proxy passes bytes between clients and the sidecar, or swallows its answers.
type Proxy struct {
	address  string
	upstream int
	swallows atomic.Bool
	refuses  atomic.Bool
	accepted atomic.Int64

	mu    sync.Mutex
	pairs []net.Conn
}

func newProxy(upstream int) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{address: listener.Addr().String(), upstream: upstream}
	go p.accept(listener)
	return p, nil
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.upstream))
		if err != nil || p.refuses.Load() {
			_ = client.Close()
			if err == nil {
				_ = server.Close()
			}
			continue
		}
		p.accepted.Add(1)
		p.mu.Lock()
		p.pairs = append(p.pairs, client, server)
		p.mu.Unlock()
		go p.pump(client, server, false)
		go p.pump(server, client, true)
	}
}

func (p *Proxy) pump(from, to net.Conn, answers bool) {
	buffer := make([]byte, 64*1024)
	for {
		count, err := from.Read(buffer)
		if count > 0 && (!answers || !p.swallows.Load()) {
			if _, err := to.Write(buffer[:count]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_ = from.Close()
	_ = to.Close()
}

// Swallow keeps the sidecar's answers from its clients, or no more.
func (p *Proxy) Swallow(wanted bool) { p.swallows.Store(wanted) }

// Refuse closes new connections at once, or no more.
func (p *Proxy) Refuse(wanted bool) { p.refuses.Store(wanted) }

// Accepted counts the connections that were passed on.
func (p *Proxy) Accepted() int64 { return p.accepted.Load() }

// Cut ends all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	pairs := p.pairs
	p.pairs = nil
	p.mu.Unlock()
	for _, pair := range pairs {
		_ = pair.Close()
	}
}
