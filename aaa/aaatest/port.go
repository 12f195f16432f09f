// SPDX-License-Identifier: GPL-2.0-or-later

package aaatest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports for servers in tests: below those that Linux gives to clients unless told otherwise (net.ipv4.ip_local_port_range), one
// of which might take a port between our look and the server's.
const firstPort, endPort = 20_000, 32_768

// FreePort finds a port of 127.0.0.1 that neither UDP nor TCP uses, for a server that has to be told its port before it starts.
func FreePort() (uint16, error) {
	var errs []error
	for range 100 {
		port := uint16(firstPort + rand.IntN(endPort-firstPort)) // #nosec G404 -- any will do
		err := free(fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, nil
		}
		errs = append(errs, err)
	}
	return 0, fmt.Errorf("no free port: %w", errors.Join(errs...))
}

// free tells why an address cannot be listened on.
func free(address string) error {
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return errors.Join(err, tcp.Close())
	}
	return errors.Join(udp.Close(), tcp.Close())
}
