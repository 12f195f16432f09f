// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/provision"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

var (
	tunnelServer = netip.MustParseAddr("2001:db8:f000::1")
	localEnd     = netip.MustParseAddrPort("192.0.2.1:3653")
)

// world is a daemon in memory behind a real socket.
type world struct {
	testing.TB
	*Client
	broker *provision.Broker
	store  *lease.Memory
	path   *datapath.Null
	server *Server
	socket string
	stop   context.CancelFunc
	served chan error
}

func pools() []lease.Pool {
	return []lease.Pool{
		{
			Name: "main", First: 1 << 20, Size: 1 << 17, PrefixLen: 56,
			EndpointBase: netip.MustParseAddr("2001:db8:f000:1::"), PrefixBase: netip.MustParseAddr("2001:db9::"),
		},
		{Name: "small", First: 100, Size: 6, EndpointBase: netip.MustParseAddr("2001:db8:f000:2::")},
	}
}

// start makes a world; change may alter what the server is made of.
func start(t testing.TB, change func(*Deps)) *world {
	t.Helper()
	w := &world{TB: t, served: make(chan error, 1)}
	var err error
	if w.store, err = lease.NewMemory(pools(), lease.Options{}); err != nil {
		t.Fatal(err)
	}
	w.path = datapath.NewNull(time.Now)
	path := datapath.Config{Device: "test0", Local: []netip.AddrPort{localEnd}, Server: tunnelServer, MTU: 1480}
	for _, pool := range pools() {
		path.Pools = append(path.Pools, datapath.Pool(pool))
	}
	if err := w.path.Configure(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	config := provision.Config{Node: "test", Server: tunnelServer, Pools: pools()}
	w.broker, err = provision.New(config, provision.Deps{Store: w.store, Datapath: w.path, Logger: zerolog.Nop()})
	if err == nil {
		err = w.broker.Recover(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	deps := Deps{
		Broker: w.broker, Store: w.store, Drops: w.path, Version: "1.2.3", Datapath: "null", Logger: zerolog.Nop(),
		Users: newMemoryUsers(), Config: func() any { return map[string]any{"server": map[string]string{"name": "test"}} },
	}
	if change != nil {
		change(&deps)
	}
	w.serve(deps)
	return w
}

// serve opens the socket and the client to it. A test's own folder may have too long a name for one.
func (w *world) serve(deps Deps) {
	w.Helper()
	folder, err := os.MkdirTemp("", "ddtb-control-")
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			w.Error(err)
		}
	})
	w.socket = filepath.Join(folder, "socket")
	listener, err := Listen(w.socket)
	if err != nil {
		w.Fatal(err)
	}
	w.server = NewServer(deps)
	var ctx context.Context
	ctx, w.stop = context.WithCancel(context.Background())
	go func() { w.served <- w.server.Serve(ctx, listener) }()
	w.Client = NewClient(w.socket)
	w.Cleanup(w.end)
}

// end stops the server, once.
func (w *world) end() {
	if w.stop == nil {
		return
	}
	w.Client.Close()
	w.stop()
	w.stop = nil
	if err := <-w.served; err != nil {
		w.Error(err)
	}
}

// login makes a session of the n-th client.
func (w *world) login(name string, n int) provision.Session {
	w.Helper()
	s, err := w.broker.Offer(w.Context(), provision.Request{
		Subscriber: aaa.Subscriber{Name: name, Backend: "local"}, Encap: datapath.V6UDPV4, Router: true, Keepalive: time.Minute,
		Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}), 4000), Local: localEnd,
	})
	if err == nil {
		err = w.broker.Activate(w.Context(), s.ID)
	}
	if err != nil {
		w.Fatal(err)
	}
	s, _ = w.broker.Session(s.ID)
	return s
}

// must gives the value of a call that has to come through.
func must[T any](t testing.TB) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// refused wants an *Error of a status.
func refused(t testing.TB, err error, status int) {
	t.Helper()
	var got *Error
	if !errors.As(err, &got) || got.Status != status || got.Message == "" {
		t.Errorf("error is %v (%T), expected one of status %d", err, err, status)
	}
}

func collect[T any](t testing.TB, list func(func(T, error) bool)) []T {
	t.Helper()
	var out []T
	for item, err := range list {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, item)
	}
	return out
}

func ids(sessions []Session) string {
	var out []string
	for _, s := range sessions {
		out = append(out, s.ID)
	}
	return fmt.Sprint(out)
}
