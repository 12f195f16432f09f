// SPDX-License-Identifier: GPL-2.0-or-later

// Package ldaptest runs a real slapd (OpenLDAP) on loopback, with the schema of contrib/ldap, for the tests of
// every room that speaks LDAP.
package ldaptest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
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

// Server is a slapd process.
type Server struct {
	URL, SecureURL string // ldap:// and ldaps://, on 127.0.0.1
	Roots          *x509.CertPool

	tb    testing.TB
	dir   string
	cmd   *exec.Cmd
	ended chan struct{}
	log   *bytes.Buffer
}

// Start runs a server with the entries of ldif until the test ends. A missing slapd fails the test.
func Start(tb testing.TB, ldif string) *Server {
	tb.Helper()
	s := &Server{tb: tb, dir: tb.TempDir()}
	s.URL, s.SecureURL = "ldap://"+freePort(tb), "ldaps://"+freePort(tb)
	s.configure()
	s.Run()
	tb.Cleanup(s.Stop)
	s.add(base + ldif)
	return s
}

func freePort(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *Server) write(name string, b []byte) {
	s.tb.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), b, 0o600); err != nil {
		s.tb.Fatal(err)
	}
}

func (s *Server) configure() {
	s.tb.Helper()
	_, self, _, _ := runtime.Caller(0)
	schema, err := os.ReadFile(filepath.Join(filepath.Dir(self), "../../../contrib/ldap/ddtb.schema"))
	if err != nil {
		s.tb.Fatal(err)
	}
	s.write("ddtb.schema", schema)
	s.write("radiusprofile.schema", []byte(radiusprofile))
	s.certify()
	if err := os.Mkdir(filepath.Join(s.dir, "db"), 0o700); err != nil {
		s.tb.Fatal(err)
	}
	s.write("slapd.conf", []byte(strings.ReplaceAll(slapdConf, "@", s.dir)))
}

// certify makes a certificate for 127.0.0.1 that signs itself.
func (s *Server) certify() {
	s.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ldap.isp.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		s.tb.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	s.write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.Roots = x509.NewCertPool()
	s.Roots.AddCert(cert)
}

// radiusprofile has, by the names of FreeRADIUS's schema, what the tests use of it.
const radiusprofile = `
attributetype ( 1.3.6.1.4.1.32473.389.101 NAME 'radiusReplyAttribute'
	EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
attributetype ( 1.3.6.1.4.1.32473.389.102 NAME 'radiusIdleTimeout'
	EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.32473.389.103 NAME 'radiusClass'
	EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
attributetype ( 1.3.6.1.4.1.32473.389.104 NAME 'dialupAccess'
	EQUALITY caseIgnoreIA5Match SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.32473.389.105 NAME 'radiusProfileDN'
	EQUALITY distinguishedNameMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.32473.389.110 NAME 'radiusprofile' SUP top AUXILIARY
	MAY ( radiusReplyAttribute $ radiusIdleTimeout $ radiusClass $ dialupAccess $ radiusProfileDN ) )
objectclass ( 1.3.6.1.4.1.32473.389.111 NAME 'radiusObjectProfile' SUP top STRUCTURAL
	MUST cn )
`

const slapdConf = `
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include @/radiusprofile.schema
include @/ddtb.schema
modulepath /usr/lib/ldap
moduleload back_mdb.so
moduleload memberof.so
TLSCACertificateFile @/cert.pem
TLSCertificateFile @/cert.pem
TLSCertificateKeyFile @/key.pem
TLSVerifyClient never
threads 8
access to dn.base="" by * read
access to attrs=userPassword
	by dn.exact="` + DigestDN + `" read
	by anonymous auth
	by * none
access to attrs=ddtbDigestHA1
	by dn.exact="` + DigestDN + `" read
	by * none
access to *
	by dn.exact="` + ReaderDN + `" read
	by dn.exact="` + DigestDN + `" read
	by anonymous auth
	by * none
database mdb
maxsize 1073741824
suffix "` + Suffix + `"
rootdn "` + AdminDN + `"
rootpw ` + AdminPassword + `
directory @/db
index objectClass,uid,member eq
dbnosync
overlay memberof
memberof-refint TRUE
`

const base = `dn: ` + Suffix + `
objectClass: dcObject
objectClass: organization
dc: isp
o: ISP

dn: ou=services,` + Suffix + `
objectClass: organizationalUnit
ou: services

dn: ` + ReaderDN + `
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: ` + ServicePass + `

dn: ` + DigestDN + `
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: digest
userPassword: ` + ServicePass + `

`

// Run starts the server (again, after Stop) and returns when it answers.
func (s *Server) Run() {
	s.tb.Helper()
	s.log = new(bytes.Buffer)
	s.cmd = exec.Command("slapd", "-f", filepath.Join(s.dir, "slapd.conf"), "-h", s.URL+" "+s.SecureURL, "-d", "0")
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatalf("slapd is needed (Debian package slapd): %v", err)
	}
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait()
	}()
	deadline := time.After(30 * time.Second)
	for {
		if conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "ldap://")); err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-s.ended:
		case <-deadline:
			s.Stop()
		default:
			continue
		}
		s.tb.Fatalf("slapd does not answer:\n%s", s.log)
	}
}

// Stop ends the server.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.ended
	s.cmd = nil
}

// Pause keeps the server from answering while its connections stay open; Resume lets it go on.
func (s *Server) Pause() { _ = s.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }

// add adds entries through the server, so that overlays see them.
func (s *Server) add(ldif string) {
	s.tb.Helper()
	cmd := exec.Command("ldapadd", "-x", "-H", s.URL, "-D", AdminDN, "-w", AdminPassword)
	cmd.Stdin = strings.NewReader(ldif)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.tb.Fatalf("ldapadd (Debian package ldap-utils): %v\n%s", err, out)
	}
}
