// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// Client speaks to a daemon over its socket. Its methods may be called by several goroutines at once. An answer that is
// not a success is an *Error; any other error means that there was no answer.
type Client struct {
	socket string
	http   http.Client
}

// NewClient makes a Client of the socket at path. Nothing is opened before the first call.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{socket: path, http: http.Client{Transport: &http.Transport{
		DialContext:           dial,
		MaxIdleConns:          2,
		IdleConnTimeout:       30 * time.Second,
		ResponseHeaderTimeout: time.Minute,
	}}}
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// SessionFilter chooses sessions; zero fields match all.
type SessionFilter struct {
	User    string
	Address netip.Addr   // the endpoint, or an address within the delegated prefix
	Prefix  netip.Prefix // that overlaps endpoint or delegated prefix
	Client  netip.Addr   // outer address
	Encap   string       // "v6udpv4", "v6v4"
	State   string       // "offered", "active", "ending"
	All     bool         // of all servers, not only of the one that is asked; those of others are active ones
}

// query gives the filter as the parameters of /v1/sessions.
func (f SessionFilter) query() url.Values {
	q := url.Values{}
	set(q, "user", f.User, f.User != "")
	set(q, "address", f.Address.String(), f.Address.IsValid())
	set(q, "prefix", f.Prefix.String(), f.Prefix.IsValid())
	set(q, "client", f.Client.String(), f.Client.IsValid())
	set(q, "encap", f.Encap, f.Encap != "")
	set(q, "state", f.State, f.State != "")
	set(q, "nodes", "all", f.All)
	return q
}

// LeaseFilter chooses leases; zero fields match all.
type LeaseFilter struct {
	Pool    string
	User    string
	Address netip.Addr // the endpoint, or an address within the prefix
	State   string     // "active", "idle", "reserved", "displaced"; "": all but the last
}

// query gives the filter as the parameters of /v1/leases.
func (f LeaseFilter) query() url.Values {
	q := url.Values{}
	set(q, "pool", f.Pool, f.Pool != "")
	set(q, "user", f.User, f.User != "")
	set(q, "address", f.Address.String(), f.Address.IsValid())
	set(q, "state", f.State, f.State != "")
	return q
}

func set(q url.Values, key, value string, ok bool) {
	if ok {
		q.Set(key, value)
	}
}

// Health asks whether the daemon serves. A daemon that does not yet answers too, with Ready false.
func (c *Client) Health(ctx context.Context) (Health, error) {
	var health Health
	response, err := c.send(ctx, http.MethodGet, "/v1/health", nil, nil)
	if err != nil {
		return health, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusServiceUnavailable {
		return health, readError(response)
	}
	return health, decode(response.Body, &health)
}

// Status asks for the daemon at a glance.
func (c *Client) Status(ctx context.Context) (out Status, err error) {
	return out, c.get(ctx, "/v1/status", &out)
}

// Config asks for the configuration in force.
func (c *Client) Config(ctx context.Context) (out Config, err error) {
	return out, c.get(ctx, "/v1/config", &out)
}

// Sessions yields the sessions that match, as they arrive. An error ends it.
func (c *Client) Sessions(ctx context.Context, filter SessionFilter) iter.Seq2[Session, error] {
	return stream[Session](ctx, c, "/v1/sessions", filter.query())
}

// Session asks for one session.
func (c *Client) Session(ctx context.Context, id string) (out Session, err error) {
	return out, c.get(ctx, "/v1/sessions/"+url.PathEscape(id), &out)
}

// Kick ends a session.
func (c *Client) Kick(ctx context.Context, id string) (out Kicked, err error) {
	return out, c.call(ctx, http.MethodDelete, "/v1/sessions/"+url.PathEscape(id), nil, nil, &out)
}

// KickUser ends all sessions of a user.
func (c *Client) KickUser(ctx context.Context, user string) (out Kicked, err error) {
	return out, c.call(ctx, http.MethodDelete, "/v1/sessions", url.Values{"user": {user}}, nil, &out)
}

// Events yields what happens to sessions from now on, until ctx is done or the daemon goes.
func (c *Client) Events(ctx context.Context) iter.Seq2[Event, error] {
	return stream[Event](ctx, c, "/v1/events", nil)
}

// Pools asks for all pools.
func (c *Client) Pools(ctx context.Context) (out []Pool, err error) {
	return out, c.get(ctx, "/v1/pools", &out)
}

// Pool asks for one pool.
func (c *Client) Pool(ctx context.Context, name string) (out Pool, err error) {
	return out, c.get(ctx, "/v1/pools/"+url.PathEscape(name), &out)
}

// Leases yields the leases that match. An error ends it.
func (c *Client) Leases(ctx context.Context, filter LeaseFilter) iter.Seq2[Lease, error] {
	return stream[Lease](ctx, c, "/v1/leases", filter.query())
}

// Lease asks for one lease.
func (c *Client) Lease(ctx context.Context, pool string, index uint32) (out Lease, err error) {
	return out, c.get(ctx, leasePath(pool, index), &out)
}

// ReleaseLease ends a lease, and the session that holds it.
func (c *Client) ReleaseLease(ctx context.Context, pool string, index uint32) error {
	return c.call(ctx, http.MethodDelete, leasePath(pool, index), nil, nil, nil)
}

// Reserve keeps an index for a user for ever (on) or no longer (off).
func (c *Client) Reserve(ctx context.Context, pool string, index uint32, user string, on bool) error {
	path := leasePath(pool, index) + "/reservation"
	if on {
		return c.call(ctx, http.MethodPut, path, nil, Reservation{User: user}, nil)
	}
	return c.call(ctx, http.MethodDelete, path, url.Values{"user": {user}}, nil, nil)
}

func leasePath(pool string, index uint32) string {
	return "/v1/leases/" + url.PathEscape(pool) + "/" + strconv.FormatUint(uint64(index), 10)
}

// Users asks for all local accounts, sorted by name.
func (c *Client) Users(ctx context.Context) ([]User, error) {
	var out []User
	for user, err := range stream[User](ctx, c, "/v1/users", nil) {
		if err != nil {
			return nil, err
		}
		out = append(out, user)
	}
	return out, nil
}

// User asks for one local account.
func (c *Client) User(ctx context.Context, name string) (out User, err error) {
	return out, c.get(ctx, userPath(name), &out)
}

// AddUser makes a local account.
func (c *Client) AddUser(ctx context.Context, user NewUser) error {
	return c.call(ctx, http.MethodPost, "/v1/users", nil, user, nil)
}

// ChangeUser changes a local account.
func (c *Client) ChangeUser(ctx context.Context, name string, change UserChange) error {
	return c.call(ctx, http.MethodPatch, userPath(name), nil, change, nil)
}

// DeleteUser removes a local account. Its sessions go on; KickUser ends them.
func (c *Client) DeleteUser(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, userPath(name), nil, nil, nil)
}

