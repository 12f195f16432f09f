// SPDX-License-Identifier: GPL-2.0-or-later

package ldap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	ldapv3 "github.com/go-ldap/ldap/v3"
)

// server is one directory server and its connections.
type server struct {
	url string
	o   Options

	mu        sync.Mutex
	searchers []*ldapv3.Conn // bound as the service account; nil until first used or after it failed
	next      int

	binders   chan *ldapv3.Conn // idle
	bindSlots chan struct{}     // one element a bind under way

	deadUntil atomic.Int64 // Unix nanoseconds
	last      atomic.Pointer[failure]
}

// failure is why a server could not answer, and when that was found.
type failure struct {
	at  time.Time
	err error
}

// failed keeps an error of this server for those who wait for it meanwhile. It is none of the server if ctx is over.
func (s *server) failed(ctx context.Context, err error) error {
	if ctx.Err() == nil && errors.Is(err, errServer) {
		s.last.Store(&failure{time.Now(), err})
	}
	return err
}

// since gives the error of this server that was found after began, nil if there is none: who had to wait need not find out for himself.
func (s *server) since(began time.Time) error {
	if f := s.last.Load(); f != nil && f.at.After(began) {
		return f.err
	}
	return nil
}

func newServer(rawURL string, o Options) *server {
	return &server{url: rawURL, o: o, searchers: make([]*ldapv3.Conn, o.Searchers),
		binders: make(chan *ldapv3.Conn, o.Binders), bindSlots: make(chan struct{}, o.Binders)}
}

// errServer: this server cannot answer now, another might.
var errServer = errors.New("directory server cannot answer")

// errAbsent: what the search starts from is not there, or must not be seen.
var errAbsent = errors.New("no such object")

// wrapServer marks err as one that another server might not have, or returns it as it is: the directory's answer.
func (s *server) wrapServer(err error) error {
	code := ldapv3.LDAPResultOther
	var result *ldapv3.Error
	if errors.As(err, &result) {
		code = int(result.ResultCode)
	}
	switch code {
	case ldapv3.LDAPResultBusy, ldapv3.LDAPResultUnavailable, ldapv3.LDAPResultOther, ldapv3.LDAPResultTimeLimitExceeded,
		ldapv3.LDAPResultOperationsError, ldapv3.LDAPResultProtocolError, ldapv3.ErrorNetwork:
		return fmt.Errorf("%s: %w: %w", s.url, errServer, err)
	}
	return fmt.Errorf("%s: %w", s.url, err)
}

// searcher returns a connection bound as the service account.
func (s *server) searcher(ctx context.Context) (*ldapv3.Conn, error) {
	began := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = (s.next + 1) % len(s.searchers)
	if conn := s.searchers[s.next]; conn != nil && !conn.IsClosing() {
		return conn, nil
	}
	if err := s.since(began); err != nil {
		return nil, err
	}
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	if s.o.BindDN != "" {
		if err := conn.Bind(s.o.BindDN, s.o.Password); err != nil {
			_ = conn.Close()
			return nil, s.failed(ctx, fmt.Errorf("%s: %w: bind as the service account %q: %w", s.url, errServer, s.o.BindDN, err))
		}
	}
	s.searchers[s.next] = conn
	return conn, nil
}

// search runs one search. A connection that failed, or whose search was given up, is closed: the server may still work on it.
// One that the server closed while it was idle is replaced once.
func (s *server) search(ctx context.Context, request *ldapv3.SearchRequest) ([]*ldapv3.Entry, error) {
	for try := 0; ; try++ {
		conn, err := s.searcher(ctx)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		result, err := conn.Search(request)
		if err == nil {
			return result.Entries, nil
		}
		if ldapv3.IsErrorWithCode(err, ldapv3.LDAPResultNoSuchObject) {
			return nil, errAbsent
		}
		err = s.wrapServer(err)
		if !errors.Is(err, errServer) {
			return nil, err
		}
		lost := s.lost(conn, err, began)
		_ = conn.Close()
		if try > 0 || !lost {
			return nil, s.failed(ctx, err)
		}
	}
}

// lost tells whether an operation failed because the server had closed the connection. One that is not answered in time fails by
// the network, too, but a fresh connection would not tell more.
func (s *server) lost(conn *ldapv3.Conn, err error, began time.Time) bool {
	closed := conn.IsClosing() || ldapv3.IsErrorWithCode(err, ldapv3.ErrorNetwork)
	return closed && errors.Is(err, errServer) && time.Since(began) < s.o.Timeout
}

// bind tells whether the password is that of dn: nil, errServer, or what the directory answered.
func (s *server) bind(ctx context.Context, dn, password string) error {
	began := time.Now()
	select {
	case s.bindSlots <- struct{}{}:
		defer func() { <-s.bindSlots }()
	case <-ctx.Done():
		return fmt.Errorf("%s: %w: %w", s.url, errServer, ctx.Err())
	}
	if err := s.since(began); err != nil {
		return err
	}
	for {
		conn, idle, err := s.binder(ctx)
		if err != nil {
			return s.failed(ctx, err)
		}
		began := time.Now()
		result, err := conn.SimpleBind(ldapv3.NewSimpleBindRequest(dn, password, []ldapv3.Control{ldapv3.NewControlBeheraPasswordPolicy()}))
		if err != nil && idle && s.lost(conn, s.wrapServer(err), began) {
			_ = conn.Close() // closed while it lay idle; the others may be, too, and a fresh one tells
			continue
		}
		if err != nil && errors.Is(s.wrapServer(err), errServer) {
			_ = conn.Close()
			return s.failed(ctx, s.wrapServer(err))
		}
		s.binders <- conn // there is room: at most as many are out as bindSlots has places
		if err != nil {
			return s.wrapServer(explain(err, result))
		}
		return nil
	}
}

// binder takes an idle connection or opens one.
func (s *server) binder(ctx context.Context) (conn *ldapv3.Conn, idle bool, err error) {
	for {
		select {
		case conn := <-s.binders:
			if !conn.IsClosing() {
				return conn, true, nil
			}
		default:
			conn, err := s.dial(ctx)
			return conn, false, err
		}
	}
}

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, conn := range s.searchers {
		if conn != nil {
			_ = conn.Close()
			s.searchers[i] = nil
		}
	}
	for {
		select {
		case conn := <-s.binders:
			_ = conn.Close()
		default:
			return
		}
	}
}
