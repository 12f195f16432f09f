// SPDX-License-Identifier: GPL-2.0-or-later

package provision

import (
	"net/netip"

	"ddtb/provision/datapath"
)

// At returns the active session whose tunnel of that encapsulation runs between a client's outer address and one of
// this server's, both IPv4 (4in6 is unmapped). The ports are not looked at for V6V4.
func (b *Broker) At(encap datapath.Encap, client, local netip.AddrPort) (Session, bool) {
	from, to := client.Addr().Unmap(), local.Addr().Unmap()
	if !from.Is4() || !to.Is4() {
		return Session{}, false
	}
	key := clientKey{client: from.As4(), local: to.As4(), encap: encap}
	if encap == datapath.V6UDPV4 {
		key.port = client.Port()
	}
	s := b.settings.Load()
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.clients[key]
	if e == nil {
		return Session{}, false
	}
	return e.session(s), true
}
