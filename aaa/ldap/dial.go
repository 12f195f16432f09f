// SPDX-License-Identifier: GPL-2.0-or-later

package ldap

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	ldapv3 "github.com/go-ldap/ldap/v3"
)

// maxMessage is how long a message of a directory may be, in octets. What is asked for of one entry is far less, also with some
// thousand groups. Without it the LDAP library makes room for whatever length a server, or who speaks for one, announces.
const maxMessage = 4 << 20

func init() { //nolint:gochecknoinits // the library has one bound for all connections, to be set before any of them reads it
	ber.MaxPacketLengthBytes = maxMessage
}

// impatient is a connection whose peer takes what is written in time, or loses it: the library waits for a write without end,
// and can then not even close.
type impatient struct {
	net.Conn
	timeout time.Duration
}

// Write implements net.Conn.
func (c impatient) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// dial opens a connection, encrypted as the options want it. All of it takes no longer than one operation may.
func (s *server) dial(ctx context.Context) (*ldapv3.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	conn, err := s.encrypted(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", s.url, errServer, advise(err))
	}
	conn.SetTimeout(s.o.Timeout) // without it a silent server is waited for without end
	return conn, nil
}

func (s *server) encrypted(ctx context.Context) (*ldapv3.Conn, error) {
	u, err := url.Parse(s.url)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"ldap": ldapv3.DefaultLdapPort, "ldaps": ldapv3.DefaultLdapsPort}[u.Scheme]
	}
	tcp, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	raw := impatient{tcp, s.o.Timeout}
	if u.Scheme == "ldaps" {
		encrypted := tls.Client(raw, s.tls(u.Hostname()))
		if err := encrypted.HandshakeContext(ctx); err != nil {
			_ = tcp.Close()
			return nil, err
		}
		conn := ldapv3.NewConn(encrypted, true)
		conn.Start()
		return conn, nil
	}
	conn := ldapv3.NewConn(raw, false)
	conn.Start()
	if !s.o.StartTLS {
		return conn, nil
	}
	defer context.AfterFunc(ctx, func() { _ = tcp.Close() })() // the library knows no end of the handshake
	if err := conn.StartTLS(s.tls(u.Hostname())); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("StartTLS: %w", err)
	}
	return conn, nil
}

// tls is what the options say of a server's certificate.
func (s *server) tls(host string) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.o.TLS != nil {
		config = s.o.TLS.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = host
	}
	return config
}
