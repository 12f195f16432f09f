// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"ddtb/cmd/tspbench/pktgen"
	"ddtb/provision/datapath"
)

// packetsOptions are the settings of the subject "packets".
type packetsOptions struct {
	tunnels    []uint // numbers of random tunnels
	repeat     int
	duration   time.Duration // of one measurement
	warm       time.Duration // before each
	cpu        int
	encap      string
	fromPrefix bool
}

// most is the largest number of tunnels: 192 octets of kernel memory each.
const most = 1 << 22

func (o packetsOptions) validate() error {
	if len(o.tunnels) == 0 || slices.Min(o.tunnels) < 1 || slices.Max(o.tunnels) > most {
		return fmt.Errorf("tunnels: want numbers from 1 to %d", most)
	}
	if o.encap != datapath.V6UDPV4.String() && o.encap != datapath.V6V4.String() {
		return fmt.Errorf("encap %q: want %s or %s", o.encap, datapath.V6UDPV4, datapath.V6V4)
	}
	return positive(map[string]int{"repeat": o.repeat, "duration": int(o.duration)})
}

func packetsCommand() *cobra.Command {
	o := fullPlan().packets
	command := subject("packets", "CPU time a forwarded packet costs",
		`Measures the CPU time a packet costs in each direction over veth pairs, with live frames made by an XDP program:
through the eBPF driver with a fixed next hop (xdp.*) and with a FIB lookup (xdp.fib.*), with random tunnels, against
plain IPv6 forwarding and kernel VXLAN of one flow in the same run. Generator, server and sink share one CPU; its cost
includes the generator's, about 100 ns. vs_plain and vs_vxlan are how many times cheaper a packet is: more is better.`,
		asRoot(func(ctx context.Context, r *report) error { return packets(ctx, o, r) }))
	flags := command.Flags()
	flags.UintSliceVar(&o.tunnels, "tunnels", o.tunnels, "numbers of random tunnels")
	flags.IntVar(&o.repeat, "repeat", o.repeat, "repetitions, interleaved")
	flags.DurationVar(&o.duration, "duration", o.duration, "of one measurement")
	flags.DurationVar(&o.warm, "warm", o.warm, "warm-up before each")
	flags.IntVar(&o.cpu, "cpu", o.cpu, "that everything runs on")
	flags.StringVar(&o.encap, "encap", o.encap, "encapsulation: v6udpv4 or v6v4")
	flags.BoolVar(&o.fromPrefix, "prefix", o.fromPrefix, "inner addresses lie in the delegated prefixes, not at the endpoints")
	return command
}

// packets measures the CPU time a packet costs in each direction: through the driver with a fixed next hop and with a FIB
// lookup, at several numbers of tunnels, against plain IPv6 forwarding and kernel VXLAN of one flow. Repetitions are
// interleaved.
//
// Each path ends in the sink that costs it least, as a network card would: an XDP frame is dropped by XDP, an skb by tc.
func packets(ctx context.Context, o packetsOptions, r *report) (err error) {
	if err := o.validate(); err != nil {
		return err
	}
	run := &packetsRun{options: o, report: r}
	defer func() { err = errors.Join(err, run.close()) }()
	if err := run.setup(ctx); err != nil {
		return err
	}
	for i := range o.repeat {
		r.progress("packets: repetition %d of %d", i+1, o.repeat)
		for _, l := range run.lanes {
			if err := l.measure(ctx, o.cpu, o.warm, o.duration); err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
		}
	}
	run.figures()
	return nil
}

// packetsRun is one run of the subject.
type packetsRun struct {
	options packetsOptions
	report  *report
	lanes   []*namedLane
	undo    []func() error
}

// namedLane is a lane with what its figures are called.
type namedLane struct {
	lane
	name    string
	kind    string // "plain", "vxlan", or the figures' prefix: "xdp", "xdp.fib"
	up      bool   // from client to core
	tunnels uint
}

func (p *packetsRun) close() error {
	var errs []error
	for i := len(p.undo) - 1; i >= 0; i-- {
		errs = append(errs, p.undo[i]())
	}
	return errors.Join(errs...)
}

// setup makes one site for plain forwarding and VXLAN and one for each mode of the driver. They are there side by side:
// what is idle costs nothing, and nothing has to be attached between two measurements.
func (p *packetsRun) setup(ctx context.Context) error {
	p.report.progress("packets: plain forwarding and VXLAN")
	if err := p.baseline(); err != nil {
		return fmt.Errorf("plain forwarding and VXLAN: %w", err)
	}
	return p.drivers(ctx)
}

