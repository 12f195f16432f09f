// SPDX-License-Identifier: GPL-2.0-or-later

// Package radiustest runs a real FreeRADIUS 3 on loopback, set up from contrib/freeradius as its README says, for the tests of
// every room that speaks RADIUS.
package radiustest

import (
	"bytes"
	"fmt"
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

// Secret is the one the server shares with 127.0.0.0/8.
const Secret = "testing123"

// Server is a FreeRADIUS process with its own configuration directory.
type Server struct {
	Auth, Acct string // "127.0.0.1:port"
	RadSec     string // the same over TLS, logins and accounting; it wants a certificate that its authority signed
	Dir        string
	CA         string // file with the certificate of the authority that signed the server's
	ClientCert string // file with a certificate of the same authority for a client; ClientKey has its key
	ClientKey  string

	tb     testing.TB
	launch func(*exec.Cmd) error
	cmd    *exec.Cmd
	ended  chan struct{} // closed when cmd has ended
	log    *bytes.Buffer
}

// Start runs a server whose users file is users, until the test ends. A missing FreeRADIUS fails the test.
func Start(tb testing.TB, users string) *Server {
	tb.Helper()
	return StartBy(tb, users, func(cmd *exec.Cmd) error {
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		return cmd.Start()
	})
}

// StartBy is Start where processes, the server's and those that ask it, are started by launch: in a namespace of their own, say.
func StartBy(tb testing.TB, users string, launch func(*exec.Cmd) error) *Server {
	tb.Helper()
	s := &Server{tb: tb, Dir: tb.TempDir(), launch: launch}
	s.Auth, s.Acct, s.RadSec = freePort(tb), freePort(tb), freePort(tb)
	s.certify()
	s.configure(users)
	s.Run()
	tb.Cleanup(s.Stop)
	return s
}

// certify makes the certificates that the site for RadSec names, and one for a client.
func (s *Server) certify() {
	s.tb.Helper()
	certs := filepath.Join(s.Dir, "certs")
	if err := os.MkdirAll(certs, 0o700); err != nil {
		s.tb.Fatal(err)
	}
	a := newAuthority(s.tb, certs, "ddtb-ca")
	a.issue("ddtb-radius")
	a.issue("client")
	s.CA, s.ClientCert, s.ClientKey = filepath.Join(certs, "ddtb-ca.pem"), filepath.Join(certs, "client.pem"), filepath.Join(certs, "client.key")
}

func freePort(tb testing.TB) string {
	tb.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().String()
}

// configure writes the smallest raddb that the files of contrib/freeradius run in.
func (s *Server) configure(users string) {
	s.tb.Helper()
	_, self, _, _ := runtime.Caller(0)
	contrib := filepath.Join(filepath.Dir(self), "../../../contrib/freeradius")
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(contrib, name))
		if err != nil {
			s.tb.Fatal(err)
		}
		return string(b)
	}
	site := read("site-ddtb")
	for _, p := range [][2]string{{"1645", s.Auth}, {"1646", s.Acct}} {
		_, port, _ := net.SplitHostPort(p[1])
		site = strings.Replace(site, "ipaddr = *\n\t\tport = "+p[0], "ipaddr = 127.0.0.1\n\t\tport = "+port, 1)
	}
	_, port, _ := net.SplitHostPort(s.RadSec)
	radsec := strings.Replace(read("site-ddtb-radsec"), "ipaddr = *\n\tport = 2083", "ipaddr = 127.0.0.1\n\tport = "+port, 1)
	for name, text := range map[string]string{
		"radiusd.conf":       radiusd,
		"clients.conf":       clients,
		"dictionary":         "$INCLUDE /usr/share/freeradius/dictionary\n$INCLUDE dictionary.ddtb\n",
		"dictionary.ddtb":    read("dictionary.ddtb"),
		"policy.d/ddtb":      read("policy-ddtb"),
		"sites-enabled/ddtb": site,
		"sites-enabled/tls":  radsec,
		"mods-enabled/base":  modules,
		"attr_access_reject": "DEFAULT\n\tReply-Message =* ANY,\n\tMessage-Authenticator =* ANY\n",
		"users":              users,
		"empty":              "",
	} {
		path := filepath.Join(s.Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			s.tb.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			s.tb.Fatal(err)
		}
	}
}

