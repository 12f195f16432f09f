// SPDX-License-Identifier: GPL-2.0-or-later

// Package pktgen sends packets as fast as one CPU can make them, and counts those that arrive.
//
// A Generator is an XDP program run by BPF_PROG_TEST_RUN on live frames: it writes each frame anew and redirects it to a
// device, 7 to 12 million a second on one CPU. A Sink counts and drops what comes out at the other end. A Client is a
// subscriber's end of one tunnel, in the kernel like the server's.
package pktgen

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Sizes of what is sent.
const (
	MinFrame     = 64   // octets of a frame
	MaxFrame     = 128  // octets of a frame
	MaxTemplates = 4096 // frames sent in turn
	TunnelPorts  = 16   // tunnels that share an outer address, see Tunnels.Ports
)

const (
	batch = 64      // frames the kernel hands on at once
	burst = 1 << 15 // frames of one system call at full speed; setting one up costs about a millisecond
	pace  = 256     // frames of one system call at a given rate: fewer than a veth's ring holds
)

// Tunnels makes each frame one of a uniformly random tunnel. The templates hold the addresses of tunnel 0.
type Tunnels struct {
	Count uint32 // of tunnels; 0: the templates go out as they are
	Outer int    // offset of an IPv4 header whose source address grows with the tunnel, 0 for none
	Ports bool   // UDP: TunnelPorts tunnels an outer address, told apart by source port; else an address each
	Inner int    // offset of the 64-bit half of an IPv6 address that the tunnel is added to, 0 for none
	Shift int    // by which the tunnel is shifted in that half
}

// Config says what a Generator sends.
type Config struct {
	Device  int      // ifindex, in the namespace of the thread that calls Run
	Frames  [][]byte // templates, sent in turn, whole Ethernet frames, all of one length
	Tunnels Tunnels
}

// Generator is a loaded generator. It is used by one goroutine at a time.
type Generator struct {
	objects *ebpf.Collection
	program *ebpf.Program
	frame   []byte
	meter   meter
}

// Run is what one run sent and what it cost.
type Run struct {
	Sent    uint64
	Elapsed time.Duration
	CPU     time.Duration // of the calling thread and of its CPU's softirq thread
}

// NewGenerator loads a generator. It needs root and Linux 5.18.
func NewGenerator(config Config) (*Generator, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	length := len(config.Frames[0])
	variables := map[string]any{
		"gen_device":    uint32(config.Device),
		"gen_length":    uint32(length),
		"gen_templates": uint32(len(config.Frames)),
		"gen_tunnels":   config.Tunnels.Count,
		"gen_outer":     uint32(config.Tunnels.Outer),
		"gen_ports":     flag(config.Tunnels.Ports),
		"gen_inner":     uint32(config.Tunnels.Inner),
		"gen_shift":     uint32(config.Tunnels.Shift),
	}
	objects, err := load("generate", variables, func(spec *ebpf.CollectionSpec) {
		spec.Maps["templates"].MaxEntries = uint32(len(config.Frames))
	})
	if err != nil {
		return nil, fmt.Errorf("load generator: %w", err)
	}
	generator := &Generator{objects: objects, program: objects.Programs["generate"], frame: config.Frames[0]}
	if err := generator.fill(config.Frames); err != nil {
		generator.Close()
		return nil, err
	}
	return generator, nil
}

func (c Config) validate() error {
	if len(c.Frames) == 0 || len(c.Frames) > MaxTemplates {
		return fmt.Errorf("%d frames to send, want 1 to %d", len(c.Frames), MaxTemplates)
	}
	for _, frame := range c.Frames {
		if len(frame) < MinFrame || len(frame) > MaxFrame || len(frame) != len(c.Frames[0]) {
			return fmt.Errorf("frame of %d octets, want %d to %d and all the same", len(frame), MinFrame, MaxFrame)
		}
	}
	return nil
}

func (g *Generator) fill(frames [][]byte) error {
	for i, frame := range frames {
		var template [MaxFrame]byte
		copy(template[:], frame)
		if err := g.objects.Maps["templates"].Put(uint32(i), template); err != nil {
			return fmt.Errorf("fill templates: %w", err)
		}
	}
	seed := objectGenerator{Random: 2463534242}
	if err := g.objects.Maps["state"].Put(uint32(0), seed); err != nil {
		return fmt.Errorf("seed generator: %w", err)
	}
	return nil
}

// Flood sends as fast as it can for about d. It is called on a thread pinned to one CPU, inside the namespace of the
// device.
func (g *Generator) Flood(ctx context.Context, d time.Duration) (Run, error) {
	return g.run(ctx, d, burst, 0)
}

// Stream sends rate packets a second until ctx ends, and then returns without error.
func (g *Generator) Stream(ctx context.Context, rate float64) (Run, error) {
	run, err := g.run(ctx, 1<<62, pace, rate)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return run, err
}

func (g *Generator) run(ctx context.Context, d time.Duration, count uint32, rate float64) (Run, error) {
	if err := g.meter.begin(); err != nil {
		return Run{}, err
	}
	var run Run
	for time.Since(g.meter.start) < d {
		if rate > 0 {
			due := g.meter.start.Add(time.Duration(float64(run.Sent) / rate * float64(time.Second)))
			select {
			case <-ctx.Done():
			case <-time.After(time.Until(due)):
			}
		}
		if ctx.Err() != nil {
			break
		}
		options := &ebpf.RunOptions{Data: g.frame, Repeat: count, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES, BatchSize: batch}
		if _, err := g.program.Run(options); err != nil {
			return run, fmt.Errorf("run the generator on live frames (Linux 5.18): %w", err)
		}
		run.Sent += uint64(count)
	}
	var err error
	if run.Elapsed, run.CPU, err = g.meter.stop(); err != nil {
		return run, err
	}
	return run, ctx.Err()
}

// Close unloads the generator.
func (g *Generator) Close() { g.objects.Close() }

// load loads one program with its constants set.
func load(program string, variables map[string]any, edit func(*ebpf.CollectionSpec)) (*ebpf.Collection, error) {
	spec, err := loadObject()
	if err != nil {
		return nil, err
	}
	for name := range spec.Programs {
		if name != program {
			delete(spec.Programs, name)
		}
	}
	for name, value := range variables {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	if edit != nil {
		edit(spec)
	}
	return ebpf.NewCollection(spec)
}

func flag(on bool) uint32 {
	if on {
		return 1
	}
	return 0
}
