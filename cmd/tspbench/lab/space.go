// SPDX-License-Identifier: GPL-2.0-or-later

// Package lab makes small networks to measure in: network namespaces joined by veth pairs.
//
// Nothing of it has a name in the file system. A namespace lives by a file descriptor of this process and by the
// processes started in it, which the kernel ends together with this one; so a network vanishes with the process that made
// it, however that ends.
package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// BPFFS is where a Space has a BPF file system of its own.
const BPFFS = "/sys/fs/bpf"

// Space is a network namespace with a mount namespace of its own, in which a BPF file system is mounted on BPFFS.
type Space struct {
	Name    string
	Netlink *netlink.Handle

	network netns.NsHandle
	mount   int
}

// NewSpace makes a namespace with its loopback up and forwarding on. It needs root.
func NewSpace(name string) (*Space, error) {
	space := &Space{Name: name, network: -1, mount: -1}
	err := onThread(space.unshare)
	if err == nil {
		space.Netlink, err = netlink.NewHandleAt(space.network, unix.NETLINK_ROUTE)
	}
	if err == nil {
		err = space.prepare()
	}
	if err != nil {
		return nil, fmt.Errorf("namespace %s: %w", name, errors.Join(err, space.Close()))
	}
	return space, nil
}

// unshare gives the calling thread new namespaces and keeps them by descriptors. The thread must not be used again.
func (s *Space) unshare() error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// A fresh sysfs shows the devices of this network namespace. It hides whatever is mounted below the old one.
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount sysfs: %w", err)
	}
	if err := unix.Mount("bpf", BPFFS, "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mount %s: %w", BPFFS, err)
	}
	var err error
	if s.network, err = netns.Get(); err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	if s.mount, err = unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open mount namespace: %w", err)
	}
	return nil
}

func (s *Space) prepare() error {
	loopback, err := s.Netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := s.Netlink.LinkSetUp(loopback); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	return s.Sysctl(map[string]string{
		"net/ipv4/ip_forward":                        "1",
		"net/ipv4/conf/all/rp_filter":                "0",
		"net/ipv4/conf/default/rp_filter":            "0",
		"net/ipv4/conf/all/send_redirects":           "0",
		"net/ipv6/conf/all/forwarding":               "1",
		"net/ipv6/conf/all/accept_dad":               "0",
		"net/ipv6/conf/default/accept_dad":           "0",
		"net/ipv6/conf/default/router_solicitations": "0",
	})
}

// Sysctl writes values to files below /proc/sys, by path ("net/ipv4/ip_forward").
func (s *Space) Sysctl(values map[string]string) error {
	return s.Do(func() error {
		for path, value := range values {
			if err := os.WriteFile("/proc/sys/"+path, []byte(value), 0o644); err != nil {
				return fmt.Errorf("sysctl: %w", err)
			}
		}
		return nil
	})
}

// Do runs f on a thread inside the namespace that serves nothing else. What f starts with go runs elsewhere.
func (s *Space) Do(f func() error) error { return s.on(-1, f) }

// Pinned is Do on a thread that runs on one CPU only.
func (s *Space) Pinned(cpu int, f func() error) error { return s.on(cpu, f) }

// on runs f on a thread inside the namespace, if there is one, on one CPU only, if it is not -1.
func (s *Space) on(cpu int, f func() error) error {
	return onThread(func() error {
		if s != nil {
			if err := s.enter(); err != nil {
				return err
			}
		}
		if cpu >= 0 {
			var set unix.CPUSet
			set.Set(cpu)
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				return fmt.Errorf("pin to CPU %d: %w", cpu, err)
			}
		}
		return f()
	})
}

// Process is a program running in a Space.
type Process struct {
	*os.Process
	done chan struct{}
	err  error
}

// Start starts cmd inside the namespace. The kernel kills it if this process ends first.
func (s *Space) Start(cmd *exec.Cmd) (*Process, error) { return s.StartOn(-1, cmd) }

// Start starts cmd where this process is. The kernel kills it if this process ends first.
func Start(cmd *exec.Cmd) (*Process, error) { return (*Space)(nil).Start(cmd) }

// StartOn is Start on one CPU only, if it is not -1. A nil Space is where this process is.
func (s *Space) StartOn(cpu int, cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	process := &Process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The death signal is sent when the thread that started the child ends, so that thread waits for it.
		_ = s.on(cpu, func() error {
			err := cmd.Start()
			process.Process = cmd.Process
			started <- err
			if err == nil {
				process.err = cmd.Wait()
			}
			return nil
		})
		close(process.done)
	}()
	select {
	case err := <-started:
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
		}
		return process, nil
	case <-process.done:
		return nil, fmt.Errorf("start %s: its namespace cannot be entered, or CPU %d not be used", cmd.Path, cpu)
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end of the process and says how it ended, like exec.Cmd.Wait.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Close lets go of the namespace; it is gone when no process is left in it.
func (s *Space) Close() error {
	var errs []error
	if s.Netlink != nil {
		s.Netlink.Close()
		s.Netlink = nil
	}
	if s.network >= 0 {
		errs = append(errs, unix.Close(int(s.network)))
	}
	if s.mount >= 0 {
		errs = append(errs, unix.Close(s.mount))
	}
	s.network, s.mount = -1, -1
	return errors.Join(errs...)
}

func (s *Space) enter() error {
	// A thread that shares its working directory with others may not change its mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Setns(s.mount, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter mount namespace of %s: %w", s.Name, err)
	}
	if err := unix.Setns(int(s.network), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace of %s: %w", s.Name, err)
	}
	return nil
}

// onThread runs f on a thread of its own that ends with it.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread
		result <- f()
	}()
	return <-result
}
