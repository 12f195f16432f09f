// SPDX-License-Identifier: GPL-2.0-or-later

package datapathtest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ddtb/provision/datapath"
	"ddtb/provision/datapath/datapathtest/slow"
)

// flow is numbered packets in both directions through a tunnel, and which of them arrive.
type flow struct {
	env        *Env
	tunnel     datapath.Tunnel
	stop, done chan struct{}
	wg         sync.WaitGroup
	once       sync.Once // of finish

	sent     uint32 // each way
	up, down []bool // arrived, by number
}

// pace is how many packets each way are sent in a millisecond, or what that is on a slow machine.
const pace = 4

// start sends until finish.
func (e *Env) startFlow(t *testing.T, tunnel datapath.Tunnel) *flow {
	t.Helper()
	f := &flow{env: e, tunnel: tunnel, stop: make(chan struct{}), done: make(chan struct{})}
	e.client.drain()
	e.core.drain()
	f.wg.Go(func() { f.receive(e.core, f.fromClient, &f.up) })
	f.wg.Go(func() { f.receive(e.client, f.toClient, &f.down) })
	go f.send()
	t.Cleanup(f.finish)
	return f
}

func (f *flow) send() {
	defer close(f.done)
	ticker := time.NewTicker(slow.Times(time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-ticker.C:
		}
		for range pace {
			number := be.AppendUint32(nil, f.sent)
			f.env.fromClient(f.tunnel, datagram(f.tunnel.Endpoint, coreHost, string(number)))
			f.env.fromCore(datagram(coreHost, f.tunnel.Endpoint, string(number)))
			f.sent++
		}
	}
}

// receive notes what arrives until it is told that no more is sent, and some time after.
func (f *flow) receive(s *station, number func(frame) (uint32, bool), arrived *[]bool) {
	for quiet := false; ; {
		got, ok := s.receive(slow.Times(100 * time.Millisecond))
		if !ok {
			if quiet {
				return
			}
			select {
			case <-f.done:
				quiet = true
			default:
			}
			continue
		}
		n, ok := number(got)
		if !ok {
			continue
		}
		for int(n) >= len(*arrived) {
			*arrived = append(*arrived, false)
		}
		(*arrived)[n] = true
	}
}

func numberOf(p ip6, from, to netip.Addr) (uint32, bool) {
	if p.from != from || p.to != to || p.next != unix.IPPROTO_UDP || len(p.payload) != udpHeader+4 {
		return 0, false
	}
	return be.Uint32(p.payload[udpHeader:]), true
}

func (f *flow) fromClient(got frame) (uint32, bool) {
	p, err := parse6(got.payload)
	if got.protocol != unix.ETH_P_IPV6 || err != nil {
		return 0, false
	}
	return numberOf(p, f.tunnel.Endpoint, coreHost)
}

func (f *flow) toClient(got frame) (uint32, bool) {
	_, p, ok := unwrap(f.tunnel, got)
	if !ok {
		return 0, false
	}
	return numberOf(p, coreHost, f.tunnel.Endpoint)
}

// finish stops sending and waits for the rest.
func (f *flow) finish() {
	f.once.Do(func() {
		close(f.stop)
		<-f.done
		f.wg.Wait()
	})
}

// arrived counts what came through each way.
func (f *flow) arrived() (up, down uint64) {
	count := func(all []bool) (n uint64) {
		for _, one := range all {
			if one {
				n++
			}
		}
		return n
	}
	return count(f.up), count(f.down)
}

// complete fails if a packet was lost.
func (f *flow) complete(t *testing.T) {
	t.Helper()
	up, down := f.arrived()
	if up != uint64(f.sent) || down != uint64(f.sent) {
		t.Errorf("of %d packets each way %d and %d arrived; first missing: %d and %d", f.sent, up, down,
			slices.Index(append(f.up, false), false), slices.Index(append(f.down, false), false))
	}
}

// flowing waits until packets pass both ways.
func (f *flow) flowing(t *testing.T) {
	t.Helper()
	before := f.env.state(t, f.tunnel.ID).Counters
	eventually(t, func() string {
		now := f.env.state(t, f.tunnel.ID).Counters
		if now.RxPackets >= before.RxPackets+50 && now.TxPackets >= before.TxPackets+50 {
			return ""
		}
		return fmt.Sprintf("only %+v since %+v", now, before)
	})
}

const flowPacket = ipv6Header + udpHeader + 4

