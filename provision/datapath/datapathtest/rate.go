// SPDX-License-Identifier: GPL-2.0-or-later

package datapathtest

import (
	"strings"
	"testing"
	"time"

	"ddtb/provision/datapath"
)

// Of the offered load: rounds, each of which leaves no credit, with a pause after each.
const (
	rateRounds = 4
	ratePause  = 100 * time.Millisecond
	rateLoad   = 1000 // octets of payload
	ratePacket = ipv6Header + udpHeader + rateLoad
)

// rate bounds tunnels, each direction on its own, and changes the bounds.
func rate(t *testing.T, e *Env) {
	for _, encap := range encaps {
		t.Run(encap.String(), func(t *testing.T) {
			tunnel := e.tunnel(0, encap)
			tunnel.Rate = datapath.Rate{Rx: 1e6, Tx: 4e6}
			e.set(t, tunnel)
			o := e.offer(t, tunnel)
			o.within(t)
			tunnel.Rate = datapath.Rate{Rx: 4e6}
			must(t, e.dp.Set(t.Context(), tunnel))
			o = e.offer(t, tunnel)
			o.within(t)
		})
	}
	t.Run("lifted", func(t *testing.T) {
		tunnel := e.tunnel(0, datapath.V6UDPV4)
		tunnel.Rate = datapath.Rate{Rx: 1, Tx: 1} // what passes at first is not paid for before the test is over
		e.set(t, tunnel)
		before := e.exceeded(t)
		e.round(tunnel)
		e.settled(t, tunnel, before, 2*perRound(tunnel.Rate))
		request := ping(tunnel.Endpoint, tunnelServer, []byte("too much"))
		e.refused(t, datapath.RateExceeded, func() { e.fromClient(tunnel, request) })
		up, down := datagram(tunnel.Endpoint, coreHost, "lifted"), datagram(coreHost, tunnel.Endpoint, "lifted")
		if drop := e.refused(t, datapath.RateExceeded, func() { e.fromClient(tunnel, up) }); drop.Tunnel != tunnel.ID || drop.Inner != up.from {
			t.Errorf("dropped: %+v", drop)
		}
		e.refused(t, datapath.RateExceeded, func() { e.fromCore(down) })
		if injector, ok := e.dp.(datapath.Injector); ok {
			e.refused(t, datapath.RateExceeded, func() { injector.Inject(tunnel.Encap, tunnel.Local, tunnel.Remote, up.bytes()) })
		}
		tunnel.Rate = datapath.Rate{}
		must(t, e.dp.Set(t.Context(), tunnel))
		e.fromClient(tunnel, up)
		e.atCore(t, up)
		e.fromCore(down)
		e.atClient(t, tunnel, down)
	})
}

// offer is a load above a tunnel's rates, and what came of it.
type offer struct {
	rate   datapath.Rate
	before datapath.Counters
	passed datapath.Counters
	sent   uint64          // packets each way
	earned []time.Duration // pauses in which credit came in that the next round used
	all    time.Duration   // from before the first packet to after the last
}

// perRound is how many packets leave no credit at the rates, whatever there was before.
func perRound(rate datapath.Rate) uint64 {
	return 2 * max(datapath.Burst(rate.Rx), datapath.Burst(rate.Tx)) / ratePacket
}

// round sends more in both directions than the credit may be.
func (e *Env) round(tunnel datapath.Tunnel) {
	payload := strings.Repeat("x", rateLoad)
	for range perRound(tunnel.Rate) {
		e.fromClient(tunnel, datagram(tunnel.Endpoint, coreHost, payload))
		e.fromCore(datagram(coreHost, tunnel.Endpoint, payload))
	}
}

// exceeded is how many packets were dropped for their tunnel's rate.
func (e *Env) exceeded(t *testing.T) uint64 {
	t.Helper()
	return e.drops(t)[datapath.RateExceeded].Packets
}

// settled waits until all of so many packets, both ways, have passed since the tunnel was set or been dropped beyond those that
// were dropped before.
func (e *Env) settled(t *testing.T, tunnel datapath.Tunnel, before, sent uint64) datapath.Counters {
	t.Helper()
	var c datapath.Counters
	eventually(t, func() string {
		c = e.state(t, tunnel.ID).Counters
		if c.RxPackets+c.TxPackets+e.exceeded(t)-before != sent {
			return "packets are missing"
		}
		return ""
	})
	return c
}

func (e *Env) offer(t *testing.T, tunnel datapath.Tunnel) *offer {
	t.Helper()
	before := e.state(t, tunnel.ID).Counters
	known, dropped := before.RxPackets+before.TxPackets, e.exceeded(t)
	o := &offer{rate: tunnel.Rate, before: before}
	start := time.Now()
	for range rateRounds {
		e.round(tunnel)
		o.sent += perRound(tunnel.Rate)
		e.settled(t, tunnel, dropped, known+2*o.sent)
		end := time.Now()
		<-time.After(ratePause)
		o.earned = append(o.earned, time.Since(end))
	}
	e.round(tunnel)
	o.sent += perRound(tunnel.Rate)
	o.passed = e.settled(t, tunnel, dropped, known+2*o.sent)
	o.all = time.Since(start)
	e.client.drain()
	e.core.drain()
	return o
}

// within compares what passed with what the rates allow.
func (o *offer) within(t *testing.T) {
	t.Helper()
	o.direction(t, "from the client", o.rate.Rx, o.passed.RxBytes-o.before.RxBytes)
	o.direction(t, "to the client", o.rate.Tx, o.passed.TxBytes-o.before.TxBytes)
}

func (o *offer) direction(t *testing.T, name string, rate, octets uint64) {
	t.Helper()
	if rate == 0 {
		if want := o.sent * ratePacket; octets != want {
			t.Errorf("%s, without a rate: %d octets passed, %d were sent", name, octets, want)
		}
		return
	}
	burst := datapath.Burst(rate)
	worth := func(d time.Duration) uint64 { return uint64(d.Seconds() * float64(rate) / 8) }
	least := burst
	for _, pause := range o.earned {
		least += min(worth(pause), burst)
	}
	// The last packet of a burst is let through whole, and paid for later.
	most := burst + worth(o.all) + ratePacket
	if least -= ratePacket; octets < least || octets > most {
		t.Errorf("%s, at %d bit/s: %d octets passed in %v, %d to %d expected", name, rate, octets, o.all, least, most)
	}
}
