// SPDX-License-Identifier: GPL-2.0-or-later

package fleet

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"ddtb/aaa"
	"ddtb/provision"
	"ddtb/provision/datapath"
)

// Bounds of what is read: a session's hash is written by us, but whoever may write to Redis can write anything.
const (
	maxField   = 4096 // octets of one value
	maxClasses = 64
)

// clock layout: a moment as people read it, to the millisecond.
const moment = "2006-01-02T15:04:05.000Z"

// sessionHash gives a session as the fields and values of its hash.
func sessionHash(s Session) []string {
	out := []string{
		"user", s.Subscriber.Name,
		"node", s.Node,
		"type", s.Encap.String(),
		"client", s.Client.String(),
		"server", s.Local.String(),
		"pool", s.Pool,
		"endpoint", s.Endpoint.String(),
		"since", s.Since.UTC().Format(moment),
		"seen", s.Seen.UTC().Format(moment),
		"octets_in", number(s.Traffic.RxBytes),
		"octets_out", number(s.Traffic.TxBytes),
		"packets_in", number(s.Traffic.RxPackets),
		"packets_out", number(s.Traffic.TxPackets),
	}
	if s.Prefix.IsValid() {
		out = append(out, "prefix", s.Prefix.String())
	}
	if s.Routes.Len() > 0 {
		out = append(out, "routes", s.Routes.String())
	}
	if s.Subscriber.Anonymous {
		out = append(out, "anonymous", "yes")
	}
	if len(s.Subscriber.Class) > 0 {
		out = append(out, "class", classText(s.Subscriber.Class))
	}
	if rate := s.Subscriber.Rate; rate != (aaa.Rate{}) {
		out = append(out, "rate", number(rate.Up)+"/"+number(rate.Down))
	}
	return out
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// classText shows Class attributes as RADIUS tools show octets: 0x and hexadecimal digits, a comma between two.
func classText(class [][]byte) string {
	texts := make([]string, len(class))
	for i, c := range class {
		texts[i] = "0x" + hex.EncodeToString(c)
	}
	return strings.Join(texts, ",")
}

// hash reads the fields of one and keeps the first error.
type hash struct {
	fields map[string]string
	err    error
}

func (h *hash) fail(key string, err error) {
	if h.err == nil {
		h.err = fmt.Errorf("%s: %.80q: %w", key, h.fields[key], err)
	}
}

var errLong = errors.New("too long")

func (h *hash) text(key string) string {
	value := h.fields[key]
	if len(value) > maxField {
		h.fail(key, errLong)
		return ""
	}
	return value
}

// field reads a value that has to be there.
func field[T any](h *hash, key string, parse func(string) (T, error)) T {
	value, err := parse(h.text(key))
	if err != nil {
		h.fail(key, err)
	}
	return value
}

// option reads a value that may be missing.
func option[T any](h *hash, key string, parse func(string) (T, error)) (value T) {
	if h.fields[key] == "" {
		return value
	}
	return field(h, key, parse)
}

func parseNumber(text string) (uint64, error) { return strconv.ParseUint(text, 10, 64) }

func parseMoment(text string) (time.Time, error) { return time.Parse(moment, text) }

func parseEncap(text string) (datapath.Encap, error) {
	for _, encap := range []datapath.Encap{datapath.V6UDPV4, datapath.V6V4} {
		if text == encap.String() {
			return encap, nil
		}
	}
	return 0, errors.New("no encapsulation of ours")
}

func parseClass(text string) ([][]byte, error) {
	parts := strings.SplitN(text, ",", maxClasses)
	out := make([][]byte, len(parts))
	for i, part := range parts {
		digits, ok := strings.CutPrefix(part, "0x")
		octets, err := hex.DecodeString(digits)
		if !ok || err != nil {
			return nil, errors.New("0x and hexadecimal digits expected")
		}
		out[i] = octets
	}
	return out, nil
}

func parseRate(text string) (aaa.Rate, error) {
	up, down, ok := strings.Cut(text, "/")
	u, err := parseNumber(up)
	d, err2 := parseNumber(down)
	if !ok || err != nil || err2 != nil {
		return aaa.Rate{}, errors.New("up/down in bit/s expected")
	}
	return aaa.Rate{Up: u, Down: d}, nil
}

// parseRoutes reads datapath.Prefixes.
func parseRoutes(text string) (datapath.Prefixes, error) {
	fields := strings.Fields(text)
	if len(fields) > datapath.MaxRoutes {
		return datapath.Prefixes{}, fmt.Errorf("%d routes, at most %d expected", len(fields), datapath.MaxRoutes)
	}
	var routes []netip.Prefix
	for _, field := range fields {
		route, err := netip.ParsePrefix(field)
		if err != nil {
			return datapath.Prefixes{}, err
		}
		routes = append(routes, route)
	}
	return datapath.PrefixesOf(routes...), nil
}

// readSession reads what sessionHash wrote.
func readSession(id string, fields map[string]string) (Session, error) {
	h := &hash{fields: fields}
	s := Session{Node: h.text("node"), Session: provision.Session{
		ID: id, State: provision.Active, Pool: h.text("pool"),
		Subscriber: aaa.Subscriber{
			Name: h.text("user"), Anonymous: h.text("anonymous") == "yes",
			Class: option(h, "class", parseClass), Rate: option(h, "rate", parseRate),
		},
		Encap:    field(h, "type", parseEncap),
		Client:   field(h, "client", netip.ParseAddrPort),
		Local:    field(h, "server", netip.ParseAddrPort),
		Endpoint: field(h, "endpoint", netip.ParseAddr),
		Prefix:   option(h, "prefix", netip.ParsePrefix),
		Routes:   option(h, "routes", parseRoutes),
		Since:    field(h, "since", parseMoment),
		Seen:     field(h, "seen", parseMoment),
		Traffic: datapath.Counters{
			RxBytes: field(h, "octets_in", parseNumber), TxBytes: field(h, "octets_out", parseNumber),
			RxPackets: field(h, "packets_in", parseNumber), TxPackets: field(h, "packets_out", parseNumber),
		},
	}}
	if h.err != nil {
		return Session{}, fmt.Errorf("session %.40q: %w", id, h.err)
	}
	return s, nil
}

// nodeHash gives a server as the fields and values of its hash.
func nodeHash(n Node) []string {
	return []string{
		"address", n.Address.String(),
		"epoch", strconv.FormatInt(n.Epoch.UnixMilli(), 10),
		"load", strconv.FormatFloat(n.Load(), 'f', 4, 64),
		"sessions", strconv.Itoa(n.Sessions),
		"capacity", strconv.Itoa(n.Capacity),
		"version", n.Version,
		"state", string(n.State),
	}
}

// readNode reads what nodeHash wrote.
func readNode(name string, seen time.Time, fields map[string]string) (Node, error) {
	h := &hash{fields: fields}
	n := Node{
		Name: name, Seen: seen, Version: h.text("version"), State: NodeState(h.text("state")),
		Address: field(h, "address", netip.ParseAddr), Sessions: field(h, "sessions", strconv.Atoi), Capacity: field(h, "capacity", strconv.Atoi),
	}
	epoch := field(h, "epoch", func(text string) (int64, error) { return strconv.ParseInt(text, 10, 64) })
	n.Epoch = time.UnixMilli(epoch).UTC()
	if h.err != nil {
		return Node{}, fmt.Errorf("server %.40q: %w", name, h.err)
	}
	return n, nil
}

// eventFields gives an event as the fields and values of an entry of the stream.
func eventFields(e Event) []string {
	out := []string{"kind", string(e.Kind), "node", e.Node, "time", e.Time.UTC().Format(moment)}
	if e.Kind == EventFailover {
		return out
	}
	s := e.Session
	out = append(out, "session", s.ID, "user", s.Subscriber.Name, "owner", s.Owner, "pool", s.Pool, "endpoint", s.Endpoint.String(),
		"client", s.Client.String(), "type", s.Encap.String(), "since", s.Since.UTC().Format(moment))
	if s.Prefix.IsValid() {
		out = append(out, "prefix", s.Prefix.String())
	}
	if s.Routes.Len() > 0 {
		out = append(out, "routes", s.Routes.String())
	}
	if e.Cause != 0 {
		out = append(out, "cause", e.Cause.String())
	}
	return out
}

// readEvent reads what eventFields wrote, but for the cause, which is for people.
func readEvent(fields map[string]string) (Event, error) {
	h := &hash{fields: fields}
	e := Event{Time: field(h, "time", parseMoment), Node: h.text("node"), Kind: provision.EventKind(h.text("kind"))}
	if e.Kind != EventFailover {
		e.Session = Session{Node: e.Node, Session: provision.Session{
			ID: h.text("session"), Owner: h.text("owner"), Pool: h.text("pool"), Subscriber: aaa.Subscriber{Name: h.text("user")},
			Endpoint: field(h, "endpoint", netip.ParseAddr), Prefix: option(h, "prefix", netip.ParsePrefix),
			Routes: option(h, "routes", parseRoutes),
			Client: field(h, "client", netip.ParseAddrPort), Encap: field(h, "type", parseEncap), Since: field(h, "since", parseMoment),
		}}
	}
	if h.err != nil {
		return Event{}, fmt.Errorf("event: %w", h.err)
	}
	return e, nil
}