func (p *packetsRun) site() (*site, error) {
	s, err := newSite(wire)
	if err == nil {
		p.undo = append(p.undo, s.Close)
	}
	return s, err
}

func (p *packetsRun) baseline() error {
	s, err := p.site()
	if err != nil {
		return err
	}
	if err := s.vxlan(); err != nil {
		return err
	}
	up, down, err := p.sinks(s, pktgen.SinkTC, markNative)
	if err != nil {
		return err
	}
	vxlan, err := p.site()
	if err != nil {
		return err
	}
	if err := vxlan.vxlan(); err != nil {
		return err
	}
	vxlanUpSink, vxlanDownSink, err := p.sinks(vxlan, pktgen.SinkTC, markVXLAN)
	if err != nil {
		return err
	}
	return errors.Join(
		p.lane(s, "plain", true, 1, plainUp(), up), p.lane(s, "plain", false, 1, plainDown(), down),
		p.lane(vxlan, "vxlan", true, 1, vxlanUp(), vxlanUpSink), p.lane(vxlan, "vxlan", false, 1, vxlanDown(), vxlanDownSink),
	)
}

// drivers makes a site for each way of finding the next hop, with the driver, all tunnels, and a lane for each number of
// tunnels and direction.
func (p *packetsRun) drivers(ctx context.Context) error {
	encap := datapath.V6UDPV4
	if p.options.encap == datapath.V6V4.String() {
		encap = datapath.V6V4
	}
	all := slices.Max(p.options.tunnels)
	start := time.Now()
	filling, inner := errgroup.WithContext(ctx)
	for _, kind := range []string{fixedHop, fibLookup} {
		s, err := p.site()
		if err != nil {
			return errors.Join(err, filling.Wait())
		}
		driver, err := openDriver(ctx, s, kind, int(all))
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", kind, err), filling.Wait())
		}
		p.undo = append(p.undo, driver.Close)
		filling.Go(func() error { return p.fill(inner, driver, encap, uint32(all)) })
		if err := p.driverLanes(s, kind, encap); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", kind, err), filling.Wait())
		}
	}
	err := filling.Wait()
	p.report.progress("packets: twice %d tunnels set in %v", all, time.Since(start).Round(time.Millisecond))
	return err
}

func (p *packetsRun) driverLanes(s *site, kind string, encap datapath.Encap) error {
	up, down, err := p.sinks(s, pktgen.SinkXDP, markTunnel(encap))
	if err != nil {
		return err
	}
	for _, n := range p.options.tunnels {
		if err := errors.Join(
			p.lane(s, kind, true, n, tunnelUp(encap, uint32(n), p.options.fromPrefix), up),
			p.lane(s, kind, false, n, tunnelDown(uint32(n), p.options.fromPrefix), down),
		); err != nil {
			return err
		}
	}
	return nil
}

// fill sets n tunnels.
func (p *packetsRun) fill(ctx context.Context, driver datapath.Datapath, encap datapath.Encap, n uint32) error {
	const batch = 8192
	tunnels := make([]datapath.Tunnel, 0, batch)
	for at := uint32(0); at < n; at += batch {
		tunnels = tunnels[:0]
		for i := at; i < min(at+batch, n); i++ {
			tunnels = append(tunnels, tunnelAt(encap, i))
		}
		if err := driver.Set(ctx, tunnels...); err != nil {
			return fmt.Errorf("set %d tunnels: %w", n, err)
		}
	}
	return nil
}

// sinks puts one sink at the core and one at the client. mark is where the core-to-client packets have their port.
func (p *packetsRun) sinks(s *site, kind pktgen.SinkKind, mark int) (up, down *pktgen.Sink, err error) {
	if up, err = newSink(kind, s.core, coreDevice, markNative); err != nil {
		return nil, nil, err
	}
	p.undo = append(p.undo, up.Close)
	if down, err = newSink(kind, s.client, clientDevice, mark); err != nil {
		return nil, nil, err
	}
	p.undo = append(p.undo, down.Close)
	return up, down, nil
}

func (p *packetsRun) lane(s *site, kind string, up bool, n uint, t traffic, sink *pktgen.Sink) error {
	space, device, name := s.core, coreDevice, "encap"
	if up {
		space, device, name = s.client, clientDevice, "decap"
	}
	generator, err := newGenerator(t, space, device)
	if err != nil {
		return err
	}
	p.undo = append(p.undo, func() error { generator.Close(); return nil })
	p.lanes = append(p.lanes, &namedLane{
		lane: lane{space: space, generator: generator, sink: sink},
		name: fmt.Sprintf("%s.%s.%d", kind, name, n), kind: kind, up: up, tunnels: n,
	})
	return nil
}
