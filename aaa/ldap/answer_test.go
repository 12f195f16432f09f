// SPDX-License-Identifier: GPL-2.0-or-later

package ldap_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"ddtb/aaa"
	"ddtb/aaa/aaatest"
	"ddtb/aaa/ldap"
	"ddtb/aaa/ldap/ldaptest"
)

// tlv is one element of BER, shorter than 128 octets.
func tlv(tag byte, parts ...[]byte) []byte {
	value := slices.Concat(parts...)
	return append([]byte{tag, byte(len(value))}, value...)
}

// result is an LDAPResult (RFC 4511 section 4.1.9) in an operation's answer.
func result(tag, code byte, message string) []byte {
	return tlv(tag, tlv(0x0a, []byte{code}), tlv(0x04), tlv(0x04, []byte(message)))
}

// answers serves a directory that finds one entry for everybody and answers each bind with a code, until the test ends.
func answers(t *testing.T, code byte, message string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				b := make([]byte, 4096)
				for {
					n, err := conn.Read(b)
					if err != nil || n < 7 {
						return
					}
					request := b[2+int(b[1]&0x7f)*int(b[1]>>7) : n] // behind the length, short or long
					id, op := request[:3], request[3]
					switch op {
					case 0x60: // BindRequest
						_, _ = conn.Write(tlv(0x30, id, result(0x61, code, message)))
					case 0x63: // SearchRequest
						entry := tlv(0x64, tlv(0x04, []byte("uid=alice,dc=isp,dc=example")), tlv(0x30))
						_, _ = conn.Write(append(tlv(0x30, id, entry), tlv(0x30, id, result(0x65, 0, ""))...))
					}
				}
			}()
		}
	}()
	return "ldap://" + listener.Addr().String()
}

// TestHugeAnswer: a directory that announces a message of a gigabyte is not listened to. Only the length is sent.
func TestHugeAnswer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		b := make([]byte, 4096)
		_, _ = conn.Read(b)
		_, _ = conn.Write([]byte{0x30, 0x84, 0x40, 0, 0, 0})
		_, _ = conn.Read(b) // until the connection is given up
	}()
	a := open(t, ldap.Options{URLs: []string{"ldap://" + listener.Addr().String()}, BindDN: "cn=ddtb", Password: "p", Base: "dc=isp,dc=example", Timeout: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = a.Authenticate(ctx, aaatest.Login(aaa.MechanismPlain, "alice", realm, "secret"))
	if !errors.Is(err, aaa.ErrUnavailable) || ctx.Err() != nil {
		t.Errorf("%v and %v, want %v at once", err, ctx.Err(), aaa.ErrUnavailable)
	}
}

// TestWindowsReasons: what Active Directory tells by a number is told in words, and a number it never sent is not guessed at.
func TestWindowsReasons(t *testing.T) {
	for message, want := range map[string]string{
		"80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data 775, v1db1": "v1db1 (the account is locked after too many wrong passwords)",
		"80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data 52E, v1db1": "v1db1 (wrong password)",
		"80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data 773":        "data 773 (the password must be changed first)",
		"80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data 57, v1db1":  "data 57, v1db1",
		"data 775,": "data 775,",
	} {
		a := open(t, ldap.Options{URLs: []string{answers(t, 49, message)}, Base: ldaptest.Suffix})
		if _, err := try(a, aaa.MechanismPlain, "alice", "wonderland"); !errors.Is(err, aaa.ErrRejected) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", message, err, want)
		}
	}
}

// TestBindAnswers: what a directory may say to a subscriber's bind. Where it has not looked at the password he is not told that it is wrong.
func TestBindAnswers(t *testing.T) {
	for _, test := range []struct {
		code    byte
		message string
		want    error
	}{
		{0, "", nil},
		{49, "80090308: LdapErr: DSID-0C09042A, comment: AcceptSecurityContext error, data 52e, v3839", aaa.ErrRejected},
		{49, "80090308: LdapErr: DSID-0C09042A, comment: AcceptSecurityContext error, data 533, v3839", aaa.ErrRejected},
		{48, "no password", aaa.ErrRejected},
		{53, "account inactivated", aaa.ErrRejected},
		{19, "exceed password retry limit", aaa.ErrRejected},
		{32, "", aaa.ErrRejected},
		{7, "", aaa.ErrUnavailable},
		{8, "00002028: LdapErr: DSID-0C090259, comment: The server requires binds to turn on integrity checking", aaa.ErrUnavailable},
		{10, "", aaa.ErrUnavailable},
		{13, "confidentiality required", aaa.ErrUnavailable},
		{51, "", aaa.ErrUnavailable},
		{52, "", aaa.ErrUnavailable},
		{80, "", aaa.ErrUnavailable},
	} {
		t.Run(fmt.Sprint(test.code), func(t *testing.T) {
			a := open(t, ldap.Options{URLs: []string{answers(t, test.code, test.message)}, Base: ldaptest.Suffix})
			_, err := try(a, aaa.MechanismPlain, "alice", "wonderland")
			if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) || err != nil && !strings.Contains(err.Error(), test.message) {
				t.Errorf("got %v, want %v with %q", err, test.want, test.message)
			}
		})
	}
}
