// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"context"
	"io"
	"iter"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"ddtb/aaa"
	"ddtb/provision/datapath"
	"ddtb/provision/lease"
)

// Deps is what a Broker works with. Store and Datapath are required.
type Deps struct {
	Store      lease.Store
	Datapath   datapath.Datapath // configured; not closed by the Broker
	Accountant aaa.Accountant    // nil: no accounting
	Logger     zerolog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Clock      func() time.Time      // nil: time.Now
	Rand       io.Reader             // nil: crypto/rand.Reader
}

// Request is a tunnel an authenticated subscriber asks for.
type Request struct {
	Subscriber aaa.Subscriber
	Encap      datapath.Encap
	Client     netip.AddrPort // outer address of the client, IPv4 (4in6 is unmapped); the port is not used for V6V4
	Local      netip.AddrPort // the server's address it spoke to, the same way
	Router     bool           // a delegated prefix is wanted
	PrefixLen  int            // length of the prefix wanted, in bits; 0: any. A larger prefix than this may be given
	Keepalive  time.Duration  // interval wanted; 0: the client asked for none
}

// Broker gives subscribers their tunnels. All methods may be called by many goroutines at once.
type Broker struct{}

// New makes a Broker. Recover has to be called before any other method, then Run.
func New(config Config, deps Deps) (*Broker, error) { panic("to come") }

// Offer reserves a tunnel for a subscriber and tells what it would be. Nothing forwards before Activate, and a session
// that the offer would replace goes on until then. An offer not accepted within OfferTimeout is withdrawn. A new offer
// for the same subscriber (the same slot, if he may have several sessions) takes the place of his last one.
func (b *Broker) Offer(ctx context.Context, request Request) (Session, error) { panic("to come") }

// Activate puts an offered session in force. When it returns nil the tunnel forwards and its Start record is safe; the
// session it replaces, if any, has ended with a Stop record. Asked again it does nothing. ErrNotFound if the offer is gone.
func (b *Broker) Activate(ctx context.Context, id string) error { panic("to come") }

// Reject takes an offer back. One that is gone already is no error; an Active session is not touched (ErrInProgress).
func (b *Broker) Reject(ctx context.Context, id string) error { panic("to come") }

// Release ends a session, offered or active. When it returns nil the tunnel is gone and the Stop record is safe.
// On an error other than ErrNotFound the tunnel is gone if that was possible, and the sweep does what is left.
func (b *Broker) Release(ctx context.Context, id string, cause aaa.Cause) error { panic("to come") }

// Session returns one session.
func (b *Broker) Session(id string) (Session, bool) { panic("to come") }

// Owned returns the active sessions of a subscriber, lowest slot first.
func (b *Broker) Owned(name string) []Session { panic("to come") }

// Sessions yields the sessions that match, in no order. Those that begin or end meanwhile may be seen or not.
func (b *Broker) Sessions(filter Filter) iter.Seq[Session] { panic("to come") }

// Filter chooses sessions; zero fields match all.
type Filter struct {
	User    string
	Address netip.Addr   // the endpoint is this, or the delegated prefix contains it
	Prefix  netip.Prefix // endpoint or delegated prefix lie within it, or it within the delegated prefix
	Client  netip.Addr   // outer address
	Encap   datapath.Encap
	State   State
}

// Recover makes the lease store and the datapath equal after a start: tunnels with an accepted lease go on, untouched.
// It must return before anything else is asked.
func (b *Broker) Recover(ctx context.Context) error { panic("to come") }

// Run sweeps until ctx is done, then returns nil.
func (b *Broker) Run(ctx context.Context) error { panic("to come") }

// Reload takes over what can change while sessions run: everything but Node and Server; pools may be added, not changed
// nor removed. Running sessions keep what they were told.
func (b *Broker) Reload(config Config) error { panic("to come") }

// Shutdown refuses new offers, takes the pending ones back and, unless tunnels are to be kept for the next process, ends
// every session with CauseAdminReboot.
func (b *Broker) Shutdown(ctx context.Context, keep bool) error { panic("to come") }
