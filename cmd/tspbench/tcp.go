// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ddtb/cmd/tspbench/lab"
)

// tcpOptions are the settings of the subject "tcp".
type tcpOptions struct {
	repeat   int
	duration time.Duration // of one stream, whole seconds
	veth     bool          // over veths as they are by default, too
}

func tcpCommand() *cobra.Command {
	o := fullPlan().tcp
	command := subject("tcp", "Rate of one TCP stream through a tunnel",
		`Measures one iperf3 stream between a subscriber and a host in the core, both directions, through his tunnel, through
kernel VXLAN and plain. For tcp.* the veths have no checksum or segmentation offload, so that each packet on them is one
as on a real wire, and the driver is native XDP; for tcp.veth.* they are as veths are by default, and the driver is what
it chooses there. vs_plain and vs_vxlan are the worse of the two directions: more is better.`,
		asRoot(func(ctx context.Context, r *report) error { return tcp(ctx, o, r) }))
	flags := command.Flags()
	flags.IntVar(&o.repeat, "repeat", o.repeat, "repetitions, interleaved")
	flags.DurationVar(&o.duration, "duration", o.duration, "of one stream, whole seconds")
	flags.BoolVar(&o.veth, "veth", o.veth, "measure over veths with their default offloads, too")
	return command
}

// tcp measures one iperf3 stream between a subscriber and a host in the core, both directions: through the tunnel,
// through kernel VXLAN and plain; over veths that carry packets as real wires do, and over veths as they are by default.
func tcp(ctx context.Context, o tcpOptions, r *report) error {
	if err := positive(map[string]int{"duration": int(o.duration), "repeat": o.repeat}); err != nil {
		return err
	}
	if _, err := exec.LookPath("iperf3"); err != nil {
		return fmt.Errorf("iperf3 is needed (Debian package iperf3): %w", err)
	}
	if err := tcpOver(ctx, wire, "tcp", o, r); err != nil || !o.veth {
		return err
	}
	return tcpOver(ctx, veth, "tcp.veth", o, r)
}

// tcpOver measures over one kind of wiring; figures are called name.
func tcpOver(ctx context.Context, w wiring, name string, o tcpOptions, r *report) (err error) {
	r.progress("%s: %d streams of %v", name, o.repeat*len(tcpDirections)*3, o.duration)
	plain, err := newSite(w)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plain.Close()) }()
	if err := errors.Join(plain.vxlan(), plain.vxlanSource()); err != nil {
		return err
	}
	tunnel, err := newTunnelSite(ctx, w)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tunnel.Close()) }()
	for _, s := range []*site{plain, tunnel.site} {
		stop, err := iperfServer(ctx, s.core)
		if err != nil {
			return err
		}
		defer stop()
	}
	rates, err := tcpRates(ctx, o, []tcpPath{
		{"plain", plain, hostOf(plainNet)}, {"vxlan", plain, hostOf(vxlanNet)},
		{"tunnel", tunnel.site, tunnelEndpoint(tunnelIndex(0))},
	})
	if err == nil {
		tcpFigures(name, rates, r)
	}
	return err
}

// tcpPath is a way from the client to the core, chosen by source address.
type tcpPath struct {
	name string
	site *site
	from netip.Addr
}

// iperfPort is iperf3's own.
const iperfPort = 5201

// tcpDirections are named as the subscriber sees them.
var tcpDirections = []string{"up", "down"}

// tcpRates gives bits a second of each path and direction, "plain.up", one entry a repetition.
func tcpRates(ctx context.Context, o tcpOptions, paths []tcpPath) (map[string][]float64, error) {
	rates := map[string][]float64{}
	for range o.repeat {
		for _, direction := range tcpDirections {
			for _, path := range paths {
				rate, err := iperf(ctx, path, direction == "down", o.duration)
				if err != nil {
					return nil, fmt.Errorf("iperf3 %s %s: %w", path.name, direction, err)
				}
				key := path.name + "." + direction
				rates[key] = append(rates[key], rate)
			}
		}
	}
	return rates, nil
}

// tcpFigures reports each direction, and as name.vs_plain and name.vs_vxlan the worse of the two.
func tcpFigures(name string, rates map[string][]float64, r *report) {
	for _, path := range []string{"plain", "vxlan", "tunnel"} {
		for _, direction := range tcpDirections {
			r.add(name+"."+path+"."+direction, median(rates[path+"."+direction])/1e9, "Gbit/s", goal{})
		}
	}
	for _, reference := range []string{"plain", "vxlan"} {
		worst := 0.0
		for i, direction := range tcpDirections {
			ratio := medianRatio(rates["tunnel."+direction], rates[reference+"."+direction])
			r.add(name+"."+direction+".vs_"+reference, ratio, "x", goal{})
			if i == 0 || ratio < worst {
				worst = ratio
			}
		}
		r.add(name+".vs_"+reference, worst, "x", goal{})
	}
}

// iperfServer starts a server in a namespace and waits until it listens.
func iperfServer(ctx context.Context, space *lab.Space) (stop func(), err error) {
	output := &bytes.Buffer{}
	cmd := exec.Command("iperf3", "--server", "--bind", coreHost.String(), "--forceflush")
	cmd.Stdout, cmd.Stderr = output, output
	process, err := space.Start(cmd)
	if err != nil {
		return nil, err
	}
	stop = func() {
		_ = process.Kill()
		_ = process.Wait()
	}
	if err := iperfListens(ctx, space, process.Done()); err != nil {
		stop()
		return nil, fmt.Errorf("%w: %s", err, output)
	}
	return stop, nil
}

// iperfListens waits until a server listens in a namespace, which it does not while it serves, and for a moment afterwards.
func iperfListens(ctx context.Context, space *lab.Space, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		listening, err := space.Listens(iperfPort)
		if err == nil && listening {
			return nil
		}
		select {
		case <-ended:
			return errors.New("iperf3 server ended")
		case <-ctx.Done():
			return errors.Join(errors.New("iperf3 server does not listen"), ctx.Err(), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// iperf runs one stream and gives the rate the receiver saw, bits a second.
func iperf(ctx context.Context, path tcpPath, reverse bool, d time.Duration) (float64, error) {
	if err := iperfListens(ctx, path.site.core, nil); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, d+10*time.Second)
	defer cancel()
	arguments := []string{"--client", coreHost.String(), "--bind", path.from.String(), "--json",
		"--time", strconv.Itoa(int(math.Ceil(d.Seconds()))), "--connect-timeout", "3000"}
	if reverse {
		arguments = append(arguments, "--reverse")
	}
	cmd := exec.CommandContext(ctx, "iperf3", arguments...)
	output := &bytes.Buffer{}
	cmd.Stdout = output
	process, err := path.site.client.Start(cmd)
	if err != nil {
		return 0, err
	}
	failure := process.Wait()
	var result struct {
		Error string `json:"error"`
		End   struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(output.Bytes(), &result); err != nil {
		return 0, errors.Join(failure, fmt.Errorf("output: %w", err))
	}
	if result.Error != "" || failure != nil || result.End.Received.BitsPerSecond == 0 {
		return 0, errors.Join(failure, errors.New(strings.TrimSpace("no data carried "+result.Error)))
	}
	return result.End.Received.BitsPerSecond, nil
}
