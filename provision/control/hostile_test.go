// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// raw speaks HTTP to the socket without the Client.
func (w *world) raw(method, path, body string) (int, string) {
	w.Helper()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", w.socket) }}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(w.Context(), method, "http://ddtb"+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		w.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		w.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

// Whatever is asked, the answer is JSON with a status that fits.
func TestWrongRequests(t *testing.T) {
	w := start(t, nil)
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/", "", 404},
		{"GET", "/v1/nothing", "", 404},
		{"GET", "/v2/status", "", 404},
		{"PUT", "/v1/status", "", 404},
		{"GET", "/v1/sessions?address=nonsense", "", 400},
		{"GET", "/v1/sessions?prefix=2001:db8::", "", 400},
		{"GET", "/v1/sessions?colour=red", "", 400},
		{"DELETE", "/v1/sessions", "", 400},
		{"DELETE", "/v1/sessions?user=a&client=b", "", 400},
		{"GET", "/v1/leases/main/x", "", 400},
		{"GET", "/v1/leases/main/99999999999", "", 400},
		{"PUT", "/v1/leases/main/1/reservation", "", 400},
		{"PUT", "/v1/leases/main/1/reservation", `{"user":"a"}{"user":"b"}`, 400},
		{"PUT", "/v1/leases/main/1/reservation", `{"person":"a"}`, 400},
		{"PUT", "/v1/leases/main/0/reservation", `{"user":"a"}`, 400},
		{"POST", "/v1/users", `[1,2`, 400},
		{"POST", "/v1/users", `{"name":"` + strings.Repeat("x", maxBody) + `"}`, 413},
		{"PATCH", "/v1/users/a", `{"endpoint":"nonsense"}`, 400},
	} {
		status, body := w.raw(c.method, c.path, c.body)
		var e Error
		if err := json.Unmarshal([]byte(body), &e); status != c.status || err != nil || e.Message == "" {
			t.Errorf("%s %s: %d %s, expected %d", c.method, c.path, status, body, c.status)
		}
	}
}

// Who sends half a request, or nothing, is not waited for for ever, and does not keep the daemon from ending.
func TestSlowClients(t *testing.T) {
	w := start(t, nil)
	for _, begin := range []string{"", "GET /v1/st", "POST /v1/users HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"} {
		conn, err := net.Dial("unix", w.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(begin)); err != nil {
			t.Fatal(err)
		}
	}
	must[Status](t)(w.Status(t.Context()))
	w.server.grace = time.Millisecond
	w.end()
	if _, err := w.Status(t.Context()); err == nil {
		t.Error("it answers after its end")
	}
}

func TestTooManyRequests(t *testing.T) {
	w := start(t, nil)
	for range maxRequests {
		w.server.slots <- struct{}{}
	}
	_, err := w.Status(t.Context())
	refused(t, err, http.StatusServiceUnavailable)
	<-w.server.slots
	must[Status](t)(w.Status(t.Context()))
}

func TestListen(t *testing.T) {
	w := start(t, nil)
	info, err := os.Stat(w.socket)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if l, err := Listen(w.socket); err == nil {
		l.Close()
		t.Error("two serve one socket")
	}
	stale := filepath.Join(filepath.Dir(w.socket), "stale")
	addr := &net.UnixAddr{Name: stale, Net: "unix"}
	old, err := net.ListenUnix("unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	old.Close() // as after a kill: the file stays
	l, err := Listen(stale)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	file := filepath.Join(filepath.Dir(w.socket), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Listen(file); err == nil {
		l.Close()
		t.Error("a file was taken for a socket")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Error("the file is gone")
	}
}

func TestClientWithoutDaemon(t *testing.T) {
	c := NewClient("/nonexistent/socket")
	_, err := c.Status(t.Context())
	var answered *Error
	if err == nil || errors.As(err, &answered) || !strings.Contains(err.Error(), "/nonexistent/socket") || strings.Contains(err.Error(), "http://") {
		t.Errorf("error is %v", err)
	}
	for _, err := range c.Sessions(t.Context(), SessionFilter{}) {
		if err == nil {
			t.Error("there are sessions without a daemon")
		}
	}
}
