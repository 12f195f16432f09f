// SPDX-License-Identifier: GPL-2.0-or-later

package radiustest

import (
	"bytes"
	"errors"
	"fmt"
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
	Dir     string // its configuration directory, empty or not there yet
	Contrib string // contrib/freeradius
	Users   string // text of the users file
	SQL     string // not "": statements that fill a database of FreeRADIUS's own schema, which takes the place of the users file
	Launch  Launch // nil: Here
}

// Launch starts a program and gives what waits for its end, once.
type Launch func(*exec.Cmd) (wait func() error, err error)

// Here launches a program beside this one, and has it end with it.
func Here(cmd *exec.Cmd) (wait func() error, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.Wait, cmd.Start()
}

// Process is a FreeRADIUS with its own configuration directory.
type Process struct {
	Auth, Acct string // "127.0.0.1:port"
	RadSec     string // the same over TLS, logins and accounting; it wants a certificate that its authority signed
	Dir        string
	CA         string // file with the certificate of the authority that signed the server's
	ClientCert string // file with a certificate of the same authority for a client; ClientKey has its key
	ClientKey  string

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
	p := &Process{Dir: o.Dir, o: o}
	for _, address := range []*string{&p.Auth, &p.Acct, &p.RadSec} {
		port, err := aaatest.FreePort()
		if err != nil {
			return nil, err
		}
		*address = fmt.Sprintf("127.0.0.1:%d", port)
	}
	if err := p.certify(); err != nil {
		return nil, err
	}
	return p, p.configure()
}

// certify makes the certificates that the site for RadSec names, and one for a client.
func (p *Process) certify() error {
	certs := filepath.Join(p.Dir, "certs")
	if err := os.MkdirAll(certs, 0o700); err != nil {
		return err
	}
	a, err := newAuthority(certs, "ddtb-ca")
	if err != nil {
		return err
	}
	p.CA, p.ClientCert, p.ClientKey = filepath.Join(certs, "ddtb-ca.pem"), filepath.Join(certs, "client.pem"), filepath.Join(certs, "client.key")
	return errors.Join(a.issue("ddtb-radius"), a.issue("client"))
}

// configure writes the smallest raddb that the files of contrib/freeradius run in.
func (p *Process) configure() error {
	contrib := map[string]string{}
	for _, name := range []string{"site-ddtb", "site-ddtb-radsec", "dictionary.ddtb", "policy-ddtb"} {
		text, err := os.ReadFile(filepath.Join(p.o.Contrib, name))
		if err != nil {
			return err
		}
		contrib[name] = string(text)
	}
	site := contrib["site-ddtb"]
	for _, pair := range [][2]string{{"1645", p.Auth}, {"1646", p.Acct}} {
		_, port, _ := net.SplitHostPort(pair[1])
		site = strings.Replace(site, "ipaddr = *\n\t\tport = "+pair[0], "ipaddr = 127.0.0.1\n\t\tport = "+port, 1)
	}
	_, port, _ := net.SplitHostPort(p.RadSec)
	radsec := strings.Replace(contrib["site-ddtb-radsec"], "ipaddr = *\n\tport = 2083", "ipaddr = 127.0.0.1\n\tport = "+port, 1)
	base := modules
	if p.o.SQL != "" {
		site, base = strings.Replace(site, "\t\tfiles\n", "\t\tsql\n", 1), modules+database
	}
	for name, text := range map[string]string{
		"radiusd.conf":       radiusd,
		"clients.conf":       clients,
		"dictionary":         "$INCLUDE /usr/share/freeradius/dictionary\n$INCLUDE dictionary.ddtb\n",
		"dictionary.ddtb":    contrib["dictionary.ddtb"],
		"policy.d/ddtb":      contrib["policy-ddtb"],
		"policy.d/stock":     "$INCLUDE /etc/freeradius/3.0/policy.d/accounting\n",
		"sites-enabled/ddtb": site,
		"sites-enabled/tls":  radsec,
		"mods-enabled/base":  base,
		"attr_access_reject": "DEFAULT\n\tReply-Message =* ANY,\n\tMessage-Authenticator =* ANY\n",
		"users":              p.o.Users,
		"database.sql":       p.o.SQL,
		"empty":              "",
	} {
		path := filepath.Join(p.Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Run starts the server (again, after Stop) and returns when it answers.
func (p *Process) Run() error {
	p.log = new(bytes.Buffer)
	p.cmd = exec.Command("freeradius", "-f", "-l", "stdout", "-d", p.Dir)
	p.cmd.Env = append(os.Environ(), "RADDB="+p.Dir)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	wait, err := p.o.Launch(p.cmd)
	if err != nil {
		p.cmd = nil
		return fmt.Errorf("FreeRADIUS is needed (Debian package freeradius): %w", err)
	}
	p.ended = make(chan struct{})
	go func() {
		defer close(p.ended)
		_ = wait()
	}()
	deadline := time.After(30 * time.Second)
	for !p.answers() {
		select {
		case <-p.ended:
		case <-deadline:
			p.Stop()
		default:
			continue
		}
		return fmt.Errorf("FreeRADIUS does not answer:\n%s", p.log)
	}
	return nil
}

// answers asks by a Status-Server of the simplest kind whether the server is up.
func (p *Process) answers() bool {
	cmd := exec.Command("radclient", "-q", "-r", "1", "-t", "0.2", p.Auth, "status", Secret)
	cmd.Stdin = strings.NewReader("Message-Authenticator = 0x00\n")
	wait, err := p.o.Launch(cmd)
	return err == nil && wait() == nil
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

// Record is one record of the detail file: attribute names and values as FreeRADIUS prints them, unquoted; of several of one
// name the values are joined by commas.
type Record map[string]string

// Records reads what accounting the server has taken so far, in order.
func (p *Process) Records() ([]Record, error) {
	text, err := os.ReadFile(p.Detail())
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
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
	return out, nil
}

// Detail is the file that accounting goes to.
func (p *Process) Detail() string { return filepath.Join(p.Dir, "acct", "detail") }

// String tells where the server is.
func (p *Process) String() string { return fmt.Sprintf("FreeRADIUS at %s in %s", p.Auth, p.Dir) }
