// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"io"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Log lines wait for others for a moment, unless there are many.
const (
	linesWait = 20 * time.Millisecond
	linesSize = 64 << 10 // octets
)

// lines writes log lines, those of a moment together: there is one for every login, and thousands of logins a second. From
// "warn" on a line is written at once, with all before it, and so is one whose level is not known here, for a terminal.
type lines struct {
	out io.Writer

	mu      sync.Mutex
	waiting []byte
	due     bool // a timer will write
}

var _ zerolog.LevelWriter = (*lines)(nil)

// Write implements io.Writer.
func (l *lines) Write(line []byte) (int, error) { return l.WriteLevel(zerolog.NoLevel, line) }

// WriteLevel implements zerolog.LevelWriter.
func (l *lines) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, line...)
	if level >= zerolog.WarnLevel || len(l.waiting) >= linesSize {
		return len(line), l.write()
	}
	if !l.due {
		l.due = true
		time.AfterFunc(linesWait, l.flush)
	}
	return len(line), nil
}

// flush writes what waits. An error of that has no reader: the log is where it would be told.
func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.due = false
	_ = l.write()
}

func (l *lines) write() error {
	if len(l.waiting) == 0 {
		return nil
	}
	_, err := l.out.Write(l.waiting)
	l.waiting = l.waiting[:0]
	return err
}
