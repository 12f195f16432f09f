// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import "ddtb/provision/datapath/space"

// host is the network namespace the driver works in.
type host struct{ *space.Space }

func newHost() (*host, error) {
	s, err := space.Open()
	if err != nil {
		return nil, err
	}
	return &host{s}, nil
}
