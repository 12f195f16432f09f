// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"layeh.com/radius"
	"layeh.com/radius/rfc2869"

	"ddtb/aaa"
)

// DynamicHandler acts on what a Dynamic Authorization Client wants (RFC 5176). Both return nil when it is done, or an
// error that wraps ErrNoSession or is an ErrorCause.
type DynamicHandler interface {
	// Disconnect ends the session with Acct-Terminate-Cause Admin-Reset.
	Disconnect(ctx context.Context, session Selector) error
	// Change applies what change sets to the session.
	Change(ctx context.Context, session Selector, change Change) error
}

// Selector names a session by what the request gave; all that is set must match, and something is set.
type Selector struct {
	Session  string // Acct-Session-Id
	User     string // User-Name
	Tunnel   uint32 // NAS-Port or NAS-Port-Id, 0: not given
	Client   netip.AddrPort
	Endpoint netip.Addr
	Prefix   netip.Prefix
	CUI      string
}

// Change is what a CoA-Request sets; nil pointers change nothing.
type Change struct {
	Rate            *aaa.Rate
	Filter          *string // by which the rate was named, if it was
	SessionTimeout  *time.Duration
	IdleTimeout     *time.Duration
	InterimInterval *time.Duration
	Class           [][]byte
}

// ErrorCause is why a request was refused (RFC 5176 section 3.5).
type ErrorCause uint32

// The causes used here.
const (
	CauseUnsupportedAttribute ErrorCause = 401
	CauseMissingAttribute     ErrorCause = 402
	CauseNASMismatch          ErrorCause = 403
	CauseInvalidRequest       ErrorCause = 404
	CauseUnsupportedService   ErrorCause = 405
	CauseInvalidValue         ErrorCause = 407
	CauseProhibited           ErrorCause = 501
	CauseNoSession            ErrorCause = 503
	CauseNotRemovable         ErrorCause = 504
	CauseResources            ErrorCause = 506
	CauseManySessions         ErrorCause = 508
)

// Error implements error.
func (c ErrorCause) Error() string { return fmt.Sprintf("Error-Cause %d", uint32(c)) }

const attrErrorCause = 101

// ErrNoSession: no session matches the Selector.
var ErrNoSession error = CauseNoSession

// DynamicClient is a Dynamic Authorization Client that may ask.
type DynamicClient struct {
	Source       netip.Prefix // its address
	Secret       []byte
	NoDisconnect bool // it may not end sessions
	NoChange     bool // it may not change them
}

// may tells whether the client may ask for this.
func (c *DynamicClient) may(code radius.Code) error {
	if code == radius.CodeDisconnectRequest && c.NoDisconnect || code == radius.CodeCoARequest && c.NoChange {
		return fmt.Errorf("not for this client: %w", CauseProhibited)
	}
	return nil
}

// DynamicOptions of a DynamicServer.
type DynamicOptions struct {
	NAS      NAS
	Clients  []DynamicClient
	Sign     bool          // a request without Message-Authenticator is refused
	Window   time.Duration // not 0: Event-Timestamp is required, and no further from now than this
	Rates    []RateSource
	Plans    aaa.Plans
	Log      zerolog.Logger
	Now      func() time.Time
	Parallel int // requests acted on at a time, more are dropped and will be sent again; 0: 64
}

// DynamicServer is a Dynamic Authorization Server (RFC 5176) on UDP.
type DynamicServer struct {
	o       DynamicOptions
	handler DynamicHandler
	cache   replyCache
	acting  chan struct{}
	wg      sync.WaitGroup
}

// NewDynamicServer makes a server that has handler act.
func NewDynamicServer(handler DynamicHandler, o DynamicOptions) *DynamicServer {
	setDefault(&o.Parallel, 64)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rates == nil {
		o.Rates = RateSources
	}
	return &DynamicServer{o: o, handler: handler, acting: make(chan struct{}, o.Parallel),
		cache: replyCache{entries: make(map[requestKey][]byte)}}
}

// Serve answers requests on conn until ctx is done; it closes conn.
func (d *DynamicServer) Serve(ctx context.Context, conn *net.UDPConn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer d.wg.Wait()
	buf := make([]byte, maxLen)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("dynamic authorization: %w", err)
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		wire, client, err := d.admit(buf[:n], from)
		if err != nil {
			d.o.Log.Debug().Err(err).Stringer("from", from).Msg("dynamic authorization request dropped")
			continue
		}
		key := requestKey{from: from, id: wire[1], authenticator: [16]byte(wire[4:headerLen])}
		reply, known := d.cache.begin(key, d.o.Now())
		if known {
			if reply != nil {
				_, _ = conn.WriteToUDPAddrPort(reply, from)
			}
			continue // still being acted on, or answered again without acting twice
		}
		select {
		case d.acting <- struct{}{}:
		default:
			d.cache.forget(key)
			continue
		}
		request := append([]byte(nil), wire...)
		d.wg.Go(func() {
			defer func() { <-d.acting }()
			reply := d.answer(ctx, request, client, from)
			d.cache.end(key, reply)
			_, _ = conn.WriteToUDPAddrPort(reply, from)
		})
	}
}

