// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ddtb/cmd/tspbench/lab"
	"ddtb/cmd/tspbench/pktgen"
)

// lane is one path through a server: a generator at one end, a sink at the other, and what was measured between them.
type lane struct {
	space     *lab.Space // where the generator runs
	generator *pktgen.Generator
	sink      *pktgen.Sink

	cost []float64 // CPU ns a delivered packet, one entry a repetition
	rate []float64 // delivered packets a second
	lost []float64 // share of the packets sent that did not arrive
}

// newSink attaches a sink for generated packets.
func newSink(kind pktgen.SinkKind, space *lab.Space, device string, mark int) (*pktgen.Sink, error) {
	index, err := space.Index(device)
	if err != nil {
		return nil, err
	}
	var sink *pktgen.Sink
	err = space.Do(func() (err error) {
		sink, err = pktgen.NewSink(kind, index, mark, markPort)
		return err
	})
	return sink, err
}

// newGenerator loads a generator for one device.
func newGenerator(t traffic, space *lab.Space, device string) (*pktgen.Generator, error) {
	index, err := space.Index(device)
	if err != nil {
		return nil, err
	}
	return pktgen.NewGenerator(pktgen.Config{Device: index, Frames: [][]byte{t.frame}, Tunnels: t.tunnels})
}

// measure runs the generator for d on one CPU, after a warm-up, and records one repetition.
func (l *lane) measure(ctx context.Context, cpu int, warm, d time.Duration) error {
	return l.space.Pinned(cpu, func() error {
		if _, err := l.generator.Flood(ctx, warm); err != nil {
			return err
		}
		before, err := settled(ctx, l.sink)
		if err != nil {
			return err
		}
		run, err := l.generator.Flood(ctx, d)
		if err != nil {
			return err
		}
		after, err := settled(ctx, l.sink)
		if err != nil {
			return err
		}
		delivered := float64(after - before)
		if delivered < float64(run.Sent)/100 {
			return fmt.Errorf("%.0f of %d packets arrived", delivered, run.Sent)
		}
		l.cost = append(l.cost, float64(run.CPU.Nanoseconds())/delivered)
		l.rate = append(l.rate, delivered/run.Elapsed.Seconds())
		l.lost = append(l.lost, 1-delivered/float64(run.Sent))
		return nil
	})
}

// settled reads a sink once nothing arrives there any more.
func settled(ctx context.Context, sink *pktgen.Sink) (uint64, error) {
	const attempts = 1000
	last, err := sink.Count()
	for range attempts {
		if err != nil {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Millisecond):
		}
		now, again := sink.Count()
		if now == last {
			return now, again
		}
		last, err = now, again
	}
	return 0, errors.New("packets still arrive although none are sent")
}

// ratio is how many times cheaper l is than reference.
func (l *lane) ratio(reference *lane) float64 { return medianRatio(reference.cost, l.cost) }
