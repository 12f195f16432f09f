// SPDX-License-Identifier: GPL-2.0-or-later

// Package tunnel moves a subscriber's IPv6 packets between a TUN interface and the tunnel server: over the UDP socket
// the TSP dialogue was held on (v6udpv4, RFC 5572 section 4.5.2) or over a raw protocol 41 socket (v6v4, RFC 4213).
//
// Packets move in batches. The kernel hands TCP and UDP over unsegmented and takes it back coalesced (IFF_VNET_HDR), and
// runs of equal packets cross the UDP socket with UDP_SEGMENT and UDP_GRO, so that a stream costs a few system calls for
// some fifty packets. The outer header's DSCP and ECN stay 0 (the compatibility mode of RFC 6040 section 4.3): one
// UDP_SEGMENT run has one outer header for packets with several inner ones.
package tunnel

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// Outer carries packets between this host and one tunnel server. Send and Receive may run at the same time, each in one
// goroutine.
type Outer interface {
	// Send sends whole inner packets in order. What the network refuses now is lost, as on any link; the error then is
	// passing (see Passing) and tells why.
	Send(packets [][]byte) error
	// Receive reads into buf, at least 64 KB, and gives a run of inner packets: size octets each, the last perhaps
	// fewer. With wait it blocks until something comes; without, an empty run means that nothing is there. An error that
	// Passing calls passing leaves the Outer usable.
	Receive(buf []byte, wait bool) (run []byte, size int, err error)
	// Stop ends Send and Receive for good, with os.ErrDeadlineExceeded. The socket stays open: it is its maker's.
	Stop()
}

// Passing says whether err is only the network's state of the moment: an ICMP error the kernel reports on the socket, a
// full queue, an interface that is down.
func Passing(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENETDOWN, unix.ENOPROTOOPT,
		unix.EPROTO, unix.EACCES, unix.EPERM, unix.EMSGSIZE, unix.ENOBUFS, unix.ENOMEM, unix.EINVAL, unix.EIO,
		unix.ENONET, unix.EOPNOTSUPP, unix.ETIMEDOUT:
		return true
	default:
		return false
	}
}

// receiveQueue is what a tunnel socket may hold in octets while this process has no CPU: 20 ms at a gigabit and more.
const receiveQueue = 4 << 20

// prepare sets what both kinds of tunnel socket need.
func prepare(fd int) error {
	// Beyond the system's limit only with CAP_NET_ADMIN; with the smaller queue there are more losses, no more.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveQueue) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveQueue)
	}
	// A tunnel with a fixed MTU does not set DF (RFC 4213 section 3.2.1).
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
}

// receive is one recvmsg on raw, blocking in the runtime's poller if wait is set. n is 0 if nothing was there.
func receive(raw syscall.RawConn, buf, control []byte, wait bool) (n, controlLen int, err error) {
	var result error
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, controlLen, _, _, result = unix.Recvmsg(int(fd), buf, control, unix.MSG_DONTWAIT)
			if !errors.Is(result, unix.EINTR) {
				break
			}
		}
		return !errors.Is(result, unix.EAGAIN) || !wait
	})
	if err != nil {
		return 0, 0, err
	}
	if errors.Is(result, unix.EAGAIN) {
		return 0, 0, nil
	}
	return n, controlLen, result
}

// send is one sendmsg on raw of the buffers in one message, waiting for room in the socket's queue.
func send(raw syscall.RawConn, buffers [][]byte, control []byte) error {
	var result error
	err := raw.Write(func(fd uintptr) bool {
		for {
			_, result = unix.SendmsgBuffers(int(fd), buffers, control, nil, unix.MSG_DONTWAIT)
			if !errors.Is(result, unix.EINTR) {
				break
			}
		}
		return !errors.Is(result, unix.EAGAIN)
	})
	if err != nil {
		return err
	}
	return result
}
