// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc3162"

	"ddtb/aaa"
)

// NAS is how this server names itself to RADIUS servers.
type NAS struct {
	Identifier string     // NAS-Identifier, unique to this node
	Address    netip.Addr // NAS-IP-Address or NAS-IPv6-Address; invalid: none
}

// AuthOptions say how subscribers are verified.
type AuthOptions struct {
	NAS     NAS
	Digest  DigestMode
	Style   DigestStyle
	Cram    bool         // the server has our policy for CRAM-MD5
	Vendor  uint32       // number our vendor attributes go by; 0: DocumentationVendor
	Guest   aaa.Password // account that ANONYMOUS logins are mapped to; "" for none
	Rates   []RateSource // where rates are looked for, in order; nil: RateSources
	Plans   aaa.Plans
	Secured bool // every server is reached by RadSec: what DigestHA1 needs unless it is forced
	Force   bool // DigestHA1 even so
}

// Authenticator implements aaa.Authenticator over a Client.
type Authenticator struct {
	client     *Client
	o          AuthOptions
	mechanisms []aaa.Mechanism
}

// NewAuthenticator says what is wrong with o.
func NewAuthenticator(client *Client, o AuthOptions) (*Authenticator, error) {
	if o.NAS.Identifier == "" {
		return nil, errors.New("a NAS-Identifier is required (RFC 2865 section 4.1)")
	}
	if o.Digest == DigestHA1 && !o.Secured && !o.Force {
		return nil, errors.New(`digest = "radius-ha1" hands out password equivalents: use RadSec for every server, or force it`)
	}
	setDefault(&o.Vendor, DocumentationVendor)
	if o.Rates == nil {
		o.Rates = RateSources
	}
	return &Authenticator{client: client, o: o, mechanisms: o.mechanisms()}, nil
}

// mechanisms are those that can be verified with these options.
func (o AuthOptions) mechanisms() []aaa.Mechanism {
	var out []aaa.Mechanism
	if o.Digest != DigestOff {
		out = append(out, aaa.MechanismDigestMD5)
	}
	if o.Cram {
		out = append(out, aaa.MechanismCramMD5)
	}
	out = append(out, aaa.MechanismPlain)
	if o.Guest.Username != "" {
		out = append(out, aaa.MechanismAnonymous)
	}
	return out
}

// Mechanisms implements aaa.Authenticator.
func (a *Authenticator) Mechanisms() []aaa.Mechanism { return a.mechanisms }

// Authenticate implements aaa.Authenticator. A RADIUS server does not tell an unknown subscriber from a wrong password, so
// an Access-Reject is aaa.ErrRejected and ends a chain.
func (a *Authenticator) Authenticate(ctx context.Context, login aaa.Login) (aaa.Subscriber, error) {
	name := login.Credential.User()
	var ask func(context.Context, aaa.Login) (*Reply, string, error)
	switch c := login.Credential.(type) {
	case aaa.Password:
		ask = a.password(c)
	case aaa.Anonymous:
		if a.o.Guest.Username == "" {
			return aaa.Subscriber{}, fmt.Errorf("radius: %w: no account for anonymous logins", aaa.ErrUnknown)
		}
		name, ask = a.o.Guest.Username, a.password(a.o.Guest)
	case aaa.Digest:
		ask = a.digest(c)
	case aaa.Cram:
		ask = a.cram(c)
	}
	if name == "" {
		return aaa.Subscriber{}, fmt.Errorf("radius: %w: empty name", aaa.ErrRejected)
	}
	reply, proof, err := ask(ctx, login)
	if err != nil {
		return aaa.Subscriber{}, fmt.Errorf("radius: %s: %w", name, err)
	}
	s, err := a.granted(reply, name)
	if err != nil {
		return aaa.Subscriber{}, err
	}
	s.ResponseAuth = proof
	s.Anonymous = login.Credential.Mechanism() == aaa.MechanismAnonymous
	return s, nil
}

// backendName is what subscribers are marked with.
const backendName = "radius"

// granted is what an Access-Accept gives.
func (a *Authenticator) granted(reply *Reply, name string) (aaa.Subscriber, error) {
	s, err := subscriber(reply.Packet, name, a.o.Rates, a.o.Plans)
	if err != nil {
		return aaa.Subscriber{}, fmt.Errorf("radius: server %s: %s: %w: Access-Accept: %w", reply.Server, name, aaa.ErrUnavailable, err)
	}
	s.Backend = backendName
	return s, nil
}

