// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
	"ddtb/provision/datapath/space"
)

// host is the network namespace the driver works in.
type host struct{ *space.Space }

func newHost() (*host, error) {
	s, err := space.Open()
	if err != nil {
		return nil, err
	}
	return &host{s}, nil
}

// generic opens a generic netlink socket. Only one for another namespace than the thread's own would take CAP_SYS_ADMIN.
func (h *host) generic() (socket *nl.NetlinkSocket, err error) {
	err = h.Do(func() (err error) {
		socket, err = nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_GENERIC)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("generic netlink: %w", err)
	}
	timeout := unix.NsecToTimeval(space.AnswerTime.Nanoseconds())
	if err := errors.Join(socket.SetExtAck(true), socket.SetSendTimeout(&timeout), socket.SetReceiveTimeout(&timeout)); err != nil {
		socket.Close()
		return nil, fmt.Errorf("generic netlink: %w", err)
	}
	return socket, nil
}

// interfaces looks for those a Config names. The module needs none of them: it takes packets wherever they come in. But a
// name that is not there is a mistake.
func (h *host) interfaces(config datapath.Config) error {
	var errs []error
	for _, name := range append(append([]string{}, config.Uplinks...), config.Cores...) {
		if _, err := h.Netlink.LinkByName(name); err != nil {
			errs = append(errs, fmt.Errorf("interface %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
