// SPDX-License-Identifier: GPL-2.0-or-later

package pktgen

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// meter measures the CPU time of the calling thread and of the softirq thread of the CPU it is pinned to: a packet is
// handled by the one or the other, as the scheduler likes.
type meter struct {
	number  int    // of the CPU
	softirq string // schedstat file
	start   time.Time
	cpu     time.Duration
}

// begin starts the measurement. Finding the softirq thread takes a while, so it is done once a CPU.
func (m *meter) begin() error {
	number, err := pinnedCPU()
	if err != nil {
		return err
	}
	if m.softirq == "" || m.number != number {
		if m.softirq, err = softirqThread(number); err != nil {
			return err
		}
		m.number = number
	}
	if m.cpu, err = m.read(); err != nil {
		return err
	}
	m.start = time.Now()
	return nil
}

func (m *meter) stop() (elapsed, cpu time.Duration, err error) {
	elapsed = time.Since(m.start)
	now, err := m.read()
	return elapsed, now - m.cpu, err
}

func (m *meter) read() (time.Duration, error) {
	var own unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &own); err != nil {
		return 0, fmt.Errorf("clock_gettime: %w", err)
	}
	text, err := os.ReadFile(m.softirq)
	if err != nil {
		return 0, fmt.Errorf("CPU time of the softirq thread (CONFIG_SCHED_INFO): %w", err)
	}
	fields := bytes.Fields(text) // time on the CPU in ns, time waited, slices
	if len(fields) == 0 {
		return 0, fmt.Errorf("%s: empty", m.softirq)
	}
	softirq, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", m.softirq, err)
	}
	return time.Duration(own.Nano() + softirq), nil
}

// pinnedCPU says which CPU the calling thread is pinned to.
func pinnedCPU() (int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, fmt.Errorf("sched_getaffinity: %w", err)
	}
	if set.Count() != 1 {
		return 0, errors.New("the generator's thread is not pinned to one CPU")
	}
	cpu := 0
	for !set.IsSet(cpu) {
		cpu++
	}
	return cpu, nil
}

// softirqThread finds the schedstat file of ksoftirqd/cpu.
func softirqThread(cpu int) (string, error) {
	name := fmt.Sprintf("ksoftirqd/%d", cpu)
	files, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		if comm, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(comm)) == name {
			return filepath.Join(filepath.Dir(file), "schedstat"), nil
		}
	}
	return "", fmt.Errorf("no thread %s: it is needed to count CPU time", name)
}