// admit checks a datagram as far as silence is the answer (RFC 5176 section 3.4 and 6): the source, the form, the Request
// Authenticator, the Message-Authenticator and the Event-Timestamp.
func (d *DynamicServer) admit(b []byte, from netip.AddrPort) (wire []byte, client *DynamicClient, err error) {
	i := slices.IndexFunc(d.o.Clients, func(c DynamicClient) bool { return c.Source.Contains(from.Addr()) })
	if i < 0 {
		return nil, nil, errors.New("not from a known client")
	}
	client = &d.o.Clients[i]
	secret := client.Secret
	wire, err = trim(b)
	if err != nil {
		return nil, nil, err
	}
	code := radius.Code(wire[0])
	if code != radius.CodeDisconnectRequest && code != radius.CodeCoARequest {
		return nil, nil, fmt.Errorf("code %d is no request of RFC 5176", wire[0])
	}
	if !radius.IsAuthenticRequest(wire, secret) {
		return nil, nil, errors.New("wrong Request Authenticator (another secret?)")
	}
	offset, err := findMA(wire)
	if err != nil {
		return nil, nil, err
	}
	if offset == 0 && d.o.Sign {
		return nil, nil, errNoMA
	}
	var zero [16]byte
	if offset != 0 && !newSigner(secret).valid(wire, zero[:], offset) {
		return nil, nil, errMA
	}
	return wire, client, d.timely(wire, secret)
}

// timely applies the window on Event-Timestamp (RFC 5176 section 6.3).
func (d *DynamicServer) timely(wire, secret []byte) error {
	if d.o.Window == 0 {
		return nil
	}
	p, err := radius.Parse(wire, secret)
	if err != nil {
		return err
	}
	stamp, err := rfc2869.EventTimestamp_Lookup(p)
	if err != nil {
		return errors.New("no Event-Timestamp where one is required")
	}
	if age := d.o.Now().Sub(stamp).Abs(); age > d.o.Window {
		return fmt.Errorf("Event-Timestamp is %v from now, at most %v is accepted", age.Round(time.Second), d.o.Window)
	}
	return nil
}

// answer acts on an authentic request and makes the reply.
func (d *DynamicServer) answer(ctx context.Context, wire []byte, client *DynamicClient, from netip.AddrPort) []byte {
	ack, nak := radius.CodeDisconnectACK, radius.CodeDisconnectNAK
	if wire[0] == byte(radius.CodeCoARequest) {
		ack, nak = radius.CodeCoAACK, radius.CodeCoANAK
	}
	reply := &radius.Packet{Code: ack, Identifier: wire[1], Secret: client.Secret, Authenticator: [16]byte(wire[4:headerLen])}
	reply.Add(attrMessageAuthenticator, make(radius.Attribute, messageAuthenticatorLen-2))
	request, err := radius.Parse(wire, client.Secret)
	if err != nil {
		err = fmt.Errorf("%w: %w", CauseInvalidRequest, err)
	} else if err = returnProxyState(reply, request); err == nil {
		err = d.act(ctx, request, client)
	}
	if err != nil {
		cause := CauseResources
		errors.As(err, &cause)
		reply.Code = nak
		reply.Add(attrErrorCause, radius.NewInteger(uint32(cause)))
	}
	d.o.Log.Info().Stringer("from", from).Int("request", int(wire[0])).Err(err).Msg("dynamic authorization")
	return finish(reply, wire[4:headerLen])
}

// returnProxyState copies what proxies put into a request into its reply, unchanged and in order (RFC 5176 section 3.1).
func returnProxyState(reply, request *radius.Packet) error {
	const room = maxLen - headerLen - messageAuthenticatorLen - 6 // Error-Cause
	length := 0
	for _, state := range values(request, attrProxyState) {
		if length += len(state) + 2; length > room {
			return fmt.Errorf("Proxy-State does not fit into a reply: %w", CauseInvalidRequest)
		}
		reply.Add(attrProxyState, state)
	}
	return nil
}

// finish signs a reply; its Message-Authenticator, the first attribute, is computed over the Request Authenticator.
func finish(reply *radius.Packet, authenticator []byte) []byte {
	unsigned, err := reply.MarshalBinary()
	if err != nil {
		panic("a reply that was counted out does not fit: " + err.Error())
	}
	newSigner(reply.Secret).sign(unsigned, authenticator)
	copy(reply.Attributes[0].Attribute, unsigned[headerLen+2:])
	wire, err := reply.Encode()
	if err != nil {
		panic("a reply that was counted out does not fit: " + err.Error())
	}
	return wire
}

// act finds what is wanted and has it done.
func (d *DynamicServer) act(ctx context.Context, p *radius.Packet, client *DynamicClient) error {
	for _, check := range []func() error{
		func() error { return d.o.NAS.isMeant(p) },
		func() error { return client.may(p.Code) },
		func() error { return supported(p) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	session, err := selector(p)
	if err != nil {
		return err
	}
	if p.Code == radius.CodeDisconnectRequest {
		return d.handler.Disconnect(ctx, session)
	}
	change, err := d.change(p)
	if err != nil {
		return err
	}
	return d.handler.Change(ctx, session, change)
}
