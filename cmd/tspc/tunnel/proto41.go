// SPDX-License-Identifier: GPL-2.0-or-later

package tunnel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Proto41 is the Outer of a v6v4 tunnel where the kernel has no sit device: IPv6 packets right behind an IPv4 header,
// through a raw socket connected to the tunnel server. It needs CAP_NET_RAW.
type Proto41 struct {
	conn     *net.IPConn
	raw      syscall.RawConn
	remote   netip.Addr
	segments []byte // of Receive
}

// NewProto41 opens a raw socket between two IPv4 addresses of this host and the tunnel server.
func NewProto41(local, remote netip.Addr) (*Proto41, error) {
	conn, err := net.DialIP("ip4:41", &net.IPAddr{IP: local.AsSlice()}, &net.IPAddr{IP: remote.AsSlice()})
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("protocol 41 socket to %v: %w (CAP_NET_RAW is needed)", remote, err)
	}
	if err != nil {
		return nil, fmt.Errorf("protocol 41 socket to %v: %w", remote, err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("protocol 41 socket to %v: %w", remote, err)
	}
	var result error
	err = raw.Control(func(fd uintptr) { result = prepare(int(fd)) })
	if err = errors.Join(err, result); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("protocol 41 socket to %v: %w", remote, err)
	}
	return &Proto41{conn: conn, raw: raw, remote: remote}, nil
}

// Send implements Outer.
func (p *Proto41) Send(packets [][]byte) error {
	var lost error
	for i := range packets {
		if err := send(p.raw, packets[i:i+1], nil); err != nil {
			if !Passing(err) {
				return err
			}
			lost = err
		}
	}
	return lost
}

// Receive implements Outer. What the kernel merged on the way in is a run of segments again.
func (p *Proto41) Receive(buf []byte, wait bool) (run []byte, size int, err error) {
	for {
		n, _, err := receive(p.raw, buf, nil, wait)
		if err != nil || n == 0 && !wait {
			return nil, 0, err
		}
		if inner := stripIPv4(buf[:n], p.remote); len(inner) > 0 {
			run, size := unmerge(p.segments, inner)
			if size < len(run) {
				p.segments = run // it has grown to what is needed
			}
			return run, size, nil
		}
	}
}

// Stop implements Outer.
func (p *Proto41) Stop() { _ = p.conn.SetDeadline(time.Unix(1, 0)) }

// Close closes the socket.
func (p *Proto41) Close() error { return p.conn.Close() }
