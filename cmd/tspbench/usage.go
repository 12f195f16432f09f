// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// How long memory waits for garbage to go back to the system, and how long it must not have become less.
const (
	memoryWithin = 20 * time.Second
	memoryCalm   = 3 * time.Second
)

// memory is the daemon's anonymous memory in octets: what it allocated, without its program text and the kernel's tunnel
// table that it maps. What logins by the thousand left as garbage is not part of it: that goes in the seconds after them.
func (d *daemon) memory() (uint64, error) {
	least, err := anonymousMemory(d.process.Pid)
	begun := time.Now()
	for last := begun; err == nil && time.Since(last) < memoryCalm && time.Since(begun) < memoryWithin; {
		time.Sleep(memoryCalm / 30)
		var now uint64
		if now, err = anonymousMemory(d.process.Pid); now < least-least/100 {
			last = time.Now()
		}
		least = min(least, now)
	}
	return least, err
}

// anonymousMemory reads RssAnon of a process.
func anonymousMemory(pid int) (uint64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("memory: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "RssAnon:" && fields[2] == "kB" {
			kilobytes, err := strconv.ParseUint(fields[1], 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, errors.New("memory: no RssAnon in /proc/PID/status")
}

// cpu is the processor time the daemon and this process have had so far.
func (d *daemon) cpu() (daemon, own time.Duration, err error) {
	if daemon, err = processorTime(d.process.Pid); err != nil {
		return 0, 0, err
	}
	own, err = processorTime(os.Getpid())
	return daemon, own, err
}

// tick is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on every Linux.
const tick = time.Second / 100

// processorTime reads utime and stime of a process.
func processorTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("processor time: %w", err)
	}
	_, rest, _ := bytes.Cut(stat, []byte(") ")) // the name before it may hold anything
	fields := strings.Fields(string(rest))
	if len(fields) < 13 {
		return 0, errors.New("processor time: /proc/PID/stat is too short")
	}
	var sum time.Duration
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseUint(field, 10, 63)
		if err != nil {
			return 0, fmt.Errorf("processor time: %w", err)
		}
		sum += time.Duration(ticks) * tick
	}
	return sum, nil
}

// busy is the share of all processor time, in percent, that programs have had for a moment: what else runs on the machine
// while nothing is measured.
func busy(ctx context.Context) (float64, error) {
	const moment = 300 * time.Millisecond
	used, all, err := processorTimes()
	if err != nil {
		return 0, err
	}
	if err := wait(ctx, moment); err != nil {
		return 0, err
	}
	usedThen, allThen, err := processorTimes()
	if err != nil || allThen == all {
		return 0, err
	}
	return 100 * float64(usedThen-used) / float64(allThen-all), nil
}

// processorTimes reads the first line of /proc/stat, in ticks.
func processorTimes() (used, all uint64, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, fmt.Errorf("processor times: %w", err)
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	for i, field := range strings.Fields(string(line)) {
		const name, idle, iowait = 0, 4, 5 // user, nice and system before idle; interrupts and stolen time behind iowait
		if i == name {
			continue
		}
		ticks, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("processor times: %w", err)
		}
		if all += ticks; i != idle && i != iowait {
			used += ticks
		}
	}
	return used, all, nil
}
