// SPDX-License-Identifier: GPL-2.0-or-later

// Package space is the network namespace a datapath driver works in, whatever thread it is called on: its routing netlink, its
// settings below /proc/sys/net, and a way to do anything else there. Both drivers stand on it.
package space

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// AnswerTime is how long the kernel may take to answer on netlink; it is bounded only lest a defect hang the daemon.
const AnswerTime = time.Minute

// Space is the network namespace of the thread that Open was called on. Go moves goroutines between threads, so whatever
// depends on a thread's namespace goes through Do; netlink sockets remember theirs.
type Space struct {
	Netlink *netlink.Handle // for NETLINK_ROUTE

	handle netns.NsHandle
}

// Open gives the namespace of the calling thread. The caller closes it.
func Open() (*Space, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	handle, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	routes, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err == nil {
		err = routes.SetSocketTimeout(AnswerTime)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("netlink: %w", err), handle.Close())
	}
	return &Space{Netlink: routes, handle: handle}, nil
}

// Close lets go of the namespace.
func (s *Space) Close() error {
	s.Netlink.Close()
	return s.handle.Close()
}

// Do runs f on a thread that is in the namespace, and returns its error.
func (s *Space) Do(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	outside, err := netns.Get()
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer outside.Close()
	if outside.Equal(s.handle) {
		return f()
	}
	if err := netns.Set(s.handle); err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	err = f()
	if back := netns.Set(outside); back != nil {
		panic("the thread cannot leave the network namespace: " + back.Error())
	}
	return err
}

// Whole lists something of the kernel, again if that changed while it was read: others make and delete interfaces and routes, too.
// The error is list's, or that of the last of a hundred attempts.
func Whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range 100 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return nil, err
}

// Sysctl reads a number below /proc/sys/net; in the name a slash separates.
func (s *Space) Sysctl(name string) (value int, err error) {
	err = s.Do(func() error {
		text, err := os.ReadFile("/proc/sys/net/" + name)
		if err != nil {
			return err
		}
		value, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err
	})
	return value, err
}

// SetSysctl writes a number that is not there yet.
func (s *Space) SetSysctl(name string, value int) error {
	if now, err := s.Sysctl(name); err == nil && now == value {
		return nil
	}
	return s.Do(func() error {
		return os.WriteFile("/proc/sys/net/"+name, []byte(strconv.Itoa(value)), 0)
	})
}

// Forwards says what is wrong if the host is no IPv6 router. It is not made one: that stops every interface from learning its
// addresses and default route from router advertisements, which is for the operator to weigh.
func (s *Space) Forwards() error {
	on, err := s.Sysctl("ipv6/conf/all/forwarding")
	if err != nil {
		return fmt.Errorf("is this host an IPv6 router: %w", err)
	}
	if on == 0 {
		return errors.New("net.ipv6.conf.all.forwarding is 0: a tunnel server has to forward IPv6; set it with: " +
			"sysctl -w net.ipv6.conf.all.forwarding=1 (and net.ipv6.conf.NAME.accept_ra=2 for an interface that takes its default route from router advertisements)")
	}
	return nil
}
