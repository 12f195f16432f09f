// SPDX-License-Identifier: GPL-2.0-or-later

package ldaptest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"ddtb/aaa/aaatest"
)

// Options say how a Process is set up. Dir and Contrib are required.
type Options struct {
	Dir     string // its directory, empty or not there yet
	Contrib string // contrib/ldap
	Launch  Launch // nil: Here
}

// Launch starts a program and gives what waits for its end, once.
type Launch func(*exec.Cmd) (wait func() error, err error)

// Here launches a program beside this one, and has it end with it.
func Here(cmd *exec.Cmd) (wait func() error, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.Wait, cmd.Start()
}

// Process is a slapd with a directory of its own.
type Process struct {
	URL, SecureURL string // ldap:// and ldaps://, on 127.0.0.1
	Roots          *x509.CertPool

	o     Options
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
	log   *bytes.Buffer
}

// New sets a server up. Nothing runs yet.
func New(o Options) (*Process, error) {
	if o.Launch == nil {
		o.Launch = Here
	}
	p := &Process{o: o}
	for _, url := range []struct {
		to     *string
		scheme string
	}{{&p.URL, "ldap://"}, {&p.SecureURL, "ldaps://"}} {
		port, err := aaatest.FreePort()
		if err != nil {
			return nil, err
		}
		*url.to = fmt.Sprintf("%s127.0.0.1:%d", url.scheme, port)
	}
	return p, p.configure()
}

func (p *Process) configure() error {
	schema, err := os.ReadFile(filepath.Join(p.o.Contrib, "ddtb.schema"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(p.o.Dir, "db"), 0o700); err != nil {
		return err
	}
	return errors.Join(
		p.write("ddtb.schema", schema),
		p.write("radiusprofile.schema", []byte(radiusprofile)),
		p.write("slapd.conf", []byte(strings.ReplaceAll(slapdConf, "@", p.o.Dir))),
		p.certify())
}

func (p *Process) write(name string, b []byte) error {
	return os.WriteFile(filepath.Join(p.o.Dir, name), b, 0o600)
}

// certify makes a certificate for 127.0.0.1 that signs itself.
func (p *Process) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ldap.isp.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	p.Roots = x509.NewCertPool()
	p.Roots.AddCert(cert)
	return errors.Join(
		p.write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		p.write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
}

// Run starts the server (again, after Stop) and returns when it answers.
func (p *Process) Run() error {
	p.log = new(bytes.Buffer)
	p.cmd = exec.Command("slapd", "-f", filepath.Join(p.o.Dir, "slapd.conf"), "-h", p.URL+" "+p.SecureURL, "-d", "0")
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	wait, err := p.o.Launch(p.cmd)
	if err != nil {
		p.cmd = nil
		return fmt.Errorf("slapd is needed (Debian package slapd): %w", err)
	}
	p.ended = make(chan struct{})
	go func() {
		defer close(p.ended)
		_ = wait()
	}()
	deadline := time.After(30 * time.Second)
	for {
		err := p.client("", "ldapsearch", "-s", "base", "-b", "", "1.1")
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
		case <-deadline:
			p.Stop()
		default:
			continue
		}
		return fmt.Errorf("slapd does not answer: %w\n%s", err, p.log)
	}
}

// Stop ends the server.
func (p *Process) Stop() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
	p.cmd = nil
}

// Pause keeps the server from answering while its connections stay open; Resume lets it go on.
func (p *Process) Pause() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (p *Process) Resume() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// Fill adds the entries every directory has, and those of ldif, through the server, so that overlays see them.
func (p *Process) Fill(ldif string) error {
	return p.client(base+ldif, "ldapadd", "-D", AdminDN, "-w", AdminPassword)
}

// client runs one of OpenLDAP's clients.
func (p *Process) client(input, name string, arguments ...string) error {
	cmd := exec.Command(name, append([]string{"-x", "-H", p.URL}, arguments...)...)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &said, &said
	wait, err := p.o.Launch(cmd)
	if err == nil {
		err = wait()
	}
	if err != nil {
		return fmt.Errorf("%s (Debian package ldap-utils): %w\n%.2000s", name, err, said.Bytes())
	}
	return nil
}
