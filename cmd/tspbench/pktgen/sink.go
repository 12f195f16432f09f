// SPDX-License-Identifier: GPL-2.0-or-later

package pktgen

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// SinkKind is how a Sink takes packets.
type SinkKind uint8

// The kinds of sink.
const (
	SinkXDP SinkKind = iota + 1 // as XDP frames, before there is an skb
	SinkTC                      // as skbs, at tc ingress
)

// Sink counts and drops the packets that have a given 16-bit word at a given offset; others pass.
type Sink struct {
	objects *ebpf.Collection
	link    link.Link
}

// NewSink attaches a sink to the ingress of a device, by its ifindex in the namespace of the calling thread.
func NewSink(kind SinkKind, device, offset int, word uint16) (*Sink, error) {
	program := map[SinkKind]string{SinkXDP: "sink_xdp", SinkTC: "sink_tc"}[kind]
	variables := map[string]any{"sink_offset": uint32(offset), "sink_word": network16(word)}
	objects, err := load(program, variables, nil)
	if err != nil {
		return nil, fmt.Errorf("load sink: %w", err)
	}
	sink := &Sink{objects: objects}
	if kind == SinkXDP {
		sink.link, err = attachXDP(objects.Programs[program], device)
	} else {
		sink.link, err = attachTC(objects.Programs[program], device, ebpf.AttachTCXIngress)
	}
	if err != nil {
		objects.Close()
		return nil, fmt.Errorf("attach sink: %w", err)
	}
	return sink, nil
}

// Count is how many packets the sink has taken.
func (s *Sink) Count() (uint64, error) {
	var counters []objectCounter
	if err := s.objects.Maps["counters"].Lookup(uint32(0), &counters); err != nil {
		return 0, fmt.Errorf("read sink: %w", err)
	}
	var sum uint64
	for _, counter := range counters {
		sum += counter.Packets
	}
	return sum, nil
}

// Close detaches the sink.
func (s *Sink) Close() error {
	err := s.link.Close()
	s.objects.Close()
	return err
}

func attachXDP(program *ebpf.Program, device int) (link.Link, error) {
	attached, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: device, Flags: link.XDPDriverMode})
	if err != nil {
		return nil, fmt.Errorf("XDP on ifindex %d: %w", device, err)
	}
	return attached, nil
}

func attachTC(program *ebpf.Program, device int, at ebpf.AttachType) (link.Link, error) {
	attached, err := link.AttachTCX(link.TCXOptions{Program: program, Interface: device, Attach: at})
	if err != nil {
		return nil, fmt.Errorf("tcx on ifindex %d (Linux 6.6): %w", device, err)
	}
	return attached, nil
}

func closeAll(links ...link.Link) error {
	var errs []error
	for _, l := range links {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}
