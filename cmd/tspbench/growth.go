// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// growth shows how figures change with the number of sessions: a row a figure, a column a number.
type growth struct {
	rows  []string
	cells map[string]map[int]string
}

// set fills one cell. Rows come in the order they were first set.
func (g *growth) set(row string, sessions int, value float64) {
	if g.cells == nil {
		g.cells = map[string]map[int]string{}
	}
	if g.cells[row] == nil {
		g.rows = append(g.rows, row)
		g.cells[row] = map[int]string{}
	}
	g.cells[row][sessions] = number(value)
}

func (g *growth) print(out io.Writer) {
	columns := g.columns()
	if len(columns) < 2 {
		return // nothing grew
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "GROWTH WITH SESSIONS")
	for _, sessions := range columns {
		fmt.Fprintf(w, "\t%d", sessions)
	}
	fmt.Fprintln(w)
	for _, row := range g.rows {
		fmt.Fprint(w, row)
		for _, sessions := range columns {
			fmt.Fprintf(w, "\t%s", cmp.Or(g.cells[row][sessions], "-"))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // as fmt.Fprintln: standard output has nobody to complain to
	fmt.Fprintln(out, "(Packets: tunnels with traffic. Sessions of a million: the broker's alone, the daemon's otherwise.)")
}

func (g *growth) columns() []int {
	var columns []int
	for _, row := range g.cells {
		for sessions := range row {
			if !slices.Contains(columns, sessions) {
				columns = append(columns, sessions)
			}
		}
	}
	slices.Sort(columns)
	return columns
}
