// SPDX-License-Identifier: GPL-2.0-or-later

package xdp

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// TestGraceRounds: who asks during a grace period gets the next one, together with all who ask until it begins.
func TestGraceRounds(t *testing.T) {
	var periods atomic.Int32
	started, proceed := make(chan struct{}, 10), make(chan struct{})
	failure := errors.New("failure")
	g := &grace{sync: func() error {
		n := periods.Add(1)
		started <- struct{}{}
		<-proceed
		if n == 2 {
			return failure
		}
		return nil
	}}
	first := make(chan error, 1)
	go func() { first <- g.wait() }()
	<-started
	var late sync.WaitGroup
	var failed atomic.Int32
	const waiters = 20
	joined := func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.next != nil
	}
	for range waiters {
		late.Go(func() {
			if errors.Is(g.wait(), failure) {
				failed.Add(1)
			}
		})
	}
	for !joined() { // at least one has asked
		runtime.Gosched()
	}
	if n := periods.Load(); n != 1 {
		t.Errorf("%d periods begun while the first lasts", n)
	}
	proceed <- struct{}{}
	if err := <-first; err != nil {
		t.Errorf("the first: %v", err)
	}
	close(proceed)
	late.Wait()
	if n := periods.Load(); n < 2 || n > 1+waiters {
		t.Errorf("%d periods for one and %d late waiters", n, waiters)
	}
	if n := failed.Load(); n < 1 {
		t.Error("nobody was told of the failure")
	}
}

// TestRootGrace runs a long program on one thread; a grace period that begins meanwhile lasts until its end.
func TestRootGrace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("eBPF needs root")
	}
	flags, err := ebpf.NewMap(&ebpf.MapSpec{Name: "dp_flags", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1, Flags: 1 << 10 /* BPF_F_MMAPABLE */})
	check(t, err)
	defer flags.Close()
	memory, err := mapArray(flags)
	check(t, err)
	program, err := ebpf.NewProgram(longProgram(flags))
	check(t, err)
	defer program.Close()
	g, closeGrace, err := newGrace()
	check(t, err)
	defer closeGrace()
	// Two words: the program has begun, it has ended.
	begun, ended := (*uint32)(unsafe.Pointer(&memory[0])), (*uint32)(unsafe.Pointer(&memory[4]))
	for range 5 {
		atomic.StoreUint32(begun, 0)
		atomic.StoreUint32(ended, 0)
		done := make(chan error, 1)
		go func() {
			_, err := program.Run(&ebpf.RunOptions{Data: make([]byte, 64), Repeat: 1})
			done <- err
		}()
		for atomic.LoadUint32(begun) == 0 {
			runtime.Gosched()
		}
		check(t, g.wait())
		if atomic.LoadUint32(ended) == 0 {
			t.Error("the grace period was over before the program")
		}
		check(t, <-done)
	}
}

// longProgram notes in a map that it has begun, asks for the time as often as the verifier lets it, which takes some
// hundredths of a second, and notes that it has ended.
func longProgram(flags *ebpf.Map) *ebpf.ProgramSpec {
	const rounds, calls = 60_000, 13
	note := func(offset uint32) asm.Instructions {
		return asm.Instructions{
			asm.LoadMapValue(asm.R1, flags.FD(), offset),
			asm.StoreImm(asm.R1, 0, 1, asm.Word),
		}
	}
	instructions := append(note(0), asm.Mov.Imm(asm.R6, 0), asm.Add.Imm(asm.R6, 1).WithSymbol("again"))
	for range calls {
		instructions = append(instructions, asm.FnKtimeGetNs.Call())
	}
	instructions = append(instructions, asm.JLT.Imm(asm.R6, rounds, "again"))
	instructions = append(append(instructions, note(4)...), asm.Mov.Imm(asm.R0, xdpPass), asm.Return())
	return &ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: instructions}
}
