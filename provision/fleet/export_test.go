// SPDX-License-Identifier: GPL-2.0-or-later

package fleet

// SendsAway tells whether a server that balances sends its clients to another of this load.
func SendsAway(self, other Node) bool {
	return len(choose([]Node{other}, below(self))) > 0
}
