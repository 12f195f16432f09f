// SPDX-License-Identifier: GPL-2.0-or-later

package e2e

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"ddtb/provision/datapath/datapathtest/slow"
)

// Flow is a stream of numbered UDP datagrams that another host sends back: what it lost was lost on the way there or
// back.
type Flow struct {
	client, server *net.UDPConn
	stop, stopped  chan struct{}
	sent, received atomic.Uint64

	mu   sync.Mutex
	seen map[uint64]bool // numbers that came back
	errs []error         // of sending
}

// flowInterval is the time between two datagrams of a Flow: 1,000 a second leave no hole a lost packet could hide in.
var flowInterval = slow.Times(time.Millisecond)

// StartFlow sends from one host to an address of another, from the source address if it is valid. It begins to count when
// a first datagram was answered, since the very first may be lost while neighbours are looked up.
func StartFlow(from *Host, source netip.Addr, to *Host, address netip.Addr) (*Flow, error) {
	server, err := to.listenUDP(address)
	if err != nil {
		return nil, err
	}
	go echo(server)
	client, err := from.dialUDP(source, bound(server.LocalAddr()))
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	if err := errors.Join(from.patient(), to.patient(), probe(client)); err != nil {
		return nil, errors.Join(fmt.Errorf("flow from %s to %s: %w", from.Name, address, err), client.Close(), server.Close())
	}
	flow := &Flow{
		client: client, server: server, stop: make(chan struct{}), stopped: make(chan struct{}),
		seen: map[uint64]bool{0: true}, // a late answer to probe
	}
	go flow.receive()
	go flow.send()
	return flow, nil
}

// probe sends the number 0, which is not counted, until it comes back.
func probe(conn *net.UDPConn) error {
	datagram := make([]byte, 8)
	err := Await(patience, func() error {
		if err := conn.SetReadDeadline(time.Now().Add(slow.Times(200 * time.Millisecond))); err != nil {
			return err
		}
		if _, err := conn.Write(datagram); err != nil {
			return err
		}
		_, err := conn.Read(datagram)
		return err
	})
	return errors.Join(err, conn.SetReadDeadline(time.Time{}))
}

// patient gives a socket room for some seconds of a Flow, so that a busy machine does not make us lose what arrived.
func patient(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
	})
	return errors.Join(err, set)
}

// patientQueue is how many packets may wait for a client that reads them from its tunnel device; the kernel's 500 are half a second
// of a Flow.
const patientQueue = 10000

// patient gives the tunnel devices of clients the same room.
func (h *Host) patient() error {
	links, err := h.links.LinkList()
	if err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	for _, link := range links {
		if link.Type() == "tuntap" {
			err = errors.Join(err, h.links.LinkSetTxQLen(link, patientQueue))
		}
	}
	return err
}

// Await waits until more answers have come than there were.
func (f *Flow) Await(more uint64, timeout time.Duration) error {
	wanted := f.received.Load() + more
	return Await(timeout, func() error {
		if got := f.received.Load(); got < wanted {
			return fmt.Errorf("%d of %d answers came", got, wanted)
		}
		return nil
	})
}

// Stop stops sending, waits for the last answers and says how many datagrams were sent and which did not come back. The
// error tells of those that could not even be sent, which are among the lost.
func (f *Flow) Stop() (sent uint64, lost []uint64, err error) {
	close(f.stop)
	<-f.stopped
	sent = f.sent.Load()
	// Those missing when none has come for a while are lost.
	for f.received.Load() < sent {
		if f.Await(1, slow.Times(3*time.Second)) != nil {
			break
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for number := uint64(1); number <= sent; number++ {
		if !f.seen[number] {
			lost = append(lost, number)
		}
	}
	return sent, lost, errors.Join(append(f.errs, f.client.Close(), f.server.Close())...)
}

func (f *Flow) send() {
	defer close(f.stopped)
	pace := time.NewTicker(flowInterval)
	defer pace.Stop()
	datagram := make([]byte, 200)
	for {
		select {
		case <-f.stop:
			return
		case <-pace.C:
			number := f.sent.Add(1)
			binary.BigEndian.PutUint64(datagram, number)
			if _, err := f.client.Write(datagram); err != nil {
				f.mu.Lock()
				f.errs = append(f.errs, fmt.Errorf("datagram %d: %w", number, err))
				f.mu.Unlock()
			}
		}
	}
}

// receive counts each answer once: a duplicate must not make up for a lost one.
func (f *Flow) receive() {
	datagram := make([]byte, 2048)
	for {
		n, err := f.client.Read(datagram)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < 8 {
			continue // an ICMP error, for a datagram that will be counted as lost
		}
		number := binary.BigEndian.Uint64(datagram)
		f.mu.Lock()
		if !f.seen[number] {
			f.seen[number] = true
			f.received.Add(1)
		}
		f.mu.Unlock()
	}
}

// echo sends back what comes until the socket is closed.
func echo(conn *net.UDPConn) {
	datagram := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(datagram)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = conn.WriteToUDPAddrPort(datagram[:n], from)
		}
	}
}

// bound is where a socket is bound.
func bound(local net.Addr) netip.AddrPort { return netip.MustParseAddrPort(local.String()) }

func (h *Host) listenUDP(address netip.Addr) (conn *net.UDPConn, err error) {
	err = h.Do(func() error {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 0)))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.Name, err)
	}
	return conn, patient(conn)
}

func (h *Host) dialUDP(source netip.Addr, to netip.AddrPort) (conn *net.UDPConn, err error) {
	var local *net.UDPAddr
	if source.IsValid() {
		local = net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	err = h.Do(func() error {
		conn, err = net.DialUDP("udp", local, net.UDPAddrFromAddrPort(to))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.Name, err)
	}
	return conn, patient(conn)
}

// Transfer copies size octets over TCP from one host to an address of another and compares what arrived. It gives the
// time it took.
func Transfer(ctx context.Context, from *Host, to *Host, address netip.Addr, size int) (time.Duration, error) {
	var listener *net.TCPListener
	err := to.Do(func() (err error) {
		listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(address, 0)))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", to.Name, err)
	}
	defer listener.Close()
	deadline, _ := ctx.Deadline()
	if err := listener.SetDeadline(deadline); err != nil {
		return 0, err
	}

	data := make([]byte, size)
	_, _ = rand.Read(data) // it never fails
	begin := time.Now()
	failed := make(chan error, 1)
	go func() {
		err := from.upload(ctx, bound(listener.Addr()), data)
		if err != nil {
			err = errors.Join(err, listener.Close()) // nobody will come any more
		}
		failed <- err
	}()
	arrived, err := download(listener, deadline)
	if err = errors.Join(err, <-failed); err != nil {
		return 0, fmt.Errorf("TCP from %s to %s: %w", from.Name, address, err)
	}
	if string(arrived) != string(data) {
		return 0, fmt.Errorf("TCP from %s to %s: %d octets sent, %d other ones arrived", from.Name, address, size, len(arrived))
	}
	return time.Since(begin), nil
}

func (h *Host) upload(ctx context.Context, to netip.AddrPort, data []byte) error {
	return h.Do(func() error {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", to.String())
		if err != nil {
			return err
		}
		_, err = conn.Write(data)
		return errors.Join(err, conn.Close())
	})
}

func download(listener *net.TCPListener, deadline time.Time) ([]byte, error) {
	conn, err := listener.Accept()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	return io.ReadAll(conn)
}
