// SPDX-License-Identifier: GPL-2.0-or-later

// Package ldaptest runs a real slapd (OpenLDAP) on loopback, with the schema of contrib/ldap, for the tests of
// every room that speaks LDAP. Process knows nothing of tests: the benchmarks run one, too.
package ldaptest

import (
	"path/filepath"
	"runtime"
	"testing"
)

// Names and passwords in every directory.
const (
	Suffix        = "dc=isp,dc=example"
	AdminDN       = "cn=admin," + Suffix
	AdminPassword = "adminpw"
	ReaderDN      = "cn=reader,ou=services," + Suffix // may read all but secrets
	DigestDN      = "cn=digest,ou=services," + Suffix // may read secrets, too
	ServicePass   = "servicepw"
)

// Server is a Process that fails the test where a Process gives an error.
type Server struct {
	*Process
	tb testing.TB
}

// Start runs a server with the entries of ldif until the test ends. A missing slapd fails the test.
func Start(tb testing.TB, ldif string) *Server {
	tb.Helper()
	_, self, _, _ := runtime.Caller(0)
	process, err := New(Options{Dir: tb.TempDir(), Contrib: filepath.Join(filepath.Dir(self), "../../../contrib/ldap")})
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{Process: process, tb: tb}
	s.Run()
	tb.Cleanup(s.Stop)
	if err := s.Fill(ldif); err != nil {
		tb.Fatal(err)
	}
	return s
}

// Run starts the server (again, after Stop) and returns when it answers.
func (s *Server) Run() {
	s.tb.Helper()
	if err := s.Process.Run(); err != nil {
		s.tb.Fatal(err)
	}
}
