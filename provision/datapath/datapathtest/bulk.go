// SPDX-License-Identifier: GPL-2.0-or-later

package datapathtest

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
)

// Commands of linux/ethtool.h: ETHTOOL_STXCSUM, ETHTOOL_SGRO.
const (
	ethtoolTxChecksum = 0x17
	ethtoolGRO        = 0x2c
)

// coalesce turns generic receive offload of a server's device on or off. Segmentation offload is off anyway: a veth has none
// while its other end runs an XDP program.
func (e *Env) coalesce(t *testing.T, device string, on bool) {
	t.Helper()
	e.offload(t, device, ethtoolGRO, on)
}

// offload turns one of the offloads of a server's device on or off.
func (e *Env) offload(t *testing.T, device string, command uint32, on bool) {
	t.Helper()
	value := struct{ command, data uint32 }{command: command}
	if on {
		value.data = 1
	}
	var request struct {
		name  [unix.IFNAMSIZ]byte
		value unsafe.Pointer
		_     [16]byte
	}
	copy(request.name[:], device)
	request.value = unsafe.Pointer(&value)
	e.server.do(func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		defer func() { _ = unix.Close(fd) }()
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
			t.Fatalf("%s: ethtool command %#x: %v", device, command, errno)
		}
	})
}

// segment is one of a TCP stream, its payload a run of its number.
func segment(from, to netip.Addr, number, size int) ip6 {
	b := be.AppendUint32([]byte{0x12, 0x34, 0x56, 0x78}, uint32(1000+number*size))
	b = be.AppendUint32(b, 1)
	b = append(b, 5<<4, 0x10 /* ACK */, 0x20, 0, 0, 0, 0, 0)
	b = append(b, bytes.Repeat([]byte{byte(number)}, size)...)
	be.PutUint16(b[16:], checksum(pseudo(from, to, len(b), unix.IPPROTO_TCP), b))
	return ip6{from: from, to: to, hops: 64, next: unix.IPPROTO_TCP, payload: b}
}

// bulk sends trains of TCP segments both ways while the server's interfaces put what belongs together into one, as network
// cards' drivers do. They come out as they went in, and each of them counts.
func bulk(t *testing.T, e *Env) {
	const tcpHeader, size, segments = 20, 1200, 40
	devices := map[string]bool{uplinkDevice: true, e.coreName: true}
	for device := range devices {
		e.coalesce(t, device, true)
		defer e.coalesce(t, device, false)
	}
	for _, encap := range encaps {
		t.Run(encap.String(), func(t *testing.T) {
			tunnel := e.tunnel(0, encap)
			e.set(t, tunnel)
			for _, up := range []bool{true, false} {
				from, to := tunnel.Endpoint, coreHost
				if !up {
					from, to = to, from
				}
				for n := range segments {
					if s := segment(from, to, n, size); up {
						e.fromClient(tunnel, s)
					} else {
						e.fromCore(s)
					}
				}
				e.train(t, tunnel, up, segments, size)
			}
			packet := uint64(ipv6Header + tcpHeader + size)
			e.counts(t, tunnel.ID, datapath.Counters{
				RxPackets: segments, RxBytes: segments * packet, TxPackets: segments, TxBytes: segments * packet,
			})
		})
	}
}

// train awaits the segments of one direction.
func (e *Env) train(t *testing.T, tunnel datapath.Tunnel, up bool, segments, size int) {
	t.Helper()
	from, to, station := tunnel.Endpoint, coreHost, e.core
	if !up {
		from, to, station = coreHost, tunnel.Endpoint, e.client
	}
	arrived := map[int]bool{}
	await(t, station, fmt.Sprintf("a train of %d from %s", segments, from), func(f frame) (ip6, bool) {
		_, p, ok := unwrap(tunnel, f)
		if up {
			var err error
			p, err = parse6(f.payload)
			ok = err == nil
		}
		if !ok || p.from != from || p.next != unix.IPPROTO_TCP {
			return p, false
		}
		n := (int(be.Uint32(p.payload[4:])) - 1000) / size
		want := segment(from, to, n, size)
		// Who puts segments together and takes them apart again may set PSH.
		be.PutUint16(p.payload[16:], be.Uint16(want.payload[16:]))
		p.payload[13] = want.payload[13]
		if !same(p, want) {
			t.Errorf("segment %d of %d octets, %d expected", n, len(p.payload), len(want.payload))
		}
		arrived[n] = true
		return p, len(arrived) == segments
	})
}