// request sends an Access-Request and returns the Access-Accept.
func (a *Authenticator) request(ctx context.Context, login aaa.Login, name string, build Builder) (*Reply, error) {
	return a.ask(ctx, name, func(p *radius.Packet) error {
		if err := build(p); err != nil {
			return err
		}
		a.describe(p, login.Client, login.Server)
		p.Add(rfc2865.ServiceType_Type, radius.NewInteger(uint32(rfc2865.ServiceType_Value_FramedUser)))
		addText(p, rfc2869.ConnectInfo_Type, "TSP "+string(login.Credential.Mechanism()), 50)
		return nil
	})
}

// ask sends an Access-Request about a name and returns the Access-Accept.
func (a *Authenticator) ask(ctx context.Context, name string, build Builder) (*Reply, error) {
	reply, err := a.client.Exchange(ctx, radius.CodeAccessRequest, func(p *radius.Packet) error {
		if len(name) > 253 {
			return fmt.Errorf("%w: the name has %d octets, at most 253 fit", aaa.ErrRejected, len(name))
		}
		p.Add(rfc2865.UserName_Type, radius.Attribute(name))
		return build(p)
	})
	if err != nil {
		return nil, err
	}
	if reply.Packet.Code == radius.CodeAccessAccept {
		return reply, served(reply)
	}
	if reply.Packet.Code == radius.CodeAccessReject {
		return nil, fmt.Errorf("%w by server %s%s", aaa.ErrRejected, reply.Server, quoted(replyMessage(reply.Packet)))
	}
	return nil, fmt.Errorf("%w: server %s sent %v, which nothing here can answer", aaa.ErrRejected, reply.Server, reply.Packet.Code)
}

// served takes an Access-Accept for a service that is not given here for the Access-Reject that it is to be taken for (RFC 2865 section
// 5.6): an account for routers' consoles in the same server is none for tunnels.
func served(reply *Reply) error {
	granted, ok := reply.Packet.Lookup(rfc2865.ServiceType_Type)
	if !ok || bytes.Equal(granted, reply.Request.Get(rfc2865.ServiceType_Type)) ||
		bytes.Equal(granted, radius.NewInteger(uint32(rfc2865.ServiceType_Value_FramedUser))) {
		return nil
	}
	return fmt.Errorf("%w: server %s granted Service-Type %v, Framed-User expected", aaa.ErrRejected, reply.Server, rfc2865.ServiceType_Get(reply.Packet))
}

func quoted(message string) string {
	if message == "" {
		return ""
	}
	return fmt.Sprintf(": %q", message)
}

// describe says who asks and where the client is (RFC 2865 section 4.1 demands a NAS; the rest is for the server's policy).
func (a *Authenticator) describe(p *radius.Packet, client, server netip.AddrPort) {
	a.o.NAS.describe(p)
	p.Add(rfc2865.NASPortType_Type, radius.NewInteger(uint32(rfc2865.NASPortType_Value_Virtual)))
	if client.IsValid() {
		addText(p, rfc2865.CallingStationID_Type, client.String(), 50)
	}
	if server.IsValid() {
		addText(p, rfc2865.CalledStationID_Type, server.String(), 50)
	}
}

// describe adds NAS-Identifier and the NAS's address.
func (n NAS) describe(p *radius.Packet) {
	addText(p, rfc2865.NASIdentifier_Type, n.Identifier, 253)
	switch addr := n.Address.Unmap(); {
	case addr.Is4():
		p.Add(rfc2865.NASIPAddress_Type, radius.Attribute(addr.AsSlice()))
	case addr.Is6():
		p.Add(rfc3162.NASIPv6Address_Type, radius.Attribute(addr.AsSlice()))
	}
}

// password is PAP (RFC 2865 section 5.2).
func (a *Authenticator) password(c aaa.Password) func(context.Context, aaa.Login) (*Reply, string, error) {
	return func(ctx context.Context, login aaa.Login) (*Reply, string, error) {
		if c.Password == "" || len(c.Password) > 128 {
			return nil, "", fmt.Errorf("%w: password of %d octets, RADIUS carries 1 to 128", aaa.ErrRejected, len(c.Password))
		}
		reply, err := a.request(ctx, login, c.Username, func(p *radius.Packet) error {
			return rfc2865.UserPassword_SetString(p, c.Password)
		})
		return reply, "", err
	}
}
