// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"net"
	"net/netip"
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
	CauseNoSession            ErrorCause = 503
	CauseResources            ErrorCause = 506
	CauseManySessions         ErrorCause = 508
)

// Error implements error.
func (c ErrorCause) Error() string { return fmt.Sprintf("Error-Cause %d", uint32(c)) }

// ErrNoSession: no session matches the Selector.
var ErrNoSession error = CauseNoSession

// DynamicClient is a Dynamic Authorization Client that may ask.
type DynamicClient struct {
	Source netip.Prefix // its address
	Secret []byte
}

// DynamicOptions of a DynamicServer.
type DynamicOptions struct {
	NAS      NAS
	Clients  []DynamicClient
	Sign     bool          // a request without Message-Authenticator is refused
	Window   time.Duration // not 0: Event-Timestamp is required, and no further from now than this
	Rates    []RateSource
	Plans    Plans
	Vendor   uint32
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
		wire, secret, err := d.admit(buf[:n], from)
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
			reply := d.answer(ctx, request, secret, from)
			d.cache.end(key, reply)
			_, _ = conn.WriteToUDPAddrPort(reply, from)
		})
	}
}

// admit checks a datagram as far as silence is the answer (RFC 5176 section 3.4 and 6): the source, the form, the Request
// Authenticator, the Message-Authenticator and the Event-Timestamp.
func (d *DynamicServer) admit(b []byte, from netip.AddrPort) (wire, secret []byte, err error) {
	for _, c := range d.o.Clients {
		if c.Source.Contains(from.Addr()) {
			secret = c.Secret
			break
		}
	}
	if secret == nil {
		return nil, nil, errors.New("not from a known client")
	}
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
	if offset != 0 && !hmac.Equal(messageAuthenticator(wire, zero[:], offset, secret), wire[offset+2:offset+messageAuthenticatorLen]) {
		return nil, nil, errMA
	}
	return wire, secret, d.timely(wire, secret)
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
func (d *DynamicServer) answer(ctx context.Context, wire, secret []byte, from netip.AddrPort) []byte {
	request, err := radius.Parse(wire, secret)
	ack, nak := radius.CodeDisconnectACK, radius.CodeDisconnectNAK
	if wire[0] == byte(radius.CodeCoARequest) {
		ack, nak = radius.CodeCoAACK, radius.CodeCoANAK
	}
	if err == nil {
		err = d.act(ctx, request)
	}
	code := ack
	if err != nil {
		code = nak
	}
	d.o.Log.Info().Stringer("from", from).Int("request", int(wire[0])).Err(err).Msg("dynamic authorization")
	return d.encodeReply(wire, secret, code, err)
}

// encodeReply makes a signed reply; its Message-Authenticator is computed over the Request Authenticator.
func (d *DynamicServer) encodeReply(request, secret []byte, code radius.Code, err error) []byte {
	reply := &radius.Packet{Code: code, Identifier: request[1], Secret: secret, Authenticator: [16]byte(request[4:headerLen])}
	reply.Add(attrMessageAuthenticator, make(radius.Attribute, messageAuthenticatorLen-2))
	if err != nil {
		const attrErrorCause = 101
		cause := CauseResources
		errors.As(err, &cause)
		reply.Add(attrErrorCause, radius.NewInteger(uint32(cause)))
	}
	unsigned, errs := reply.MarshalBinary()
	if errs != nil {
		panic("a reply of two attributes does not fit: " + errs.Error())
	}
	sign(unsigned, request[4:headerLen], secret)
	copy(reply.Attributes[0].Attribute, unsigned[headerLen+2:])
	wire, errs := reply.Encode()
	if errs != nil {
		panic("a reply of two attributes does not fit: " + errs.Error())
	}
	return wire
}

// act finds what is wanted and has it done.
func (d *DynamicServer) act(ctx context.Context, p *radius.Packet) error {
	if err := d.o.NAS.isMeant(p); err != nil {
		return err
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
