// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// goal is what a figure is meant to reach.
type goal struct {
	limit float64
	side  side
}

// side says on which side of its limit a figure is good.
type side uint8

const (
	none side = iota // no goal: the figure stands for itself
	atLeast
	atMost
)

// reached says whether a value meets the goal.
func (g goal) reached(value float64) bool {
	switch g.side {
	case atLeast:
		return value >= g.limit
	case atMost:
		return value <= g.limit
	case none:
	}
	return true
}

func (g goal) String() string {
	switch g.side {
	case atLeast:
		return ">= " + number(g.limit)
	case atMost:
		return "<= " + number(g.limit)
	case none:
	}
	return ""
}

// figure is one number measured.
type figure struct {
	name  string // dotted, without blanks: "xdp.decap.50000.vs_plain"
	value float64
	unit  string // one word; "x" for a ratio
	goal  goal
}

// report collects figures. It prints each as a line for programs as soon as it is there, so that what was measured
// before something failed is not lost, and all of them as a table for people at the end.
type report struct {
	out     io.Writer // figures
	log     io.Writer // progress
	begin   time.Time
	figures []figure
	growth  growth
	failed  []string
}

func newReport(out, log io.Writer) *report { return &report{out: out, log: log, begin: time.Now()} }

// add records a figure and prints its line.
func (r *report) add(name string, value float64, unit string, g goal) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		r.fail(name, fmt.Errorf("measured nothing (%v)", value))
		return
	}
	f := figure{name: name, value: value, unit: unit, goal: g}
	r.figures = append(r.figures, f)
	fmt.Fprintln(r.out, f.line())
}

// line is a figure for programs.
func (f figure) line() string { return "result " + f.name + " " + number(f.value) + " " + f.unit }

// fail records that a subject, or a part of it, could not be measured.
func (r *report) fail(what string, err error) {
	r.failed = append(r.failed, fmt.Sprintf("%s: %v", what, err))
	fmt.Fprintf(r.log, "FAILED %s: %v\n", what, err)
}

// aside runs what is measured for the growth table only: its figures are not those of the goals.
func (r *report) aside(run func(*report)) {
	other := &report{out: io.Discard, log: r.log, begin: r.begin, growth: r.growth, failed: r.failed}
	run(other)
	r.growth, r.failed = other.growth, other.failed
}

// progress tells people what goes on, and how long it has been going on.
func (r *report) progress(format string, arguments ...any) {
	fmt.Fprintf(r.log, "%5.1fs  %s\n", time.Since(r.begin).Seconds(), fmt.Sprintf(format, arguments...))
}

// print writes the tables and returns an error if anything could not be measured. A figure below its goal is no error:
// it is what was measured.
func (r *report) print() error {
	if len(r.figures) > 0 {
		r.table()
	}
	r.growth.print(r.out)
	if below := r.below(); len(below) > 0 {
		fmt.Fprintf(r.out, "\nbelow goal: %s\n", strings.Join(below, ", "))
	}
	if len(r.failed) > 0 {
		return fmt.Errorf("not measured: %s", strings.Join(r.failed, "; "))
	}
	return nil
}

func (r *report) table() {
	fmt.Fprintln(r.out)
	w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FIGURE\tVALUE\tUNIT\tGOAL\t")
	for _, f := range r.figures {
		verdict := ""
		switch {
		case f.goal.side == none:
		case f.goal.reached(f.value):
			verdict = "reached"
		default:
			verdict = "BELOW GOAL"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.name, number(f.value), f.unit, f.goal, verdict)
	}
	_ = w.Flush() // as fmt.Fprintln: standard output has nobody to complain to
}

func (r *report) below() []string {
	var names []string
	for _, f := range r.figures {
		if !f.goal.reached(f.value) {
			names = append(names, f.name)
		}
	}
	return names
}

// number prints whole numbers whole and others with three significant digits.
func number(value float64) string {
	if value == math.Trunc(value) || math.Abs(value) >= 100 {
		return strconv.FormatFloat(math.Round(value), 'f', 0, 64)
	}
	return strconv.FormatFloat(value, 'g', 3, 64)
}