func userPath(name string) string { return "/v1/users/" + url.PathEscape(name) }

// Drops asks why packets were dropped, one entry a reason.
func (c *Client) Drops(ctx context.Context) (out []Drop, err error) {
	return out, c.get(ctx, "/v1/drops", &out)
}

// TunnelDropFilter chooses drops by tunnel; zero fields match all.
type TunnelDropFilter struct {
	Tunnel uint32
	User   string // who has a session by the tunnel
	Reason string // "outer_source", ...
}

// TunnelDrops yields what was dropped of single tunnels.
func (c *Client) TunnelDrops(ctx context.Context, f TunnelDropFilter) iter.Seq2[TunnelDrop, error] {
	q := url.Values{}
	set(q, "tunnel", strconv.FormatUint(uint64(f.Tunnel), 10), f.Tunnel != 0)
	set(q, "user", f.User, f.User != "")
	set(q, "reason", f.Reason, f.Reason != "")
	return stream[TunnelDrop](ctx, c, "/v1/drops/tunnels", q)
}

// Nodes asks for all tunnel servers that the daemon knows of.
func (c *Client) Nodes(ctx context.Context) (out []Node, err error) {
	return out, c.get(ctx, "/v1/nodes", &out)
}

// Drain makes a tunnel server take no more sessions and end those it has (on), or serve again; "" is the one that is
// asked.
func (c *Client) Drain(ctx context.Context, node string, on bool) error {
	method := http.MethodPut
	if !on {
		method = http.MethodDelete
	}
	if node == "" {
		node = Here
	}
	return c.call(ctx, method, "/v1/nodes/"+url.PathEscape(node)+"/drain", nil, nil, nil)
}

// Left counts what a tunnel server that is gone has left to be ended by Bury.
func (c *Client) Left(ctx context.Context, node string) (out Burial, err error) {
	return out, c.get(ctx, "/v1/nodes/"+url.PathEscape(node)+"/burial", &out)
}

// Bury ends some thousand sessions of a tunnel server that is gone for good. It is called until nothing is left.
func (c *Client) Bury(ctx context.Context, node string, request BurialRequest) (out Burial, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/nodes/"+url.PathEscape(node)+"/burial", nil, request, &out)
}

// Here stands for the tunnel server that is asked, where a name is expected. No server has this name.
const Here = "-"

func (c *Client) get(ctx context.Context, path string, out any) error {
	return c.call(ctx, http.MethodGet, path, nil, nil, out)
}

// call sends one request and reads the whole answer into out, unless that is nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	response, err := c.send(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		return readError(response)
	}
	if out == nil {
		return nil
	}
	return decode(response.Body, out)
}

func (c *Client) send(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	target := "http://ddtb" + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err // the made-up URL says nothing to anybody
		}
		return nil, fmt.Errorf("no answer from the daemon at %s: %w", c.socket, err)
	}
	return response, nil
}

func decode(r io.Reader, out any) error {
	if err := json.NewDecoder(r).Decode(out); err != nil {
		return fmt.Errorf("answer of the daemon: %w", err)
	}
	return nil
}

// readError makes an *Error of an answer that is not a success.
func readError(response *http.Response) error {
	out := &Error{Status: response.StatusCode}
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if json.Unmarshal(body, out) != nil || out.Message == "" {
		out.Message = "the daemon answered " + response.Status
	}
	return out
}

// stream yields the objects of an answer of one object a line.
func stream[T any](ctx context.Context, c *Client, path string, query url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		response, err := c.send(ctx, http.MethodGet, path, query, nil)
		if err != nil {
			yield(zero, err)
			return
		}
		defer response.Body.Close()
		if response.StatusCode/100 != 2 {
			yield(zero, readError(response))
			return
		}
		decoder := json.NewDecoder(response.Body)
		for {
			var item T
			switch err := decoder.Decode(&item); {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(zero, fmt.Errorf("answer of the daemon: %w", err))
				return
			}
			if !yield(item, nil) {
				return
			}
		}
	}
}

// maxBody bounds a request's body and an error's, in octets.
const maxBody = 64 << 10
