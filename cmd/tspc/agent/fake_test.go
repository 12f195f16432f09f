// SPDX-License-Identifier: GPL-2.0-or-later

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ddtb/cmd/tspc/host"
	"ddtb/tsp"
)

// world is everything around an Agent: servers, the machine and the clock, which is synctest's. It keeps a diary of
// what the Agent does and reports.
type world struct {
	t     *testing.T
	start time.Time
	mutex sync.Mutex
	diary []string
	delay []time.Duration // of each Waiting

	names    map[string][]netip.AddrPort                                            // what Resolve knows
	dial     func(server netip.AddrPort, n int) (lifetime time.Duration, err error) // the n-th dialogue of all, from 1
	dialled  int
	raise    func(n int) error // the n-th Raise
	raised   int
	death    chan error // ends the tunnel
	paths    map[netip.Addr]host.Path
	changed  chan struct{}
	undelete error
}

func newWorld(t *testing.T) *world {
	return &world{
		t: t, start: time.Now(), death: make(chan error), changed: make(chan struct{}, 1),
		names: map[string][]netip.AddrPort{"one": {address(1)}, "two": {address(2)}},
		dial:  func(netip.AddrPort, int) (time.Duration, error) { return 0, nil },
		raise: func(int) error { return nil },
		paths: map[netip.Addr]host.Path{},
	}
}

// address is that of server n.
func address(n byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, n}), DefaultPort)
}

func (w *world) note(format string, arguments ...any) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.diary = append(w.diary, fmt.Sprintf(format, arguments...))
}

// take gives the diary since the last take, once the Agent waits for something.
func (w *world) take() []string {
	synctest.Wait()
	w.mutex.Lock()
	defer w.mutex.Unlock()
	diary := w.diary
	w.diary = nil
	return diary
}

// since is the time since the world began.
func (w *world) since() time.Duration { return time.Since(w.start) }

// Resolve implements Dialer.
func (w *world) Resolve(_ context.Context, server Server) ([]netip.AddrPort, error) {
	if a, err := netip.ParseAddr(server.Host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a, server.Port)}, nil
	}
	if addresses := w.names[server.Host]; addresses != nil {
		return addresses, nil
	}
	return nil, errors.New("no such name")
}

// Dial implements Dialer.
func (w *world) Dial(ctx context.Context, server netip.AddrPort) (Session, error) {
	w.dialled++
	w.note("dial %v", server.Addr())
	lifetime, err := w.dial(server, w.dialled)
	if err != nil {
		return nil, err
	}
	return &session{w, w.dialled, Info{Server: server, Offer: tsp.Offer{Lifetime: lifetime}}}, ctx.Err()
}

// Rank implements Dialer: the last is the nearest.
func (w *world) Rank(_ context.Context, brokers []tsp.Broker) []tsp.Broker {
	ranked := slices.Clone(brokers)
	slices.Reverse(ranked)
	return ranked
}

// session implements Session.
type session struct {
	*world
	n    int
	info Info
}

func (s *session) Info() Info           { return s.info }
func (s *session) Socket() *net.UDPConn { return nil }
func (s *session) Close() error         { s.note("close %d", s.n); return nil }
func (s *session) Delete(context.Context) error {
	s.note("delete %d", s.n)
	return s.undelete
}

// Raise implements Machine.
func (w *world) Raise(s Session) error {
	w.raised++
	w.note("raise %d", s.(*session).n)
	return w.raise(w.raised)
}

// Lower implements Machine.
func (w *world) Lower() error { w.note("lower"); return nil }

// Clear implements Machine.
func (w *world) Clear() error { w.note("clear"); return nil }

// Path implements Machine.
func (w *world) Path(server netip.Addr) (host.Path, error) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	path, ok := w.paths[server]
	if !ok {
		return host.Path{Interface: 1}, nil
	}
	if path == (host.Path{}) {
		return host.Path{}, errors.New("network is unreachable")
	}
	return path, nil
}

// Changed implements Machine.
func (w *world) Changed() <-chan struct{} { return w.changed }

// move gives the path to a server another interface, 0 for none, and tells so.
func (w *world) move(server netip.Addr, to int) {
	w.mutex.Lock()
	w.paths[server] = host.Path{Interface: to}
	w.mutex.Unlock()
	w.changed <- struct{}{}
}

func (w *world) watch(ctx context.Context, _ Info) error {
	select {
	case err := <-w.death:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *world) report(e Event) {
	switch e.Kind {
	case Connecting: // Dial is in the diary
	case Waiting:
		w.delay = append(w.delay, e.Delay)
		w.note("waiting")
	case Failed:
		w.note("failed: %v", e.Err)
	case Down:
		w.note("down: %v", e.Err)
	default:
		w.note("%s", e.Kind)
	}
}

// run runs an Agent for servers in the background. The test's end ends it; stop does so before and gives Run's error.
func (w *world) run(change func(*Config), servers ...string) (stop func() error) {
	config := Config{Dialer: w, Machine: w, Watch: w.watch, Report: w.report, Rand: func() float64 { return 0 }}
	for _, name := range servers {
		config.Servers = append(config.Servers, Server{Host: name, Port: DefaultPort})
	}
	if change != nil {
		change(&config)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = New(config).Run(ctx)
	}()
	w.t.Cleanup(func() { cancel(); <-done })
	return func() error { cancel(); <-done; return err }
}