// counters compares a tunnel's counters with what arrived, to the packet.
func (f *flow) counters(t *testing.T, got datapath.Counters) {
	t.Helper()
	up, down := f.arrived()
	want := datapath.Counters{RxPackets: up, RxBytes: up * flowPacket, TxPackets: down, TxBytes: down * flowPacket}
	if got != want {
		t.Errorf("counted %+v, arrived %+v", got, want)
	}
}

// exact counts a flow.
func exact(t *testing.T, e *Env) {
	for _, encap := range encaps {
		t.Run(encap.String(), func(t *testing.T) {
			tunnel := e.tunnel(0, encap)
			e.set(t, tunnel)
			f := e.startFlow(t, tunnel)
			f.flowing(t)
			f.finish()
			f.complete(t)
			f.counters(t, e.state(t, tunnel.ID).Counters)
		})
	}
}

// deleted ends a tunnel under traffic: its last counters are those of the packets that came through.
func deleted(t *testing.T, e *Env) {
	for _, encap := range encaps {
		t.Run(encap.String(), func(t *testing.T) {
			tunnel := e.tunnel(0, encap)
			e.set(t, tunnel)
			f := e.startFlow(t, tunnel)
			f.flowing(t)
			last, err := e.dp.Delete(context.Background(), tunnel.ID)
			if err != nil {
				t.Fatal(err)
			}
			before := e.drops(t)
			eventually(t, func() string {
				now := e.drops(t)
				if now[datapath.NoTunnel].Packets > before[datapath.NoTunnel].Packets+20 &&
					now[datapath.NoDestination].Packets > before[datapath.NoDestination].Packets+20 {
					return ""
				}
				return fmt.Sprintf("packets go on: %v", now)
			})
			f.finish()
			f.counters(t, last)
		})
	}
}

// resumed sets a deleted tunnel again, with a driver whose counters do not end with the tunnel: the same session counts on,
// unless another was there since.
func resumed(t *testing.T, e *Env) {
	if _, ok := e.dp.(datapath.Resumer); !ok {
		return
	}
	tunnel := e.tunnel(0, datapath.V6UDPV4)
	e.set(t, tunnel)
	f := e.startFlow(t, tunnel)
	f.flowing(t)
	f.finish()
	f.complete(t)
	last, err := e.dp.Delete(context.Background(), tunnel.ID)
	must(t, err)
	f.counters(t, last)
	must(t, e.dp.Set(context.Background(), tunnel))
	e.counts(t, tunnel.ID, last)
	other := tunnel
	other.Session++
	must(t, e.dp.Set(context.Background(), other))
	e.counts(t, tunnel.ID, datapath.Counters{})
	_, err = e.dp.Delete(context.Background(), tunnel.ID)
	must(t, err)
	must(t, e.dp.Set(context.Background(), tunnel))
	e.counts(t, tunnel.ID, datapath.Counters{})
}

// renewed changes a tunnel under traffic: a new session starts over, a new MTU or a rate above the traffic's goes unnoticed.
func renewed(t *testing.T, e *Env) {
	tunnel := e.tunnel(0, datapath.V6UDPV4)
	e.set(t, tunnel)
	f := e.startFlow(t, tunnel)
	f.flowing(t)
	for n := range 20 {
		tunnel.MTU = 1300 + n
		tunnel.Rate = datapath.Rate{Rx: uint64(n%3) * 1e9, Tx: uint64(n%4) * 1e9}
		must(t, e.dp.Set(context.Background(), tunnel))
		must(t, e.dp.Set(context.Background(), tunnel))
	}
	f.flowing(t)
	f.finish()
	f.complete(t)
	f.counters(t, e.state(t, tunnel.ID).Counters)
	tunnel.Session++
	must(t, e.dp.Set(context.Background(), tunnel))
	e.counts(t, tunnel.ID, datapath.Counters{})
	tunnel.Remote = netip.AddrPortFrom(tunnel.Remote.Addr(), 50000)
	must(t, e.dp.Set(context.Background(), tunnel))
	up := datagram(tunnel.Endpoint, coreHost, "from the new port")
	e.fromClient(tunnel, up)
	e.atCore(t, up)
	tunnel.Remote = netip.AddrPortFrom(tunnel.Remote.Addr(), 50001)
	must(t, e.dp.Set(context.Background(), tunnel))
	e.counts(t, tunnel.ID, datapath.Counters{RxPackets: 1, RxBytes: uint64(len(up.bytes()))}) // the same session goes on
}

