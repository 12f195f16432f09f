// SPDX-License-Identifier: GPL-2.0-or-later

package ldap_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/aaa/ldap"
	"ddtb/aaa/ldap/ldaptest"
)

// crowd logs in so many times at once and gives how long the last of them took.
func crowd(t *testing.T, a *ldap.Authenticator, n int, want error) time.Duration {
	t.Helper()
	start := time.Now()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() { check(t, a, []login{{aaa.MechanismPlain, "alice", "wonderland", want}}) })
	}
	wg.Wait()
	return time.Since(start)
}

// TestHangingServer: a server that takes connections and answers nothing is found out once, not by one login after the other, and
// whoever waits for it goes on to the next.
func TestHangingServer(t *testing.T) {
	first, second := ldaptest.Start(t, entries()), ldaptest.Start(t, entries())
	const most = 15 * time.Second // one login after the other would take 90 s
	o := options(first)
	o.URLs, o.Timeout = []string{first.URL, second.URL}, 1500*time.Millisecond
	first.Pause()
	if took := crowd(t, open(t, o), 60, nil); took > most {
		t.Errorf("never heard of, with another one: %v", took)
	}
	first.Resume()
	a := open(t, o)
	crowd(t, a, 60, nil) // connections of every kind lie open now
	first.Pause()
	if took := crowd(t, a, 60, nil); took > most {
		t.Errorf("hangs after a while, with another one: %v", took)
	}
	o.URLs = []string{first.URL}
	if took := crowd(t, open(t, o), 60, aaa.ErrUnavailable); took > most {
		t.Errorf("never heard of, alone: %v", took)
	}
}

// TestHangsInStartTLS: a server that agrees to encrypt and then says no more.
func TestHangsInStartTLS(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			if _, err := conn.Read(make([]byte, 1024)); err != nil {
				return
			}
			// ExtendedResponse to message 1: success
			if _, err := conn.Write([]byte{0x30, 0x0c, 0x02, 0x01, 0x01, 0x78, 0x07, 0x0a, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00}); err != nil {
				return
			}
		}
	}()
	a := open(t, ldap.Options{URLs: []string{"ldap://" + listener.Addr().String()}, StartTLS: true, TLS: &tls.Config{MinVersion: tls.VersionTLS12},
		Base: ldaptest.Suffix, Timeout: 300 * time.Millisecond})
	done := make(chan error)
	go func() {
		_, err := try(a, aaa.MechanismPlain, "alice", "wonderland")
		done <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	select {
	case err := <-done:
		if !errors.Is(err, aaa.ErrUnavailable) {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Fatal("it is waited for without end")
	}
}
