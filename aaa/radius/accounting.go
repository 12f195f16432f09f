// SPDX-License-Identifier: GPL-2.0-or-later

package radius

import (
	"context"
	"fmt"
	"math"
	"time"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2868"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc4372"
	"layeh.com/radius/rfc6911"

	"ddtb/aaa"
)

// AcctOptions say what accounting records look like.
type AcctOptions struct {
	NAS        NAS
	TunnelType uint32 // Tunnel-Type (RFC 2868 section 3.1); 0: 12, IP-in-IP. No value is exact for IPv6 in UDP; Connect-Info is
}

// Accounting tells RADIUS servers of records, one at a time and at once. Billing needs a spool before it: nothing here
// survives the process.
type Accounting struct {
	client *Client
	o      AcctOptions
	now    func() time.Time
}

// NewAccounting makes an Accounting; now is the clock that Acct-Delay-Time is measured with.
func NewAccounting(client *Client, o AcctOptions, now func() time.Time) *Accounting {
	setDefault(&o.TunnelType, 12)
	return &Accounting{client: client, o: o, now: now}
}

// Deliver implements the spool's Deliverer: nil when a server has acknowledged the record, aaa.ErrUnavailable when none
// answered. Any other error is about the record itself and stays however often it is tried.
func (a *Accounting) Deliver(ctx context.Context, record aaa.Record) error {
	_, err := a.client.Exchange(ctx, radius.CodeAccountingRequest, func(p *radius.Packet) error {
		a.encode(p, record)
		return nil
	})
	return err
}

// encode writes a record. The attributes that identify a session to billing systems (User-Name, Acct-Session-Id, NAS-*,
// NAS-Port, NAS-Port-Id) are the same in each record of a session; text is cut to what their tables hold.
func (a *Accounting) encode(p *radius.Packet, r aaa.Record) {
	integer := func(t radius.Type, v uint32) { p.Add(t, radius.NewInteger(v)) }
	integer(rfc2866.AcctStatusType_Type, uint32(r.Status))
	if nas := r.NAS; nas != (aaa.NAS{}) {
		NAS(nas).describe(p)
	} else {
		a.o.NAS.describe(p)
	}
	integer(rfc2869.EventTimestamp_Type, unixSeconds(r.Time))
	integer(rfc2866.AcctDelayTime_Type, seconds(a.now().Sub(r.Time)))
	if r.Status == aaa.StatusOn || r.Status == aaa.StatusOff {
		if r.Cause != 0 {
			integer(rfc2866.AcctTerminateCause_Type, uint32(r.Cause))
		}
		return
	}
	addText(p, rfc2866.AcctSessionID_Type, r.Session, 64)
	addText(p, rfc2865.UserName_Type, r.Subscriber.Name, 253)
	for _, class := range r.Subscriber.Class {
		p.Add(rfc2865.Class_Type, class)
	}
	if r.Subscriber.CUI != nil {
		p.Add(rfc4372.ChargeableUserIdentity_Type, r.Subscriber.CUI)
	}
	if r.Subscriber.Authentic != 0 {
		integer(rfc2866.AcctAuthentic_Type, uint32(r.Subscriber.Authentic))
	}
	integer(rfc2865.ServiceType_Type, uint32(rfc2865.ServiceType_Value_FramedUser))
	integer(rfc2865.NASPortType_Type, uint32(rfc2865.NASPortType_Value_Virtual))
	integer(rfc2865.NASPort_Type, r.TunnelID)
	addText(p, rfc2869.NASPortID_Type, fmt.Sprintf("tunnel-%d", r.TunnelID), 32)
	a.encodeTunnel(p, r)
	if r.Status == aaa.StatusInterim || r.Status == aaa.StatusStop {
		encodeUsage(p, r)
	}
	if r.Status == aaa.StatusStop {
		integer(rfc2866.AcctTerminateCause_Type, uint32(r.Cause))
	}
}

// encodeTunnel writes what the tunnel is, inside and outside.
func (a *Accounting) encodeTunnel(p *radius.Packet, r aaa.Record) {
	if r.Endpoint.Is6() {
		p.Add(rfc6911.FramedIPv6Address_Type, radius.Attribute(r.Endpoint.AsSlice()))
	}
	if r.Prefix.IsValid() {
		p.Add(attrDelegatedPrefix, formatPrefix(r.Prefix))
	}
	for _, prefix := range r.Further {
		p.Add(attrDelegatedPrefix, formatPrefix(prefix))
	}
	for _, route := range r.Routes {
		p.Add(attrFramedIPv6Route, radius.Attribute(route.String()+" :: 1"))
	}
	const tunnelMediumIPv4 = 1
	p.Add(rfc2868.TunnelType_Type, radius.NewInteger(a.o.TunnelType)) // the first octet is the tag, 0
	p.Add(rfc2868.TunnelMediumType_Type, radius.NewInteger(tunnelMediumIPv4))
	addText(p, rfc2868.TunnelClientEndpoint_Type, r.Client.Addr().String(), 64)
	addText(p, rfc2868.TunnelServerEndpoint_Type, r.Server.Addr().String(), 64)
	addText(p, rfc2868.TunnelAssignmentID_Type, fmt.Sprintf("%d", r.TunnelID), 32)
	caller, called := r.Client.String(), r.Server.String()
	if r.Client.Port() == 0 { // protocol 41
		caller, called = r.Client.Addr().String(), r.Server.Addr().String()
	}
	addText(p, rfc2865.CallingStationID_Type, caller, 50)
	addText(p, rfc2865.CalledStationID_Type, called, 50)
	addText(p, rfc2869.ConnectInfo_Type, r.Encap, 32)
}

// encodeUsage writes time and counters, the high words where there are any (RFC 2869 sections 5.1 and 5.2).
func encodeUsage(p *radius.Packet, r aaa.Record) {
	integer := func(t radius.Type, v uint64) { p.Add(t, radius.NewInteger(uint32(v))) }
	integer(rfc2866.AcctSessionTime_Type, uint64(seconds(r.SessionTime)))
	integer(rfc2866.AcctInputOctets_Type, r.Octets.Input)
	integer(rfc2866.AcctOutputOctets_Type, r.Octets.Output)
	integer(rfc2869.AcctInputGigawords_Type, r.Octets.Input>>32)
	integer(rfc2869.AcctOutputGigawords_Type, r.Octets.Output>>32)
	integer(rfc2866.AcctInputPackets_Type, r.Packets.Input)
	integer(rfc2866.AcctOutputPackets_Type, r.Packets.Output)
}

// seconds rounds a duration to what an attribute holds.
func seconds(d time.Duration) uint32 {
	return uint32(min(max(d, 0)/time.Second, math.MaxUint32))
}

func unixSeconds(t time.Time) uint32 {
	return uint32(min(max(t.Unix(), 0), math.MaxUint32))
}
