// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// tableSample is how many rows are held back to learn the widths of the columns; what follows is written at once.
const tableSample = 100

// list writes rows as they come: as a table for people, or as one JSON object a line.
type list struct {
	out    *bufio.Writer
	json   *json.Encoder // nil for a table
	rows   [][]string
	widths []int
	count  int
}

// newList begins a list with the given column titles.
func (t *tool) newList(titles ...string) *list {
	l := &list{out: bufio.NewWriter(t.out)}
	if t.json {
		l.json = json.NewEncoder(l.out)
	} else {
		l.rows = [][]string{titles}
	}
	return l
}

// add writes one item: value as JSON, or what cells gives as a row.
func (l *list) add(value any, cells func() []string) error {
	l.count++
	if l.json != nil {
		return l.json.Encode(value)
	}
	row := cells()
	for i := range row {
		row[i] = visible(row[i])
	}
	if l.widths == nil {
		l.rows = append(l.rows, row)
		if len(l.rows) <= tableSample {
			return nil
		}
		return l.release()
	}
	return l.write(row)
}

// release learns the widths from the rows held back and writes them.
func (l *list) release() error {
	if l.json != nil || l.widths != nil {
		return nil
	}
	l.widths = make([]int, len(l.rows[0]))
	for _, row := range l.rows {
		for i, cell := range row {
			l.widths[i] = max(l.widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range l.rows {
		if err := l.write(row); err != nil {
			return err
		}
	}
	l.rows = nil
	return nil
}

func (l *list) write(row []string) error {
	for i, cell := range row {
		last := i == len(row)-1
		if _, err := l.out.WriteString(cell); err != nil {
			return err
		}
		if pad := l.widths[i] - utf8.RuneCountInString(cell) + 2; !last {
			if _, err := l.out.WriteString(strings.Repeat(" ", max(pad, 2))); err != nil {
				return err
			}
		}
	}
	return l.out.WriteByte('\n')
}

// flush writes what is held back.
func (l *list) flush() error {
	if err := l.release(); err != nil {
		return err
	}
	return l.out.Flush()
}

// fail ends a list that broke off: what came before is written, but no titles over nothing. It gives err.
func (l *list) fail(err error) error {
	if l.count == 0 {
		return err
	}
	return errors.Join(l.flush(), err)
}

// visible is a text without what a terminal would obey: names and notes come from elsewhere.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, text)
}

// line is one "name value" of a description.
type line struct{ name, value string }

// describe writes one thing: as JSON, or as lines of name and value. Lines without value are left out.
func (t *tool) describe(value any, lines []line) error {
	if t.json {
		return json.NewEncoder(t.out).Encode(value)
	}
	return writeLines(t.out, lines)
}

func writeLines(w io.Writer, lines []line) error {
	width := 0
	for _, l := range lines {
		width = max(width, len(l.name))
	}
	for _, l := range lines {
		if l.value == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-*s  %s\n", width, l.name, visible(l.value)); err != nil {
			return err
		}
	}
	return nil
}
