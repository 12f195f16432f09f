// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"ddtb/provision/datapath/datapathtest/slow"
)

// Device is the name of a client's tunnel interface.
const Device = "tspc0"

// Subscriber is a tspc on one of the hosts.
type Subscriber struct {
	Host    *Host
	Process *Process
}

// ClientFile is the tspc.toml of a host.
func (i *ISP) ClientFile(host *Host) string { return filepath.Join(i.Dir, host.Name+".toml") }

// Configure writes ClientFile: user, password, and further lines.
func (i *ISP) Configure(host *Host, user, password, lines string) error {
	text := fmt.Sprintf("server = [%q]\nuser = %q\npassword = %q\nrun_dir = %q\n%s",
		ServerIPv4, user, password, filepath.Join(i.Dir, host.Name), lines)
	return os.WriteFile(i.ClientFile(host), []byte(text), 0o600)
}

// Subscribe configures a host and starts the real tspc on it. It does not wait for the tunnel.
func (i *ISP) Subscribe(host *Host, user, password, lines string) (*Subscriber, error) {
	if err := i.Configure(host, user, password, lines); err != nil {
		return nil, err
	}
	process, err := host.Start(i.Program("tspc"), "-c", i.ClientFile(host))
	if err != nil {
		return nil, err
	}
	return &Subscriber{Host: host, Process: process}, nil
}

// Up waits until the client says that its tunnel is up, and gives the host's address in it.
func (s *Subscriber) Up() (netip.Addr, error) {
	match, err := s.Process.Says(`tunnel up: address (\S+)`, patience)
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(match[1])
}

// Stop ends the client, which takes its tunnel down, and waits for it.
func (s *Subscriber) Stop() error { return s.Process.Stop(patience) }

// answerTime is how long one ping waits for its answer, seconds.
var answerTime = strconv.Itoa(int(slow.Times(time.Second) / time.Second))

// Reaches waits until an address answers a ping from the host.
func (h *Host) Reaches(address netip.Addr) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return Await(patience, func() error {
		_, err := h.Run(ctx, "ping", "-c", "1", "-W", answerTime, address.String())
		return err
	})
}

// AddressWithin waits until an interface has an address within a prefix, and gives it.
func (h *Host) AddressWithin(device string, prefix netip.Prefix) (found netip.Addr, err error) {
	err = Await(patience, func() error {
		addresses, err := h.Addresses(device)
		for _, address := range addresses {
			if prefix.Contains(address.Addr()) {
				found = address.Addr()
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("%s has addresses %v, none of %s", h.Name, addresses, prefix))
	})
	return found, err
}
