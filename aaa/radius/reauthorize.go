// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"context"
	"fmt"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc3576"

	"ddtb/aaa"
)

// Reauthorize implements aaa.Reauthorizer, for Termination-Action = RADIUS-Request (RFC 2865 section 5.29).
//
// The request has Service-Type Authorize-Only, the State of the last Access-Accept, and no credential, as RFC 5080 section
// 2.1.1 allows it: passwords are not kept, and who logged in by DIGEST-MD5 or CRAM-MD5 never gave one. Acct-Session-Id and
// NAS-Port say which session it is about. The identity stays as it was: a User-Name in the Access-Accept changes nothing.
func (a *Authenticator) Reauthorize(ctx context.Context, r aaa.Renewal) (aaa.Subscriber, error) {
	if r.Subscriber.Backend != backendName {
		return aaa.Subscriber{}, fmt.Errorf("radius: %w: %q let %s in", aaa.ErrUnknown, r.Subscriber.Backend, r.Subscriber.Name)
	}
	name := r.Subscriber.Name
	if r.Subscriber.Anonymous {
		name = a.o.Guest.Username
	}
	reply, err := a.ask(ctx, name, func(p *radius.Packet) error {
		p.Add(rfc2865.ServiceType_Type, radius.NewInteger(uint32(rfc3576.ServiceType_Value_AuthorizeOnly)))
		p.Add(rfc2865.State_Type, r.Subscriber.Reauthorize)
		a.describe(p, r.Client, r.Server)
		addText(p, rfc2866.AcctSessionID_Type, r.Session, 64)
		p.Add(rfc2865.NASPort_Type, radius.NewInteger(r.TunnelID))
		addText(p, rfc2869.NASPortID_Type, fmt.Sprintf("tunnel-%d", r.TunnelID), 32)
		return nil
	})
	if err != nil {
		return aaa.Subscriber{}, fmt.Errorf("radius: authorize %s again: %w", name, err)
	}
	s, err := a.granted(reply, name)
	s.Name, s.Anonymous = r.Subscriber.Name, r.Subscriber.Anonymous
	return s, err
}
