// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// Device is the name of a client's tunnel interface.
const Device = "tspc0"

// Subscriber is a tspc on one of the hosts.
type Subscriber struct {
	Host    *Host
	Process *Process
}

// Subscribe writes a tspc.toml for the host and starts the real tspc with it, as user with password; lines are further
// ones of that file. It does not wait for the tunnel.
func (i *ISP) Subscribe(host *Host, user, password, lines string) (*Subscriber, error) {
	text := fmt.Sprintf("server = [%q]\nuser = %q\npassword = %q\nrun_dir = %q\n%s\n",
		ServerIPv4, user, password, filepath.Join(i.Dir, host.Name), lines)
	file := filepath.Join(i.Dir, host.Name+".toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	process, err := host.Start(i.Program("tspc"), "-c", file)
	if err != nil {
		return nil, err
	}
	return &Subscriber{Host: host, Process: process}, nil
}

// Up waits until the host has an address on its tunnel interface, and gives it.
func (s *Subscriber) Up() (address netip.Addr, err error) {
	err = Await(patience, func() error {
		if s.Process.Ended() {
			return fmt.Errorf("%s %w: %s", s.Process.Name, errEnded, lastLines(s.Process.Output(), 10))
		}
		addresses, err := s.Host.Addresses(Device)
		if err != nil {
			return fmt.Errorf("%w; %s said: %s", err, s.Process.Name, lastLines(s.Process.Output(), 10))
		}
		if len(addresses) == 0 {
			return fmt.Errorf("%s has no address", Device)
		}
		address = addresses[0].Addr()
		return nil
	})
	return address, err
}

// Stop ends the client, which takes its tunnel down, and waits for it.
func (s *Subscriber) Stop() error { return s.Process.Stop(patience) }

// Reaches waits until an address answers a ping from the host.
func (h *Host) Reaches(address netip.Addr) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return Await(patience, func() error {
		_, err := h.Run(ctx, "ping", "-c", "1", "-W", "1", address.String())
		return err
	})
}
