// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// pingOptions are the settings of the subject "ping".
type pingOptions struct {
	count  int // echo requests each way and repetition
	repeat int
	cpu    int
}

func pingCommand() *cobra.Command {
	o := fullPlan().ping
	command := subject("ping", "Round trip through a tunnel and beside it",
		`Measures the round trip of ICMPv6 echoes from a subscriber to a host in the core, through his tunnel and through a
plain router. The subscriber's end of the tunnel is in his kernel, as the server's is. vs_direct is how many times longer
it takes through the tunnel: less is better.`,
		asRoot(func(ctx context.Context, r *report) error { return ping(ctx, o, r) }))
	flags := command.Flags()
	flags.IntVar(&o.count, "count", o.count, "echoes each way and repetition")
	flags.IntVar(&o.repeat, "repeat", o.repeat, "repetitions, interleaved")
	flags.IntVar(&o.cpu, "cpu", o.cpu, "that everything runs on")
	return command
}

// ping measures the round trip from a subscriber to a host in the core, through the tunnel and beside it. Beside it means
// through a server without tunnels. Repetitions are interleaved; a repetition is the median of its echoes.
func ping(ctx context.Context, o pingOptions, r *report) (err error) {
	if err := positive(map[string]int{"count": o.count, "repeat": o.repeat}); err != nil {
		return err
	}
	r.progress("ping: %d echoes, %d repetitions", o.count, o.repeat)
	direct, err := newSite(wire)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, direct.Close()) }()
	tunnel, err := newTunnelSite(ctx, wire)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tunnel.Close()) }()

	var through, beside, ratios []float64
	for range o.repeat {
		b, err := roundTrip(ctx, direct, hostOf(plainNet), o)
		if err != nil {
			return fmt.Errorf("beside the tunnel: %w", err)
		}
		t, err := roundTrip(ctx, tunnel.site, tunnelEndpoint(tunnelIndex(0)), o)
		if err != nil {
			return fmt.Errorf("through the tunnel: %w", err)
		}
		beside, through, ratios = append(beside, b), append(through, t), append(ratios, t/b)
	}
	r.add("ping.direct_us", median(beside), "us", goal{})
	r.add("ping.tunnel_us", median(through), "us", goal{})
	r.add("ping.vs_direct", median(ratios), "x", goal{1.1, atMost})
	return nil
}

// roundTrip is the median round trip from an address of the client's to the core host, in microseconds.
func roundTrip(ctx context.Context, s *site, from netip.Addr, o pingOptions) (float64, error) {
	var times []float64
	err := s.client.Pinned(o.cpu, func() error {
		socket, err := echoSocket(from, coreHost)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(socket) }()
		for sequence := range o.count + o.count/10 {
			if err := ctx.Err(); err != nil {
				return err
			}
			took, err := echo(socket, uint16(sequence))
			if err != nil {
				return fmt.Errorf("ping %s from %s: %w", coreHost, from, err)
			}
			if sequence >= o.count/10 { // the first tenth warms up
				times = append(times, float64(took)/float64(time.Microsecond))
			}
		}
		return nil
	})
	return median(times), err
}

// echoSocket opens a raw ICMPv6 socket. The kernel fills in the checksum (RFC 3542 section 3.1).
func echoSocket(from, to netip.Addr) (int, error) {
	socket, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return -1, fmt.Errorf("raw socket: %w", err)
	}
	if err := errors.Join(
		unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}),
		unix.Bind(socket, &unix.SockaddrInet6{Addr: from.As16()}),
		unix.Connect(socket, &unix.SockaddrInet6{Addr: to.As16()}),
	); err != nil {
		_ = unix.Close(socket)
		return -1, fmt.Errorf("raw socket from %s to %s: %w", from, to, err)
	}
	return socket, nil
}

const (
	echoRequest = 128
	echoReply   = 129
)

// echo sends one request and waits for its reply, a second at most.
func echo(socket int, sequence uint16) (time.Duration, error) {
	message := make([]byte, 64)
	message[0] = echoRequest
	binary.BigEndian.PutUint16(message[6:], sequence)
	start := time.Now()
	if err := unix.Send(socket, message, 0); err != nil {
		return 0, fmt.Errorf("send: %w", err)
	}
	for {
		n, _, err := unix.Recvfrom(socket, message, 0)
		if err != nil {
			return 0, fmt.Errorf("no reply: %w", err)
		}
		if n >= 8 && message[0] == echoReply && binary.BigEndian.Uint16(message[6:]) == sequence {
			return time.Since(start), nil
		}
	}
}
