// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"ddtb/aaa"
	"ddtb/aaa/radius"
	"ddtb/cmd/ddtb/config"
	"ddtb/provision"
)

// openDynamic opens the listener for Disconnect- and CoA-Requests (RFC 5176), if one is wanted.
func (d *daemon) openDynamic(c config.Config) error {
	if c.AAA.Dynamic.Listen == "" {
		return nil
	}
	clients, err := dynamicClients(c.AAA.Dynamic.Clients)
	if err != nil {
		return fmt.Errorf("aaa.dynamic: %w", err)
	}
	address, err := netip.ParseAddrPort(c.AAA.Dynamic.Listen)
	if err != nil {
		return fmt.Errorf("aaa.dynamic.listen: %w", err)
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(address))
	if err != nil {
		return fmt.Errorf("aaa.dynamic.listen: %w", explainBind(err))
	}
	d.closers = append(d.closers, conn.Close)
	server := radius.NewDynamicServer(sessions{d.broker}, radius.DynamicOptions{
		NAS: nasOf(c), Clients: clients, Sign: c.AAA.Dynamic.Signed, Window: c.AAA.Dynamic.Window.Duration, Log: d.log,
		Rates: rateSources(c), Plans: c.AAA.Rates(),
	})
	d.back = append(d.back, serves("dynamic authorization", func(ctx context.Context) error { return server.Serve(ctx, conn) }))
	return nil
}

// sessions are those of the broker, ended and changed at the wish of a RADIUS server. It implements radius.DynamicHandler.
type sessions struct{ broker *provision.Broker }

// Disconnect ends every session that matches.
func (d sessions) Disconnect(ctx context.Context, wanted radius.Selector) error {
	found := d.find(wanted)
	if len(found) == 0 {
		return fmt.Errorf("no session matches: %w", radius.ErrNoSession)
	}
	var errs []error
	for _, s := range found {
		if err := d.broker.Release(ctx, s.ID, aaa.CauseAdminReset); err != nil && !errors.Is(err, provision.ErrNotFound) {
			errs = append(errs, fmt.Errorf("%w: %w", radius.CauseNotRemovable, err))
		}
	}
	return errors.Join(errs...)
}

// Change changes the one session that matches. Several are refused: they could not be changed all or none.
func (d sessions) Change(ctx context.Context, wanted radius.Selector, change radius.Change) error {
	found := d.find(wanted)
	switch {
	case len(found) == 0:
		return fmt.Errorf("no session matches: %w", radius.ErrNoSession)
	case len(found) > 1:
		return fmt.Errorf("%d sessions match: %w", len(found), radius.CauseManySessions)
	}
	err := d.broker.Change(ctx, found[0].ID, provision.Change{
		Rate: change.Rate, Filter: change.Filter, SessionTimeout: change.SessionTimeout, IdleTimeout: change.IdleTimeout,
		InterimInterval: change.InterimInterval, Class: change.Class,
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, provision.ErrNotFound):
		return fmt.Errorf("%w: %w", radius.ErrNoSession, err)
	case errors.Is(err, provision.ErrInvalid):
		return fmt.Errorf("%w: %w", radius.CauseInvalidValue, err)
	}
	return fmt.Errorf("%w: %w", radius.CauseResources, err)
}

// find returns the active sessions that match all of wanted, by the narrowest way there is to them.
func (d sessions) find(wanted radius.Selector) []provision.Session {
	var candidates []provision.Session
	add := func(s provision.Session, ok bool) {
		if ok {
			candidates = append(candidates, s)
		}
	}
	switch {
	case wanted.Session != "":
		add(d.broker.Session(wanted.Session))
	case wanted.Tunnel != 0:
		add(d.broker.Tunnel(wanted.Tunnel))
	case wanted.User != "":
		candidates = d.broker.Owned(wanted.User)
	default:
		filter := provision.Filter{Address: wanted.Endpoint, Prefix: wanted.Prefix, Client: wanted.Client.Addr()}
		candidates = slices.Collect(d.broker.Sessions(filter))
	}
	return slices.DeleteFunc(candidates, func(s provision.Session) bool {
		return s.State != provision.Active || !matches(s, wanted)
	})
}

// matches tells whether a session is all that wanted says.
func matches(s provision.Session, wanted radius.Selector) bool {
	return (wanted.Session == "" || s.ID == wanted.Session) &&
		(wanted.User == "" || s.Subscriber.Name == wanted.User) &&
		(wanted.Tunnel == 0 || s.TunnelID == wanted.Tunnel) &&
		(!wanted.Client.Addr().IsValid() || s.Client.Addr() == wanted.Client.Addr()) &&
		(wanted.Client.Port() == 0 || s.Client.Port() == wanted.Client.Port()) &&
		(!wanted.Endpoint.IsValid() || s.Endpoint == wanted.Endpoint) &&
		(!wanted.Prefix.IsValid() || s.Prefix == wanted.Prefix || s.Routes.Has(wanted.Prefix)) &&
		(wanted.CUI == "" || string(s.Subscriber.CUI) == wanted.CUI)
}
