// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"ddtb/provision"
	"ddtb/provision/datapath"
)

func (s *Server) drops(w http.ResponseWriter, r *http.Request) error {
	out := []Drop{}
	if s.Drops == nil {
		writeJSON(w, http.StatusOK, out)
		return nil
	}
	drops, err := s.Drops.Drops(r.Context())
	if err != nil {
		return err
	}
	for _, d := range drops {
		drop := Drop{
			Reason: string(d.Reason), Packets: d.Packets, Tunnel: d.Tunnel, Remote: d.Remote, Inner: d.Inner, Last: d.Last.UTC(),
		}
		if session, ok := s.Broker.Tunnel(d.Tunnel); ok {
			drop.Session = session.ID
		}
		out = append(out, drop)
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// dropFilter chooses drops by tunnel.
type dropFilter struct {
	tunnel uint32          // 0: any
	user   string          // who has a session by the tunnel; "": any
	reason datapath.Reason // "": any
}

func readDropFilter(q url.Values) (f dropFilter, err error) {
	p := params{q, nil}
	f.user, f.reason = p.text("user"), datapath.Reason(p.text("reason"))
	if f.reason != "" && !slices.Contains(datapath.Reasons(), f.reason) {
		p.fail("reason", string(f.reason), "a reason, such as "+string(datapath.OuterSource))
	}
	if text := p.text("tunnel"); text != "" {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil || id == 0 {
			p.fail("tunnel", text, "the number of a tunnel")
		}
		f.tunnel = uint32(id)
	}
	return f, p.done()
}

// tunnelDrops streams what was dropped of single tunnels.
func (s *Server) tunnelDrops(w http.ResponseWriter, r *http.Request) error {
	filter, err := readDropFilter(r.URL.Query())
	if err != nil {
		return err
	}
	reporter, ok := s.Drops.(datapath.TunnelDropReporter)
	if !ok {
		return &Error{http.StatusNotImplemented, "the datapath does not tell its drops by tunnel", "the list by reason is there"}
	}
	var his map[uint32]bool // the tunnels of the user
	if filter.user != "" {
		his = map[uint32]bool{}
		for session := range s.Broker.Sessions(provision.Filter{User: filter.user}) {
			his[session.TunnelID] = true
		}
	}
	return writeLines(w, func(yield func(TunnelDrop, error) bool) {
		for d, err := range reporter.TunnelDrops(r.Context()) {
			if err != nil {
				yield(TunnelDrop{}, err)
				return
			}
			if filter.tunnel != 0 && filter.tunnel != d.Tunnel || filter.reason != "" && filter.reason != d.Reason || his != nil && !his[d.Tunnel] {
				continue
			}
			drop := TunnelDrop{Tunnel: d.Tunnel, Reason: string(d.Reason), Packets: d.Packets}
			if session, ok := s.Broker.Tunnel(d.Tunnel); ok {
				drop.Session, drop.User, drop.Endpoint = session.ID, session.Subscriber.Name, session.Endpoint
			}
			if !yield(drop, nil) {
				return
			}
		}
	})
}
