// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

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
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("netlink: %w", err), space.Close())
	}
	return &host{space: space, nl: nl}, nil
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

// sysctl reads a number below /proc/sys/net; in the name a slash separates.
func (h *host) sysctl(name string) (value int, err error) {
	err = h.do(func() error {
		text, err := os.ReadFile("/proc/sys/net/" + name)
		if err != nil {
			return err
		}
		value, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err
	})
	return value, err
}

// setSysctl writes a number that is not there yet.
func (h *host) setSysctl(name string, value int) error {
	if now, err := h.sysctl(name); err == nil && now == value {
		return nil
	}
	return h.do(func() error {
		return os.WriteFile("/proc/sys/net/"+name, []byte(strconv.Itoa(value)), 0)
	})
}
