// SPDX-License-Identifier: GPL-2.0-or-later

package pktgen_test

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ddtb/cmd/tspbench/lab"
	"ddtb/cmd/tspbench/pktgen"
)

// mark is where the test's frames bear a number, behind Ethernet and IPv4 header.
const mark = 14 + 20

// frame is an Ethernet frame with an IPv4 header from 10.0.0.0 and a number behind it.
func frame(length int, number uint16) []byte {
	b := make([]byte, length)
	copy(b, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1})
	binary.BigEndian.PutUint16(b[12:], unix.ETH_P_IP)
	b[14], b[26] = 0x45, 10
	binary.BigEndian.PutUint16(b[mark:], number)
	return b
}

// wire is a veth pair, one end each in a namespace.
type wire struct {
	left, right       *lab.Space
	leftEnd, rightEnd int // ifindex
}

func newWire(t *testing.T) wire {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	var w wire
	for name, space := range map[string]**lab.Space{"left": &w.left, "right": &w.right} {
		var err error
		if *space, err = lab.NewSpace(name); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*space).Close() })
	}
	a := lab.End{Space: w.left, Name: "tb-left", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
	b := lab.End{Space: w.right, Name: "tb-right", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}}
	if err := lab.Join(a, b); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.leftEnd, err = w.left.Index("tb-left"); err != nil {
		t.Fatal(err)
	}
	if w.rightEnd, err = w.right.Index("tb-right"); err != nil {
		t.Fatal(err)
	}
	return w
}

// receive sends on the left and gives what was sent and what a sink on the right has seen with one number.
func (w wire) receive(t *testing.T, kind pktgen.SinkKind, c pktgen.Config, number uint16,
	send func(context.Context, *pktgen.Generator, *pktgen.Sink) (pktgen.Run, error)) (pktgen.Run, uint64) {
	t.Helper()
	var sink *pktgen.Sink
	err := w.right.Do(func() (err error) {
		sink, err = pktgen.NewSink(kind, w.rightEnd, mark, number)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	c.Device = w.leftEnd
	generator, err := pktgen.NewGenerator(c)
	if err != nil {
		t.Fatal(err)
	}
	defer generator.Close()
	var run pktgen.Run
	err = w.left.Pinned(0, func() (err error) {
		run, err = send(context.Background(), generator, sink)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	count, before := uint64(0), ^uint64(0)
	for count != before { // the last ones may still be on their way
		time.Sleep(20 * time.Millisecond)
		before = count
		if count, err = sink.Count(); err != nil {
			t.Fatal(err)
		}
	}
	return run, count
}

// TestRootFlood sends as fast as it can; a sink of XDP sees each packet.
func TestRootFlood(t *testing.T) {
	w := newWire(t)
	run, count := w.receive(t, pktgen.SinkXDP, pktgen.Config{Frames: [][]byte{frame(78, 7)}}, 7, flood)
	if run.Sent == 0 || count != run.Sent {
		t.Errorf("sent %d, received %d", run.Sent, count)
	}
	if run.CPU <= 0 || run.Elapsed <= 0 {
		t.Errorf("took %v and %v of a processor", run.Elapsed, run.CPU)
	}
}

// TestRootTemplates sends frames in turn; a sink of tc counts those with its number and no others.
func TestRootTemplates(t *testing.T) {
	w := newWire(t)
	frames := [][]byte{frame(64, 1), frame(64, 2), frame(64, 3), frame(64, 4)}
	run, count := w.receive(t, pktgen.SinkTC, pktgen.Config{Frames: frames}, 3, stream)
	if run.Sent == 0 || count != run.Sent/4 {
		t.Errorf("sent %d in four kinds, received %d of one", run.Sent, count)
	}
}

// TestRootTunnels sends random tunnels: the number behind the header grows with the tunnel, so that one in sixteen has it.
func TestRootTunnels(t *testing.T) {
	w := newWire(t)
	const tunnels = 16
	template := frame(128, 0)
	run, count := w.receive(t, pktgen.SinkXDP, pktgen.Config{
		Frames:  [][]byte{template},
		Tunnels: pktgen.Tunnels{Count: tunnels, Outer: 14, Ports: true, Inner: 50},
	}, 5, flood)
	share := float64(count) / float64(run.Sent)
	if share < 0.9/tunnels || share > 1.1/tunnels {
		t.Errorf("of %d packets %d are of one tunnel of %d", run.Sent, count, tunnels)
	}
}

// stream sends at a steady rate until some have arrived.
func stream(ctx context.Context, g *pktgen.Generator, sink *pktgen.Sink) (pktgen.Run, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	go func() {
		defer cancel()
		for n, err := uint64(0), error(nil); n < 64 && err == nil && ctx.Err() == nil; time.Sleep(time.Millisecond) {
			n, err = sink.Count()
		}
	}()
	return g.Stream(ctx, 10_000)
}

func flood(ctx context.Context, g *pktgen.Generator, _ *pktgen.Sink) (pktgen.Run, error) {
	return g.Flood(ctx, time.Millisecond)
}

// TestConfig refuses what the generator's program could not send.
func TestConfig(t *testing.T) {
	for name, frames := range map[string][][]byte{
		"none":    nil,
		"short":   {frame(63, 0)},
		"long":    {frame(129, 0)},
		"unequal": {frame(64, 0), frame(65, 0)},
		"many":    make([][]byte, pktgen.MaxTemplates+1),
	} {
		if _, err := pktgen.NewGenerator(pktgen.Config{Frames: frames}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