const radiusd = `
confdir = $ENV{RADDB}
logdir = ${confdir}
radacctdir = ${confdir}/acct
run_dir = ${confdir}
libdir = /usr/lib/freeradius
certdir = ${confdir}/certs
cadir = ${confdir}/certs
max_requests = 65536
cleanup_delay = 2
security {
	max_attributes = 200
	reject_delay = 0
	status_server = yes
	allow_vulnerable_openssl = yes
}
proxy_requests = no
thread pool {
	start_servers = 4
	max_servers = 16
	min_spare_servers = 2
	max_spare_servers = 16
	max_requests_per_server = 0
	auto_limit_acct = no
}
$INCLUDE clients.conf
modules {
	$INCLUDE mods-enabled/
}
policy {
	$INCLUDE policy.d/
}
$INCLUDE sites-enabled/
`

const clients = `
client test {
	ipaddr = 127.0.0.0/8
	secret = ` + Secret + `
	require_message_authenticator = yes
}
`

const modules = `
pap {
	normalise = yes
}
digest {
}
expr {
	safe_characters = "@abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_: /"
}
files {
	usersfile = ${confdir}/users
	acctusersfile = ${confdir}/empty
}
detail {
	filename = ${radacctdir}/detail
	permissions = 0600
	header = "%t"
}
always ok {
	rcode = ok
}
always reject {
	rcode = reject
}
attr_filter attr_filter.access_reject {
	key = "%{User-Name}"
	filename = ${confdir}/attr_access_reject
}
`

// Run starts the server (again, after Stop) and returns when it answers.
func (s *Server) Run() {
	s.tb.Helper()
	s.log = new(bytes.Buffer)
	s.cmd = exec.Command("freeradius", "-f", "-l", "stdout", "-d", s.Dir)
	s.cmd.Env = append(os.Environ(), "RADDB="+s.Dir)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.launch(s.cmd); err != nil {
		s.tb.Fatalf("FreeRADIUS is needed (Debian package freeradius): %v", err)
	}
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait()
	}()
	deadline := time.After(30 * time.Second)
	for !s.answers() {
		select {
		case <-s.ended:
		case <-deadline:
			s.Stop()
		default:
			continue
		}
		s.tb.Fatalf("FreeRADIUS does not answer:\n%s", s.log)
	}
}

// answers asks by a Status-Server of the simplest kind whether the server is up.
func (s *Server) answers() bool {
	cmd := exec.Command("radclient", "-q", "-r", "1", "-t", "0.2", s.Auth, "status", Secret)
	cmd.Stdin = strings.NewReader("Message-Authenticator = 0x00\n")
	return s.launch(cmd) == nil && cmd.Wait() == nil
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

// Record is one record of the detail file: attribute names and values as FreeRADIUS prints them, unquoted; of several of one
// name the values are joined by commas.
type Record map[string]string

// Records reads what accounting the server has taken so far, in order.
func (s *Server) Records() []Record {
	s.tb.Helper()
	text, err := os.ReadFile(filepath.Join(s.Dir, "acct", "detail"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		s.tb.Fatal(err)
	}
	var out []Record
	for block := range strings.SplitSeq(string(text), "\n\n") {
		r := make(Record)
		for line := range strings.SplitSeq(block, "\n") {
			name, value, ok := strings.Cut(strings.TrimSpace(line), " = ")
			if !ok {
				continue
			}
			value = strings.Trim(value, `"`)
			if before, ok := r[name]; ok {
				value = before + "," + value
			}
			r[name] = value
		}
		if len(r) > 0 {
			out = append(out, r)
		}
	}
	return out
}

// String tells where the server is.
func (s *Server) String() string { return fmt.Sprintf("FreeRADIUS at %s in %s", s.Auth, s.Dir) }