// restarted puts one process after the other in charge under traffic. No packet is lost, no counter starts over.
func restarted(t *testing.T, e *Env) {
	tunnel, other := e.tunnel(0, datapath.V6UDPV4), e.tunnel(1, datapath.V6V4)
	other.Prefix, other.Routes = netip.MustParsePrefix("2001:db8:f02::/48"), prefixes("2001:db8:f01::5/128", "2001:db8:f00::/48", "2001:db8:f03::/56")
	e.set(t, tunnel, other)
	f := e.startFlow(t, tunnel)
	for range 4 {
		f.flowing(t)
		must(t, e.dp.Close())
		e.start(t)
		if got := e.state(t, tunnel.ID); got.Tunnel != tunnel {
			t.Fatalf("after the restart: %+v, expected %+v", got.Tunnel, tunnel)
		}
		if got := e.state(t, other.ID); got.Tunnel != other {
			t.Fatalf("after the restart: %+v, expected %+v", got.Tunnel, other)
		}
	}
	f.flowing(t)
	f.finish()
	f.complete(t)
	f.counters(t, e.state(t, tunnel.ID).Counters)
	for port := range uint16(32) { // all signalling comes to the last process, whatever the client's port
		p := wrap(tunnel, nil)
		p.payload = udp(30000+port, tunnel.Local.Port(), []byte("\xf0\x00\x00\xf0\x00\x00\x00\x01"))
		e.client.send(unix.ETH_P_IP, p.bytes())
		if _, from := e.daemon(t); from.Port() != 30000+port {
			t.Errorf("signalling from %s, port %d expected", from, 30000+port)
		}
	}
	down := datagram(coreHost, other.Prefix.Addr().Next(), "to the foreign prefix")
	e.fromCore(down)
	e.atClient(t, other, down)
	for route := range other.Routes.All() {
		e.bothWays(t, other, netip.PrefixFrom(route.Addr(), 128).Addr())
	}
}

// reconfigured changes the Config under traffic. A tunnel there is still room for notices nothing.
func reconfigured(t *testing.T, e *Env) {
	original := e.Config
	tunnel, gone := e.tunnel(0, datapath.V6UDPV4), e.tunnel(2, datapath.V6UDPV4)
	e.set(t, tunnel, gone)
	f := e.startFlow(t, tunnel)
	change := func(name string, change func(*datapath.Config)) {
		f.flowing(t)
		change(&e.Config)
		if err := e.dp.Configure(context.Background(), e.Config); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	f.flowing(t)
	impossible := e.Config
	impossible.Uplinks = append(slices.Clone(impossible.Uplinks), "dpnone")
	if err := e.dp.Configure(context.Background(), impossible); err == nil {
		t.Error("an uplink that is not there is taken")
	}
	change("a pool grows", func(c *datapath.Config) {
		c.Pools = slices.Clone(c.Pools)
		c.Pools[0].Size += 1000
	})
	change("a pool comes before it", func(c *datapath.Config) {
		c.Pools = append([]datapath.Pool{{Name: "new", First: 500000, Size: 77, EndpointBase: netip.MustParseAddr("2001:db8:e:77::")}}, c.Pools...)
	})
	change("another port", func(c *datapath.Config) {
		c.Local = append(slices.Clone(c.Local), netip.AddrPortFrom(serverIPv4, 3654))
	})
	change("no second uplink", func(c *datapath.Config) { c.Uplinks = c.Uplinks[:1] })
	change("another MTU", func(c *datapath.Config) { c.MTU = 1450 })
	change("another server address", func(c *datapath.Config) { c.Server = netip.MustParseAddr("2001:db8:e:fffe::1") })
	change("another device", func(c *datapath.Config) { c.Device = "dptun2" })
	change("the host pool goes", func(c *datapath.Config) { c.Pools = c.Pools[:3] })
	f.flowing(t)
	f.finish()
	f.complete(t)
	f.counters(t, e.state(t, tunnel.ID).Counters)
	for state, err := range e.dp.All(context.Background()) {
		if err != nil || state.ID == gone.ID {
			t.Errorf("%+v, %v: there is no room for it any more", state, err)
		}
	}
	request := ping(tunnel.Endpoint, e.Config.Server, []byte("new address"))
	e.fromClient(tunnel, request)
	await(t, e.client, "echo reply", func(got frame) (ip6, bool) {
		_, p, ok := unwrap(tunnel, got)
		return p, ok && isReply(p, request)
	})
	e.Config = original
	must(t, e.dp.Configure(context.Background(), e.Config))
	again := datagram(tunnel.Endpoint, coreHost, "as before")
	e.fromClient(tunnel, again)
	e.atCore(t, again)
}
