// SPDX-License-Identifier: GPL-2.0-or-later

// Package agent keeps one tunnel up: it finds a server that gives one, watches it, and begins again when it is lost,
// for as long as it runs. It knows nobody's sockets and routes; they come in as interfaces.
//
//	             ┌──────────── no server gave a tunnel ─────────────┐
//	             ▼                                                  │
//	start ─► Waiting ─ delay over, or the network changed ─► Connecting ─ accepted ─► Up
//	             ▲                                                ▲ └─ (make before break) ─┤ lifetime
//	             │                                                └──── the path changed ───┤
//	             └───────────────────────────────── keepalive lost, machine refused it ─────┘
//
// Time is the time package's: the tests run in a testing/synctest bubble, where it is a fake.
package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"ddtb/cmd/tspc/host"
	"ddtb/tsp"
)

// Session is a tunnel the server has accepted us into.
type Session interface {
	// Info tells what was agreed.
	Info() Info
	// Socket is what a v6udpv4 tunnel's packets go over, connected to the server; nil for other types. It stays the
	// Session's.
	Socket() *net.UDPConn
	// Delete tells the server that the tunnel is no longer needed, in a new dialogue. The machine has stopped using the
	// Session.
	Delete(ctx context.Context) error
	// Close frees what the Session holds here; the server is not told.
	Close() error
}

// Info describes a Session.
type Info struct {
	Server    netip.AddrPort // where the dialogue was held
	Local     netip.Addr     // this machine's address on the way there
	Transport string         // of the dialogue: "udp" or "tcp"
	Offer     tsp.Offer
}

// Dialer opens Sessions.
type Dialer interface {
	// Resolve finds the IPv4 addresses of a server.
	Resolve(ctx context.Context, server Server) ([]netip.AddrPort, error)
	// Dial holds one dialogue up to accept. A server that sends us elsewhere is a *tsp.StatusError with Brokers.
	Dial(ctx context.Context, server netip.AddrPort) (Session, error)
	// Rank sorts brokers a server named, the best first, and leaves out those that do not answer.
	Rank(ctx context.Context, brokers []tsp.Broker) []tsp.Broker
}

// Machine is the computer that shall use the tunnel.
type Machine interface {
	// Raise makes the machine use s, and no longer a Session raised before: interface, addresses, routes.
	Raise(s Session) error
	// Lower stops using the Session and takes the default route out of the tunnel. The addresses stay, so that
	// connections outlive a short outage, while new ones fail at once instead of hanging.
	Lower() error
	// Clear puts the machine back as it was before the first Raise, and stops using the Session raised last.
	Clear() error
	// Path tells how packets to a server leave the machine.
	Path(server netip.Addr) (host.Path, error)
	// Changed delivers after Path may have changed.
	Changed() <-chan struct{}
}

// Config is what an Agent is made of. All but Once is required.
type Config struct {
	Servers []Server // the best first
	Dialer  Dialer
	Machine Machine
	// Watch returns when the tunnel is dead, saying how that showed, or when ctx is done.
	Watch  func(ctx context.Context, info Info) error
	Report func(Event) // takes what happens, one at a time, and must not block
	Rand   func() float64
	Once   bool // the first failure or loss is the end
}

// Agent is made by New and used by Run.
type Agent struct {
	Config
	delays  delays
	session Session                  // in use, nil if none is
	tried   map[netip.Addr]host.Path // by the last round; the zero Path where there was none
	begun   time.Time                // the last round
	using   host.Path                // of the Session
}

// errPathChanged ends a tunnel whose packets now leave by another interface, address or gateway.
var errPathChanged = errors.New("the network changed")

const (
	// settle is how long changes of the network are waited for to be over.
	settle = time.Second
	// minRound is the least time between the beginnings of two rounds, whatever happens to this machine's network.
	minRound = 5 * time.Second
	// stable is how long a tunnel must have been up for its loss not to count as one more failure.
	stable = time.Minute
	// farewell is how long the server is given to hear that we leave.
	farewell = 3 * time.Second
)

// New makes an Agent.
func New(config Config) *Agent {
	return &Agent{Config: config, delays: delays{rand: config.Rand}}
}

// Run keeps the tunnel up until ctx is done, and then leaves the machine as it found it. The error is nil, or what
// could not be put back; with Once, why there is no tunnel or no more.
func (a *Agent) Run(ctx context.Context) error {
	err := a.run(ctx)
	err = errors.Join(err, a.Machine.Clear())
	if a.session != nil {
		a.leave(ctx)
	}
	a.Report(Event{Kind: Stopped, Err: err})
	return err
}

// run is Run without the end.
func (a *Agent) run(ctx context.Context) error {
	for {
		session, err := a.connect(ctx)
		if err == nil {
			a.session = session
			err = a.serve(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if a.Once {
			return err
		}
		if !a.wait(ctx, err) {
			return nil
		}
	}
}

// serve uses the Session, and what replaces it before its lifetime ends, until the tunnel is lost or ctx is done.
func (a *Agent) serve(ctx context.Context) error {
	up := time.Now()
	var replaced Session
	for {
		err := a.raise(ctx)
		if replaced != nil {
			_ = replaced.Close()
		}
		if err != nil {
			return err
		}
		next, err := a.watch(ctx)
		if next != nil {
			replaced, a.session = a.session, next
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if time.Since(up) >= stable {
				a.delays.reset()
			}
			return a.lose(err)
		}
	}
}

// raise makes the machine use the Session, or gives it back.
func (a *Agent) raise(ctx context.Context) error {
	info := a.session.Info()
	a.using = a.tried[info.Server.Addr()]
	err := a.Machine.Raise(a.session)
	if err == nil {
		a.Report(Event{Kind: Up, Info: info})
		return nil
	}
	err = errors.Join(err, a.Machine.Lower())
	a.Report(Event{Kind: Down, Info: info, Err: err})
	a.leave(ctx)
	return err
}

// lose gives up a tunnel that no longer works. Who is told of that finds no route into it any more.
func (a *Agent) lose(why error) error {
	err := errors.Join(why, a.Machine.Lower())
	a.Report(Event{Kind: Down, Info: a.session.Info(), Err: why})
	_ = a.session.Close()
	a.session = nil
	return err
}

// leave ends the Session and tells the server.
func (a *Agent) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	if err := a.session.Delete(ctx); err != nil {
		a.Report(Event{Kind: Undeleted, Info: a.session.Info(), Err: err})
	}
	_ = a.session.Close()
	a.session = nil
}
