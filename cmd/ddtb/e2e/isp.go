// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ddtb/provision/control"
	"ddtb/provision/datapath/datapathtest/slow"
)

// The addresses of the tunnel server's configuration.
var (
	TunnelIPv6 = netip.MustParseAddr("2001:db8:f000::1") // the server inside the tunnels
	Endpoints  = netip.MustParsePrefix("2001:db8:f000:1::/112")
	Prefixes   = netip.MustParsePrefix("2001:db8:1000::/40")
	Guests     = netip.MustParsePrefix("2001:db8:f000:2::/112") // endpoints of anonymous clients
)

// patience is how long anything may take that ought to take a moment; the machine may be busy, or an emulated one.
var patience = slow.Times(time.Minute)

// ISP is who runs the tunnel server: the real ddtb and ddtbctl on the host "server".
type ISP struct {
	*Internet
	Programs string // folder of the built ddtb, ddtbctl and tspc

	daemon *Process
}

// Settings are lines for the sections of ddtb.toml, by the section's name.
type Settings map[string]string

// configuration is ddtb.toml as most tests want it.
const configuration = `[server]
name = "ts1"
ipv6 = "%s"
resolvers = ["2001:db8:b::53"]
state = "%s/state"
%s
[tsp]
realm = "isp.example"
%s
[[pool]]
name = "homes"
endpoints = "%s"
prefixes = "%s"

[[pool]]
name = "guests"
endpoints = "%s"

[session]
%s
[datapath]
uplinks = ["wan0"]
cores = ["core0"]
pin_path = "%s/ddtb"
%s
%s
[anonymous]
enabled = true
pool = "guests"

[control]
socket = "%s"

[log]
format = "human"
%s`

// accounts is [aaa] unless a test has its own.
const accounts = `[aaa]
accounting = "log"

[aaa.local]
cram = true
`

// NewISP writes the configuration, with further lines for the sections server, tsp, session, datapath and log, and with
// another [aaa] if there is one. Nothing runs yet.
func NewISP(internet *Internet, programs string, settings Settings) (*ISP, error) {
	isp := &ISP{Internet: internet, Programs: programs}
	text := fmt.Sprintf(configuration, TunnelIPv6, internet.Dir, settings["server"], settings["tsp"], Endpoints, Prefixes, Guests,
		settings["session"], internet.BPF(), settings["datapath"], cmp.Or(settings["aaa"], accounts), isp.Socket(), settings["log"])
	if err := os.WriteFile(isp.ConfigFile(), []byte(text), 0o600); err != nil {
		return nil, err
	}
	return isp, nil
}

// ConfigFile is where ddtb.toml lies.
func (i *ISP) ConfigFile() string { return filepath.Join(i.Dir, "ddtb.toml") }

// Socket is ddtb's control socket.
func (i *ISP) Socket() string { return filepath.Join(i.Dir, "control.sock") }

// Program is the path of one of our programs.
func (i *ISP) Program(name string) string { return filepath.Join(i.Programs, name) }

// Start starts the daemon and waits until it serves.
func (i *ISP) Start() error {
	daemon, err := i.Server.Start(i.Program("ddtb"), "-c", i.ConfigFile())
	if err != nil {
		return err
	}
	i.daemon = daemon
	return Await(patience, func() error {
		if daemon.Ended() {
			return fmt.Errorf("%s %w: %s", daemon.Name, errEnded, lastLines(daemon.Output(), 10))
		}
		var status control.Status
		if err := i.Get(&status, "status"); err != nil {
			return err
		}
		if !status.Ready {
			return errors.New("ddtb is not ready")
		}
		return nil
	})
}

// Daemon is the ddtb that was started last.
func (i *ISP) Daemon() *Process { return i.daemon }

// Stop asks the daemon to end, as systemd does, and waits for it.
func (i *ISP) Stop() error { return i.daemon.Stop(patience) }

// Ctl runs ddtbctl and gives what it prints.
func (i *ISP) Ctl(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return i.Server.Run(ctx, i.Program("ddtbctl"), append([]string{"--socket", i.Socket()}, args...)...)
}

// Get runs ddtbctl with --json and reads its one object into value.
func (i *ISP) Get(value any, args ...string) error {
	text, err := i.Ctl(append(args, "--json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), value); err != nil {
		return fmt.Errorf("ddtbctl %s --json: %w: %s", strings.Join(args, " "), err, text)
	}
	return nil
}

// List runs ddtbctl with --json and reads the objects it prints, one a line.
func List[T any](i *ISP, args ...string) ([]T, error) {
	text, err := i.Ctl(append(args, "--json")...)
	if err != nil {
		return nil, err
	}
	var list []T
	decoder := json.NewDecoder(strings.NewReader(text))
	for {
		var value T
		err := decoder.Decode(&value)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("ddtbctl %s --json: %w: %s", strings.Join(args, " "), err, text)
		}
		list = append(list, value)
	}
}

// AddUser makes an account that can log in by every mechanism.
func (i *ISP) AddUser(name, password string) error {
	file := filepath.Join(i.Dir, "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	_, err := i.Ctl("user", "add", name, "--cram", "--password-file", file)
	return err
}

// Session waits until a user has exactly one active session, and gives it.
func (i *ISP) Session(user string) (control.Session, error) {
	var found control.Session
	err := Await(patience, func() error {
		sessions, err := List[control.Session](i, "session", "list", "--user", user)
		if err != nil {
			return err
		}
		if len(sessions) != 1 || sessions[0].State != "active" {
			return fmt.Errorf("%s has sessions %+v, expected one that is active", user, sessions)
		}
		found = sessions[0]
		return nil
	})
	return found, err
}

// Gone waits until a user has no session.
func (i *ISP) Gone(user string) error { return i.none("--user", user) }

// Empty waits until there is no session at all.
func (i *ISP) Empty() error { return i.none() }

func (i *ISP) none(filter ...string) error {
	return Await(patience, func() error {
		sessions, err := List[control.Session](i, append([]string{"session", "list"}, filter...)...)
		if err == nil && len(sessions) > 0 {
			err = fmt.Errorf("there are sessions: %+v", sessions)
		}
		return err
	})
}
