// SPDX-License-Identifier: GPL-2.0-or-later

package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// CPUs gives the CPUs that this process may use.
func CPUs() ([]int, error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return nil, fmt.Errorf("sched_getaffinity: %w", err)
	}
	var cpus []int
	for cpu := 0; len(cpus) < allowed.Count(); cpu++ {
		if allowed.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// UseCPUs keeps this process, and what it starts from now on, on the first n of the CPUs it may use, or on all if there
// are fewer.
func UseCPUs(n int) error {
	allowed, err := CPUs()
	if err != nil {
		return err
	}
	if n < 1 {
		return fmt.Errorf("%d CPUs wanted", n)
	}
	return Confine(allowed[:min(n, len(allowed))])
}

// Confine keeps this process, and what it starts from now on, on some CPUs. It is called while few threads run: those that
// begin meanwhile may be missed.
func Confine(cpus []int) error {
	var used unix.CPUSet
	for _, cpu := range cpus {
		used.Set(cpu)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("threads: %w", err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return fmt.Errorf("thread %s: %w", thread.Name(), err)
		}
		if err := unix.SchedSetaffinity(id, &used); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("sched_setaffinity: %w", err)
		}
	}
	runtime.GOMAXPROCS(max(2, len(cpus))) // with one alone everything waits for the disk, as ddtb knows, too
	return nil
}
