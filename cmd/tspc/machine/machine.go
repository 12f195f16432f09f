// SPDX-License-Identifier: GPL-2.0-or-later

// Package machine is the agent.Machine of a Linux computer: it joins the tunnel's data path (package tunnel, or the
// kernel's sit device) with addresses and routes (package host).
package machine

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/rs/zerolog"

	"ddtb/cmd/tspc/advert"
	"ddtb/cmd/tspc/agent"
	"ddtb/cmd/tspc/host"
	"ddtb/cmd/tspc/tunnel"
	"ddtb/tsp"
)

// Proto41 chooses who encapsulates a v6v4 tunnel.
type Proto41 int

// The choices.
const (
	Whichever Proto41 = iota // the kernel if it can
	Kernel                   // its sit device
	Raw                      // this process, with a raw socket
)

// Config is what the subscriber wants of his machine.
type Config struct {
	Interface string
	RunDir    string       // where the journal and the file of name servers are
	MTU       int          // 0 for the server's
	Default   netip.Prefix // routed into the tunnel; not valid if nothing is
	Metric    int
	Router    bool     // take the delegated prefix
	LANs      []string // and put a subnet on each
	Advertise bool     // and announce it there
	Proto41   Proto41
	Log       zerolog.Logger
}

// Machine implements agent.Machine. It is used by one goroutine at a time.
type Machine struct {
	config  Config
	host    *host.Host
	changed <-chan struct{}
	unwatch func()
	state   host.State      // wanted at the moment; the zero State before the first Raise and after Clear
	device  *tunnel.Device  // nil if there is none
	raw     *tunnel.Proto41 // nil if there is none
	noSit   bool            // the kernel said so

	announcers map[string]*advert.Announcer // by LAN
}

// Open takes the interface name for this process, and takes back what a killed predecessor left.
func Open(config Config) (*Machine, error) {
	changed, unwatch, err := host.Watch(config.Log)
	if err != nil {
		return nil, err
	}
	h, err := host.Open(config.RunDir, config.Interface, config.Log)
	if err != nil {
		unwatch()
		return nil, err
	}
	return &Machine{config: config, host: h, changed: changed, unwatch: unwatch, announcers: make(map[string]*advert.Announcer)}, nil
}

// Close gives the interface name free; Clear comes before.
func (m *Machine) Close() error {
	m.unwatch()
	return m.host.Close()
}

// Changed implements agent.Machine.
func (m *Machine) Changed() <-chan struct{} { return m.changed }

// Path implements agent.Machine. A way that leads into the tunnel itself is none.
func (m *Machine) Path(server netip.Addr) (host.Path, error) {
	path, err := host.PathTo(server)
	if err != nil {
		return host.Path{}, err
	}
	if path.Through(m.config.Interface) {
		return host.Path{}, fmt.Errorf("the route to %v leads into the tunnel %s itself", server, m.config.Interface)
	}
	return path, nil
}

// Raise implements agent.Machine.
func (m *Machine) Raise(s agent.Session) error {
	state := m.wanted(s.Info())
	if err := m.carry(state, s); err != nil {
		return err
	}
	return m.announce(m.state)
}

// carry makes the machine use s, but for the LANs.
func (m *Machine) carry(state host.State, s agent.Session) error {
	if s.Info().Offer.Type == tsp.V6V4 && m.config.Proto41 != Raw && !m.noSit {
		err := m.raiseSit(state, host.Sit{Local: s.Info().Local, Remote: s.Info().Offer.ServerIPv4})
		if m.config.Proto41 == Kernel || !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		m.config.Log.Debug().Err(err).Msg("no sit device, encapsulating here")
		m.noSit = true
		m.state = host.State{}
	}
	return m.raiseTUN(state, s)
}

// raiseSit lets the kernel encapsulate. The error wraps errors.ErrUnsupported if it cannot.
func (m *Machine) raiseSit(state host.State, sit host.Sit) error {
	if err := m.stop(); err != nil {
		return err
	}
	if m.device != nil { // the name is needed
		err := m.device.Close()
		m.device = nil
		if err != nil {
			return fmt.Errorf("TUN interface: %w", err)
		}
	}
	state.Sit = sit
	m.state = state
	return m.host.Apply(state)
}

// raiseTUN encapsulates in this process.
func (m *Machine) raiseTUN(state host.State, s agent.Session) error {
	if err := m.openDevice(); err != nil {
		return err
	}
	m.state = state
	if err := m.host.Apply(state); err != nil {
		return err
	}
	old := m.raw
	m.raw = nil
	outer, err := m.outer(s)
	if err != nil {
		m.raw = old
		return err
	}
	m.device.Carry(outer, s.Info().Offer.ClientIPv6)
	if old != nil {
		return old.Close()
	}
	return nil
}

// openDevice makes the TUN interface unless it is there and works.
func (m *Machine) openDevice() error {
	if m.state.Sit != (host.Sit{}) { // the name is needed
		if err := m.host.Clear(); err != nil {
			return err
		}
	}
	if m.device != nil {
		select {
		case <-m.device.Done():
			m.config.Log.Warn().Str("interface", m.config.Interface).Msg("somebody removed the tunnel interface, making it again")
			_ = m.device.Close()
			m.device = nil
		default:
			return nil
		}
	}
	device, err := tunnel.Open(m.config.Interface, m.config.Log)
	if err != nil {
		return err
	}
	m.device = device
	return nil
}

// outer opens the way to the server.
func (m *Machine) outer(s agent.Session) (tunnel.Outer, error) {
	if socket := s.Socket(); socket != nil {
		return tunnel.NewUDP(socket)
	}
	raw, err := tunnel.NewProto41(s.Info().Local, s.Info().Offer.ServerIPv4)
	if err != nil {
		return nil, err
	}
	m.raw = raw
	return raw, nil
}

// Lower implements agent.Machine.
func (m *Machine) Lower() error {
	err := m.stop()
	if m.state.Interface == "" {
		return err
	}
	m.state.Default = netip.Prefix{}
	return errors.Join(err, m.announce(m.state), m.host.Apply(m.state))
}

// Clear implements agent.Machine.
func (m *Machine) Clear() error {
	err := errors.Join(m.silence(), m.stop(), m.host.Clear())
	m.state = host.State{}
	if m.device != nil {
		err = errors.Join(err, m.device.Close())
		m.device = nil
	}
	return err
}

// stop stops encapsulating in this process.
func (m *Machine) stop() error {
	if m.device != nil {
		m.device.Carry(nil, netip.Addr{})
		c := m.device.Counters()
		m.config.Log.Debug().Uint64("sent", c.Sent).Uint64("received", c.Received).Uint64("unsent", c.Unsent).
			Uint64("refused", c.Refused).Msg("packets so far")
	}
	if m.raw == nil {
		return nil
	}
	raw := m.raw
	m.raw = nil
	return raw.Close()
}
