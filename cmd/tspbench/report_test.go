// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

// TestResultLines holds the lines that programs read: four words, the number without exponent for what people count.
func TestResultLines(t *testing.T) {
	for _, test := range []struct {
		figure figure
		want   string
	}{
		{figure{name: "login.local.per_s", value: 5123.7, unit: "logins/s"}, "result login.local.per_s 5124 logins/s"},
		{figure{name: "ping.vs_direct", value: 1.0349, unit: "x"}, "result ping.vs_direct 1.03 x"},
		{figure{name: "restart.50k.lost_packets", value: 0, unit: "packets"}, "result restart.50k.lost_packets 0 packets"},
		{figure{name: "plain.up.pps", value: 2252461.3, unit: "packets/s"}, "result plain.up.pps 2252461 packets/s"},
		{figure{name: "tiny", value: 0.01234, unit: "x"}, "result tiny 0.0123 x"},
	} {
		if got := test.figure.line(); got != test.want {
			t.Errorf("line = %q, want %q", got, test.want)
		}
	}
}

func TestGoal(t *testing.T) {
	for _, test := range []struct {
		goal  goal
		value float64
		want  bool
	}{
		{goal{}, -1, true},
		{goal{1.4, atLeast}, 1.4, true},
		{goal{1.4, atLeast}, 1.39, false},
		{goal{0, atMost}, 0, true},
		{goal{0, atMost}, 1, false},
	} {
		if got := test.goal.reached(test.value); got != test.want {
			t.Errorf("%v reached by %v: %v, want %v", test.goal, test.value, got, test.want)
		}
	}
}

// TestReport reads what a whole run prints: lines, a table with each goal and whether it is reached, what is below.
func TestReport(t *testing.T) {
	out := &bytes.Buffer{}
	r := newReport(out, io.Discard)
	r.add("a.ratio", 2.5, "x", goal{2.4, atLeast})
	r.add("b.ratio", 1.2, "x", goal{1.1, atMost})
	r.add("c.ns", 200, "ns/packet", goal{})
	if err := r.print(); err != nil {
		t.Errorf("print = %v; a figure below its goal is no error", err)
	}
	for _, want := range []string{"result a.ratio 2.5 x\n", "result b.ratio 1.2 x\n", ">= 2.4", "<= 1.1", "below goal: b.ratio\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if n := strings.Count(out.String(), "BELOW GOAL"); n != 1 {
		t.Errorf("%d figures said to be below their goal, want 1:\n%s", n, out)
	}
}

// TestReportFailure: what could not be measured is an error, and so is a figure that is no number.
func TestReportFailure(t *testing.T) {
	r := newReport(io.Discard, io.Discard)
	r.add("ratio", math.NaN(), "x", goal{})
	r.fail("tcp", errors.New("no iperf3"))
	err := r.print()
	if err == nil || !strings.Contains(err.Error(), "tcp: no iperf3") || !strings.Contains(err.Error(), "ratio") {
		t.Errorf("print = %v, want both failures", err)
	}
	if len(r.figures) != 0 {
		t.Errorf("figures = %v, want none", r.figures)
	}
}

// TestAside: what is measured beside shows in the growth table, in failures, and nowhere else.
func TestAside(t *testing.T) {
	out := &bytes.Buffer{}
	r := newReport(out, io.Discard)
	r.growth.set("login.local.per_s", 50000, 6000)
	r.aside(func(r *report) {
		r.add("login.local.per_s", 5000, "logins/s", goal{})
		r.growth.set("login.local.per_s", 1000, 5000)
		r.fail("daemon", errors.New("gone"))
	})
	if err := r.print(); err == nil {
		t.Error("a failure aside got lost")
	}
	text := out.String()
	if strings.Contains(text, "result") || !strings.Contains(text, "GROWTH") {
		t.Errorf("want only the growth table:\n%s", text)
	}
	if row := strings.Fields(text[strings.Index(text, "login.local.per_s"):]); row[1] != "5000" || row[2] != "6000" {
		t.Errorf("row = %v, want 1000 sessions before 50000", row)
	}
}
