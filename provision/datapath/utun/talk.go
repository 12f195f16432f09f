// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// genlHeader is the length of a generic netlink header.
const genlHeader = 4

// errNoModule says what to do where the kernel has no utun.
var errNoModule = fmt.Errorf("%w: it has no module utun: load it with `modprobe utun`; if there is none to load, build and install it for this "+
	"kernel with `make -C kmod modules modules_install`, or by DKMS (kmod/README.md)", datapath.ErrNotSupported)

// family is the module's generic netlink family, as seen from the host's network namespace.
type family struct {
	host   *host
	id     int
	shared *nl.SocketHandle // of all requests but dumps; it has a lock of its own
}

// openFamily finds the module; the kernel loads it if it is installed.
func openFamily(h *host) (*family, error) {
	socket, err := h.generic()
	if err != nil {
		return nil, err
	}
	f := &family{host: h, id: unix.GENL_ID_CTRL, shared: &nl.SocketHandle{Socket: socket}}
	ask := message{unix.CTRL_CMD_GETFAMILY, 1, 0, 0}
	ask.add(unix.CTRL_ATTR_FAMILY_NAME, append([]byte(genlName), 0)...)
	id := 0
	err = f.request(ask, func(attributes []byte) error {
		return walk(attributes, func(kind uint16, value []byte) error {
			if kind == unix.CTRL_ATTR_FAMILY_ID && len(value) == 2 {
				id = int(binary.NativeEndian.Uint16(value))
			}
			return nil
		})
	})
	if errors.Is(err, unix.ENOENT) {
		err = errNoModule
	}
	if err == nil && id == 0 {
		err = errors.New("the kernel does not tell its id")
	}
	if err != nil {
		f.close()
		return nil, fmt.Errorf("generic netlink family %s: %w", genlName, err)
	}
	f.id = id
	return f, nil
}

func (f *family) close() { f.shared.Close() }

// request sends a command and calls reply, if it is not nil, with the attributes of the answer. The error has what the kernel
// says beside the number.
func (f *family) request(m message, reply func(attributes []byte) error) error {
	request := nl.NewNetlinkRequest(f.id, unix.NLM_F_ACK)
	request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_GENERIC: f.shared}
	request.AddRawData(m)
	answers, err := request.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return explain(err)
	}
	for _, answer := range answers {
		if len(answer) < genlHeader {
			return errTruncated
		}
		if reply != nil {
			if err := reply(answer[genlHeader:]); err != nil {
				return err
			}
		}
	}
	return nil
}

// explain adds what to do.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: CAP_NET_ADMIN is needed", err)
	}
	return err
}

// dump sends a command that is answered by many messages, and calls each with the attributes of one; false ends it. It has a
// socket of its own, and the kernel goes on as fast as each takes: so each may send other requests.
func (f *family) dump(m message, each func(attributes []byte) (bool, error)) error {
	socket, err := f.host.generic()
	if err != nil {
		return err
	}
	defer socket.Close()
	request := nl.NewNetlinkRequest(f.id, unix.NLM_F_DUMP)
	request.AddRawData(m)
	if err := socket.Send(request); err != nil {
		return fmt.Errorf("generic netlink: %w", err)
	}
	for {
		messages, _, err := socket.Receive()
		if err != nil {
			return fmt.Errorf("generic netlink: %w", err)
		}
		for _, m := range messages {
			if m.Header.Seq != request.Seq {
				continue
			}
			if m.Header.Type == unix.NLMSG_DONE || m.Header.Type == unix.NLMSG_ERROR {
				return endOf(m)
			}
			if len(m.Data) < genlHeader {
				return errTruncated
			}
			if more, err := each(m.Data[genlHeader:]); err != nil || !more {
				return err
			}
		}
	}
}

// endOf gives the error that ended a dump, if one did.
func endOf(m syscall.NetlinkMessage) error {
	if len(m.Data) < 4 {
		return nil
	}
	if number := int32(binary.NativeEndian.Uint32(m.Data)); number < 0 {
		return explain(unix.Errno(-number))
	}
	return nil
}
