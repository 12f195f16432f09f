// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/rs/zerolog"

	"ddtb/provision"
	"ddtb/provision/datapath"
	"ddtb/provision/fleet"
	"ddtb/provision/lease"
)

// Deps is what a Server shows and acts on. Broker and Store are required.
type Deps struct {
	Broker     *provision.Broker
	Store      lease.Store
	Drops      datapath.DropReporter // nil: the datapath counts none
	Users      Users                 // nil: no local accounts are kept
	Accounting Accounting            // nil: no accounting records are kept
	Fleet      Fleet                 // nil: nothing is known of other servers
	Config     func() any            // the configuration in force, secrets masked; nil: none is shown
	Health     func() error          // what keeps the daemon from serving, beside the broker; nil: nothing
	Version    string
	Datapath   string // driver and mode
	Logger     zerolog.Logger
}

// Bounds of the server.
const (
	socketMode    = 0o660
	maxRequests   = 64 // answered at a time; further ones are told to come again
	readTimeout   = 10 * time.Second
	writeTimeout  = 30 * time.Second // of an answer, or of each part of a stream
	idleTimeout   = time.Minute
	closeTimeout  = 5 * time.Second
	maxHeaderSize = 16 << 10
)

// Server answers the operator.
type Server struct {
	Deps
	http    http.Server
	slots   chan struct{}
	closing chan struct{} // closed when Serve ends: streams of events end then
	grace   time.Duration // for answers under way when Serve ends
}

// NewServer makes a Server. Serve runs it.
func NewServer(deps Deps) *Server {
	s := &Server{Deps: deps, slots: make(chan struct{}, maxRequests), closing: make(chan struct{}), grace: closeTimeout}
	s.http = http.Server{
		Handler:           s.bounded(s.routes()),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderSize,
	}
	return s
}

// Listen opens the socket at path, with mode 0660. A socket that nobody answers at any more is replaced.
func Listen(path string) (net.Listener, error) {
	if conn, err := net.Dial("unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("control socket %s: another process serves it", path), conn.Close())
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control socket: %w", err)
		}
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), listener.Close())
	}
	return listener, nil
}

// Serve answers on listener, which it closes, until ctx is done. Answers under way are finished, streams of events end.
// It is called once.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(listener) }()
	select {
	case err := <-failed:
		close(s.closing)
		return fmt.Errorf("control socket: %w", err)
	case <-ctx.Done():
	}
	close(s.closing)
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.grace)
	defer cancel()
	err := s.http.Shutdown(stop)
	if err != nil { // who still reads has had his time
		err = s.http.Close()
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, handler := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /v1/health":                    s.health,
		"GET /v1/status":                    s.status,
		"GET /v1/config":                    s.config,
		"GET /v1/sessions":                  s.sessions,
		"GET /v1/sessions/{id}":             s.session,
		"DELETE /v1/sessions/{id}":          s.kick,
		"DELETE /v1/sessions":               s.kickUser,
		"GET /v1/events":                    s.events,
		"GET /v1/pools":                     s.pools,
		"GET /v1/pools/{name}":              s.pool,
		"GET /v1/leases":                    s.leases,
		"GET /v1/drops":                     s.drops,
		"GET /v1/drops/tunnels":             s.tunnelDrops,
		"GET /v1/nodes":                     s.nodes,
		"GET /v1/accounting":                s.accountingStatus,
		"GET /v1/accounting/parked":         s.parked,
		"POST /v1/accounting/parked/{id}":   s.retryRecord,
		"DELETE /v1/accounting/parked/{id}": s.dropRecord,
		"PUT /v1/nodes/{name}/drain":        s.drain,
		"DELETE /v1/nodes/{name}/drain":     s.undrain,
		"GET /v1/nodes/{name}/burial":       s.left,
		"POST /v1/nodes/{name}/burial":      s.bury,
		"GET /v1/users":                     s.users,
		"POST /v1/users":                    s.addUser,
		"GET /v1/users/{name}":              s.user,
		"PATCH /v1/users/{name}":            s.changeUser,
		"DELETE /v1/users/{name}":           s.deleteUser,

		"GET /v1/leases/{pool}/{index}":                s.lease,
		"DELETE /v1/leases/{pool}/{index}":             s.releaseLease,
		"PUT /v1/leases/{pool}/{index}/reservation":    s.reserve,
		"DELETE /v1/leases/{pool}/{index}/reservation": s.unreserve,
		"/": func(_ http.ResponseWriter, r *http.Request) error {
			return &Error{http.StatusNotFound, r.Method + " " + r.URL.Path + ": no such call", "is the client of another version?"}
		},
	} {
		mux.HandleFunc(pattern, s.answer(handler))
	}
	return mux
}

// bounded lets so many requests through at a time.
func (s *Server) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
			next.ServeHTTP(w, r)
		default:
			writeError(w, &Error{http.StatusServiceUnavailable, fmt.Sprintf("%d requests are being answered", maxRequests), "try again"})
		}
	})
}

// answer makes an http.HandlerFunc of a handler that gives its error back.
func (s *Server) answer(handler func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := handler(w, r); err != nil {
			out := asError(err)
			if out.Status == http.StatusInternalServerError {
				s.Logger.Error().Err(err).Str("call", r.Method+" "+r.URL.Path).Msg("an operator's request failed")
			}
			writeError(w, out)
		}
	}
}

// asError makes of any error what the operator is told.
func asError(err error) *Error {
	var out *Error
	if errors.As(err, &out) {
		return out
	}
	for _, known := range []struct {
		err    error
		status int
		hint   string
	}{
		{provision.ErrNotFound, http.StatusNotFound, "it may have ended; see the list of sessions"},
		{provision.ErrAlive, http.StatusConflict, "only what a server that is gone for good has left can be ended; see the list of servers"},
		{provision.ErrClaimed, http.StatusConflict, "see there, or try again when it is done"},
		{fleet.ErrNotFound, http.StatusNotFound, "see the lists of servers and sessions"},
		{fleet.ErrNowhere, http.StatusConflict, "its clients could go nowhere; see the list of servers"},
		{fleet.ErrUnavailable, http.StatusServiceUnavailable, "try again"},
		{lease.ErrNoPool, http.StatusNotFound, "see the list of pools"},
		{lease.ErrTaken, http.StatusConflict, "see the list of leases"},
		{lease.ErrInvalid, http.StatusBadRequest, ""},
		{lease.ErrUnavailable, http.StatusServiceUnavailable, "try again"},
		{provision.ErrInProgress, http.StatusServiceUnavailable, "try again"},
		{provision.ErrBusy, http.StatusServiceUnavailable, "try again; the log says why"},
		{context.DeadlineExceeded, http.StatusGatewayTimeout, "try again"},
	} {
		if errors.Is(err, known.err) {
			return &Error{known.status, err.Error(), known.hint}
		}
	}
	return &Error{http.StatusInternalServerError, err.Error(), "the log may say more"}
}

func writeError(w http.ResponseWriter, e *Error) { writeJSON(w, e.Status, e) }

func writeJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil { // all we send is ours to encode
		status, body = http.StatusInternalServerError, []byte(`{"error":"the answer could not be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n')) //nolint:errcheck // whoever asked is gone
}

// readJSON reads a request's body.
func readJSON(r *http.Request, out any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(out)
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("something stands behind the object")
	}
	var size *http.MaxBytesError
	if errors.As(err, &size) {
		return &Error{http.StatusRequestEntityTooLarge, err.Error(), ""}
	}
	return &Error{http.StatusBadRequest, "request: " + err.Error(), "one JSON object is expected"}
}
