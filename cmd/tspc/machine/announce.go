// SPDX-License-Identifier: GPL-2.0-or-later

package machine

import (
	"errors"
	"math/rand/v2"

	"ddtb/cmd/tspc/advert"
	"ddtb/cmd/tspc/host"
)

// announce announces on each LAN what state gives it, and says goodbye on those that have nothing any more.
func (m *Machine) announce(state host.State) error {
	if !m.config.Advertise || !state.Prefix.IsValid() {
		return m.silence()
	}
	for i, name := range m.config.LANs {
		subnet, ok := host.Subnet(state.Prefix, i)
		if !ok {
			m.config.Log.Warn().Str("interface", name).Stringer("prefix", state.Prefix).
				Msg("the prefix is too small for another LAN")
			continue
		}
		if m.announcers[name] == nil {
			link, err := advert.Open(name)
			if err != nil {
				return err
			}
			m.announcers[name] = advert.New(link, rand.Float64, m.config.Log)
		}
		m.announcers[name].Set(advert.Content{
			Prefix: subnet, MTU: state.MTU, Router: state.Default.IsValid(), Resolvers: state.Resolvers,
		})
	}
	return nil
}

// silence says goodbye on every LAN.
func (m *Machine) silence() error {
	var err error
	for name, announcer := range m.announcers {
		err = errors.Join(err, announcer.Close())
		delete(m.announcers, name)
	}
	return err
}
