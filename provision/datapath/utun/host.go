// SPDX-License-Identifier: GPL-2.0-or-later

package utun

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// answerTime is how long the kernel may take to answer; it is bounded only lest a defect hang the daemon.
const answerTime = time.Minute

// host is the network namespace the driver works in, which is that of the thread New was called on. Go moves goroutines
// between threads, so whatever depends on a thread's namespace goes through do; netlink sockets remember theirs.
type host struct {
	space netns.NsHandle
	nl    *netlink.Handle
}

func newHost() (*host, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	space, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err == nil {
		err = handle.SetSocketTimeout(answerTime)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("netlink: %w", err), space.Close())
	}
	return &host{space: space, nl: handle}, nil
}

func (h *host) close() error {
	h.nl.Close()
	return h.space.Close()
}

// do runs f on a thread that is in the namespace.
func (h *host) do(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	outside, err := netns.Get()
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer outside.Close()
	if outside.Equal(h.space) {
		return f()
	}
	if err := netns.Set(h.space); err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	err = f()
	if back := netns.Set(outside); back != nil {
		panic("the thread cannot leave the network namespace: " + back.Error())
	}
	return err
}

// generic opens a generic netlink socket. Only one for another namespace than the thread's own would take CAP_SYS_ADMIN.
func (h *host) generic() (socket *nl.NetlinkSocket, err error) {
	err = h.do(func() (err error) {
		socket, err = nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_GENERIC)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("generic netlink: %w", err)
	}
	timeout := unix.NsecToTimeval(answerTime.Nanoseconds())
	if err := errors.Join(socket.SetExtAck(true), socket.SetSendTimeout(&timeout), socket.SetReceiveTimeout(&timeout)); err != nil {
		socket.Close()
		return nil, fmt.Errorf("generic netlink: %w", err)
	}
	return socket, nil
}

// whole lists something of the kernel, again if that changed while it was read: others make and delete interfaces, too.
func whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range 100 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return nil, err
}

// setSysctl writes a number below /proc/sys/net that is not there yet; in the name a slash separates.
func (h *host) setSysctl(name string, value int) error {
	return h.do(func() error {
		file, text := "/proc/sys/net/"+name, strconv.Itoa(value)
		if now, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(now)) == text {
			return nil
		}
		return os.WriteFile(file, []byte(text), 0)
	})
}

// forwards tells whether this host is an IPv6 router.
func (h *host) forwards() error {
	return h.do(func() error {
		on, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/forwarding")
		if err != nil {
			return fmt.Errorf("is this host an IPv6 router: %w", err)
		}
		if strings.TrimSpace(string(on)) == "0" {
			return errors.New("net.ipv6.conf.all.forwarding is 0: a tunnel server has to forward IPv6; set it with: " +
				"sysctl -w net.ipv6.conf.all.forwarding=1 (and net.ipv6.conf.NAME.accept_ra=2 for an interface that takes its default route from router advertisements)")
		}
		return nil
	})
}

// interfaces looks for those a Config names. The module needs none of them: it takes packets wherever they come in. But a
// name that is not there is a mistake.
func (h *host) interfaces(config datapath.Config) error {
	var errs []error
	for _, name := range append(append([]string{}, config.Uplinks...), config.Cores...) {
		if _, err := h.nl.LinkByName(name); err != nil {
			errs = append(errs, fmt.Errorf("interface %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
