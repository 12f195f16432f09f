// SPDX-License-Identifier: GPL-2.0-or-later

package tunnel

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"
)

const (
	// headroom is what the TUN library puts in front of a packet: the virtio-net header.
	headroom = 10
	// outgoingSize holds one packet of the kernel: segmentation is done to the interface's MTU, which is at most
	// MaxMTU.
	outgoingSize = 2048
	// incomingSize holds one packet of the tunnel and what the TUN library appends to it when it coalesces.
	incomingSize = 16384
	// receiveSize holds the longest message of the outer socket.
	receiveSize = 65536
)

// MaxMTU is the largest MTU a tunnel can have: what an Ethernet's 1500 octets leave beneath an IPv4 header.
const MaxMTU = 1480

// Counters counts packets of a Device since it was opened.
type Counters struct {
	Sent     uint64 // into the tunnel
	Received uint64 // out of the tunnel
	Unsent   uint64 // of the kernel, not carried: link-local, multicast, no tunnel, refused by the network
	Refused  uint64 // of the tunnel, not delivered: not one whole IPv6 packet, impossible addresses, TSP
}

// Device is a TUN interface and the tunnel it is carried by at the moment.
type Device struct {
	name  string
	tun   tun.Device
	log   zerolog.Logger
	done  chan struct{}
	outer atomic.Pointer[carried]

	change  sync.Mutex // held by Carry and Close
	counted struct{ sent, received, unsent, refused atomic.Uint64 }
}

// carried is an Outer in use.
type carried struct {
	outer    Outer
	self     netip.Addr
	finished chan struct{} // closed when its receiver is done
}

// Open makes the TUN interface name. It exists until Close or the end of the process, and is down, without address, and
// drops what it is given until Carry. An interface of that name must not exist: the error then wraps fs.ErrExist.
func Open(name string, log zerolog.Logger) (*Device, error) {
	fd, err := openTUN(name)
	if err != nil {
		return nil, err
	}
	device, _, err := tun.CreateUnmonitoredTUNFromFD(fd)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("TUN interface %s: %w", name, err)
	}
	d := &Device{name: name, tun: device, log: log, done: make(chan struct{})}
	go d.read()
	return d, nil
}

// openTUN opens a new TUN interface with offloads.
func openTUN(name string) (int, error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return -1, fmt.Errorf("TUN interface %q: %w", name, err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("TUN interface %s: /dev/net/tun: %w", name, err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
	err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.EBUSY):
		err = fmt.Errorf("TUN interface %s: %w", name, fs.ErrExist)
	case errors.Is(err, unix.EPERM):
		err = fmt.Errorf("TUN interface %s: %w (CAP_NET_ADMIN is needed)", name, err)
	default:
		err = fmt.Errorf("TUN interface %s: %w", name, err)
	}
	_ = unix.Close(fd)
	return -1, err
}

// Name is the interface's name.
func (d *Device) Name() string { return d.name }

// Done is closed when the interface can no longer be read: after Close, or when somebody deleted it.
func (d *Device) Done() <-chan struct{} { return d.done }

// Counters reads the counters.
func (d *Device) Counters() Counters {
	return Counters{
		Sent: d.counted.sent.Load(), Received: d.counted.received.Load(),
		Unsent: d.counted.unsent.Load(), Refused: d.counted.refused.Load(),
	}
}

// Carry moves packets over outer from now on; self is the subscriber's tunnel address. The Outer used before is stopped
// and nothing is received from it when Carry returns. With nil the interface drops what it is given.
func (d *Device) Carry(outer Outer, self netip.Addr) {
	d.change.Lock()
	defer d.change.Unlock()
	var next *carried
	if outer != nil {
		next = &carried{outer: outer, self: self, finished: make(chan struct{})}
		go d.receive(next)
	}
	if last := d.outer.Swap(next); last != nil {
		last.outer.Stop()
		<-last.finished
	}
}

// Close stops the Outer and removes the interface.
func (d *Device) Close() error {
	d.Carry(nil, netip.Addr{})
	err := d.tun.Close()
	<-d.done
	return err
}

// read moves packets from the interface to the Outer until the interface is gone.
func (d *Device) read() {
	defer close(d.done)
	batch := d.tun.BatchSize()
	buffers, sizes := make([][]byte, batch), make([]int, batch)
	slab := make([]byte, batch*outgoingSize)
	for i := range buffers {
		buffers[i] = slab[i*outgoingSize : (i+1)*outgoingSize : (i+1)*outgoingSize]
	}
	packets := make([][]byte, 0, batch)
	for {
		n, err := d.tun.Read(buffers, sizes, 0)
		if gone(err) {
			return
		}
		if err != nil { // one packet the library could not split
			d.counted.unsent.Add(1)
			d.log.Debug().Err(err).Msg("packet of the kernel dropped")
		}
		packets = packets[:0]
		for i := range n {
			if p := buffers[i][:sizes[i]]; sendable(p) {
				repairZero(p)
				packets = append(packets, p)
			} else {
				d.counted.unsent.Add(1)
			}
		}
		d.send(packets)
	}
}

// send gives packets to the Outer of the moment.
func (d *Device) send(packets [][]byte) {
	if len(packets) == 0 {
		return
	}
	current := d.outer.Load()
	if current == nil {
		d.counted.unsent.Add(uint64(len(packets)))
		return
	}
	if err := current.outer.Send(packets); err != nil {
		d.counted.unsent.Add(1)
		return
	}
	d.counted.sent.Add(uint64(len(packets)))
}

// gone says whether reading the interface failed for good, rather than on one packet.
func gone(err error) bool {
	var system *fs.PathError
	return errors.Is(err, os.ErrClosed) || errors.As(err, &system)
}

// receive moves packets from c to the interface until c is stopped or fails.
func (d *Device) receive(c *carried) {
	defer close(c.finished)
	in := newInbox(d, c.self)
	buf := make([]byte, receiveSize)
	for {
		// What has come meanwhile joins the batch, so that the interface sees few and large writes.
		run, size, err := c.outer.Receive(buf, in.empty())
		switch {
		case err != nil && !Passing(err):
			in.deliver()
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				d.log.Error().Err(err).Msg("tunnel socket failed")
			}
			return
		case err != nil:
			d.log.Debug().Err(err).Msg("network error on the tunnel socket")
		case len(run) == 0:
			in.deliver()
		default:
			in.add(run, size)
		}
	}
}
