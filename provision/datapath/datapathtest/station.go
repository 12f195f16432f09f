// SPDX-License-Identifier: GPL-2.0-or-later

package datapathtest

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"ddtb/provision/datapath/datapathtest/slow"
)

// patience is how long a test waits for what must come; the machine may be busy, or an emulated one.
var patience = slow.Times(30 * time.Second)

// space is a network namespace of its own.
type space struct {
	handle netns.NsHandle
	nl     *netlink.Handle
}

// newSpace makes a namespace that ends with the test.
func newSpace(t *testing.T) *space {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	outside, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	s := &space{}
	if s.handle, err = netns.New(); err != nil {
		t.Fatal(err)
	}
	if err := netns.Set(outside); err != nil {
		panic(err)
	}
	if s.nl, err = netlink.NewHandleAt(s.handle, unix.NETLINK_ROUTE); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.nl.Close(); _ = s.handle.Close() })
	return s
}

// do runs f on a thread that is in the namespace.
func (s *space) do(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	outside, err := netns.Get()
	if err != nil {
		panic(err)
	}
	defer outside.Close()
	if err := netns.Set(s.handle); err != nil {
		panic(err)
	}
	defer func() {
		if err := netns.Set(outside); err != nil {
			panic(err)
		}
	}()
	f()
}

// onOneCPU keeps the test on one CPU to its end, and so what the kernel does about the frames it sends.
func onOneCPU(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	var all, one unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &all))
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	must(t, unix.SchedSetaffinity(0, &one))
	t.Cleanup(func() {
		must(t, unix.SchedSetaffinity(0, &all))
		runtime.UnlockOSThread()
	})
}

// carries awaits that a device is ready. The kernel gets round to it some time after both ends are up; what is sent before
// is lost.
func carries(t *testing.T, s *space, device string) {
	t.Helper()
	eventually(t, func() string {
		l, err := s.nl.LinkByName(device)
		must(t, err)
		if l.Attrs().OperState == netlink.OperUp {
			return ""
		}
		return fmt.Sprintf("%s is %s", device, l.Attrs().OperState)
	})
}

// station sends and receives frames on an interface, every octet of them.
type station struct {
	fd      int
	mac     net.HardwareAddr
	gateway net.HardwareAddr // the server's
	buffer  []byte
}

// newStation opens an interface. Several stations may share one.
func newStation(t *testing.T, s *space, device string, mac, gateway net.HardwareAddr) *station {
	t.Helper()
	link, err := s.nl.LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	st := &station{mac: mac, gateway: gateway, buffer: make([]byte, 1<<16)}
	s.do(func() {
		st.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err == nil {
			err = errors.Join(
				unix.SetsockoptInt(st.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
				unix.SetsockoptInt(st.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
				unix.Bind(st.fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: link.Attrs().Index}), // ETH_P_ALL
			)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(st.fd) })
	return st
}

// send puts a packet on the wire, to the server.
func (s *station) send(protocol uint16, packet []byte) {
	s.sendFrame(frame{to: s.gateway, from: s.mac, protocol: protocol, payload: packet}.bytes())
}

func (s *station) sendFrame(b []byte) {
	for {
		_, err := unix.Write(s.fd, b)
		switch {
		case err == nil:
			return
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EAGAIN):
			s.poll(unix.POLLOUT, time.Millisecond)
		default:
			panic(fmt.Sprintf("send frame of %d octets: %v", len(b), err))
		}
	}
}

func (s *station) poll(events int16, d time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: events}}
	n, err := unix.Poll(fds, int(d.Milliseconds()))
	return err == nil && n > 0
}

// receive gives the next frame for this station, ok false if none comes within d.
func (s *station) receive(d time.Duration) (frame, bool) {
	for end := time.Now().Add(d); ; {
		n, err := unix.Read(s.fd, s.buffer)
		if err == nil {
			f, ok := parseFrame(append([]byte{}, s.buffer[:n]...))
			if ok && string(f.to) == string(s.mac) {
				return f, true
			}
			continue
		}
		left := time.Until(end)
		if left <= 0 {
			return frame{}, false
		}
		s.poll(unix.POLLIN, min(left, 50*time.Millisecond)+time.Millisecond)
	}
}

// drain forgets what has arrived.
func (s *station) drain() {
	for {
		if _, ok := s.receive(0); !ok {
			return
		}
	}
}

// await gives the first packet that arrives and matches.
func await[P any](t *testing.T, s *station, what string, match func(frame) (P, bool)) P {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		f, ok := s.receive(time.Until(end))
		if !ok {
			break
		}
		if p, ok := match(f); ok {
			return p
		}
	}
	t.Fatalf("%s did not arrive", what) //nolint:revive // the compiler does not know that Fatalf does not return
	var none P
	return none
}

// eventually waits until a condition holds; it gives "" then, else what is missing.
func eventually(t *testing.T, condition func() string) {
	t.Helper()
	missing := ""
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if missing = condition(); missing == "" {
			return
		}
	}
	t.Fatal(missing)
}
