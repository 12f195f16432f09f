// SPDX-License-Identifier: GPL-2.0-or-later

package lab

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRootLab joins two namespaces and looks at them from inside.
func TestRootLab(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	a, b := space(t, "a"), space(t, "b")
	left := End{Space: a, Name: "tb-left", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}}
	right := End{Space: b, Name: "tb-right", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}}
	if err := Join(left, right); err != nil {
		t.Fatal(err)
	}
	if err := a.Offload("tb-left", map[Feature]bool{TxChecksum: false, TSO: false}); err != nil {
		t.Error(err)
	}
	anywhere := netip.MustParsePrefix("198.51.100.0/24")
	if err := b.AddRoute(Route{To: anywhere, Device: "lo", Local: true}); err != nil {
		t.Fatal(err)
	}
	if err := a.AddRoute(Route{To: anywhere, Via: netip.MustParseAddr("192.0.2.2")}); err != nil {
		t.Fatal(err)
	}
	carry(t, a, b, "198.51.100.77:7000")
	if _, err := net.InterfaceByName("tb-left"); err == nil {
		t.Error("the device is in our own namespace")
	}
}

// carry sends a datagram from one namespace to an address of the other.
func carry(t *testing.T, from, to *Space, address string) {
	t.Helper()
	var receiver net.PacketConn
	err := to.Do(func() (err error) {
		receiver, err = net.ListenPacket("udp", address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.Close()
	err = from.Do(func() error {
		sender, err := net.Dial("udp", address)
		if err != nil {
			return err
		}
		defer sender.Close()
		_, err = sender.Write([]byte("hello"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 16)
	if n, _, err := receiver.ReadFrom(buffer); err != nil || string(buffer[:n]) != "hello" {
		t.Errorf("received %q, %v", buffer[:n], err)
	}
}

// TestRootSpaceMounts: the BPF file system is the namespace's own.
func TestRootSpaceMounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	s := space(t, "mounts")
	path := filepath.Join(BPFFS, "tb-test")
	if err := s.Do(func() error { return os.Mkdir(path, 0o700) }); err != nil {
		t.Fatal(err)
	}
	if err := s.Do(func() error { _, err := os.Stat(path); return err }); err != nil {
		t.Errorf("not there on the next thread: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("seen from outside: %v", err)
	}
}

// TestRootProcess starts a program inside a namespace.
func TestRootProcess(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	s := space(t, "process")
	process, err := s.Start(exec.Command("sleep", "600"))
	if err != nil {
		t.Fatal(err)
	}
	var own, its unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &own); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(filepath.Join("/proc", strconv.Itoa(process.Pid), "ns/net"), &its); err != nil {
		t.Fatal(err)
	}
	if own.Ino == its.Ino {
		t.Error("the program runs in our own namespace")
	}
	select {
	case <-process.Done():
		t.Fatalf("ended by itself: %v", process.Wait())
	default:
	}
	if err := process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := process.Wait(); err == nil {
		t.Error("no error from a program that was ended by a signal")
	}
	if _, err := s.Start(exec.Command("/nonexistent")); err == nil {
		t.Error("started what is not there")
	}
}

func space(t *testing.T, name string) *Space {
	t.Helper()
	s, err := NewSpace(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
