// SPDX-License-Identifier: GPL-2.0-or-later

package control

import (
	"bufio"
	"encoding/json"
	"iter"
	"net/http"
	"time"
)

// lines writes an answer of one JSON object a line.
type lines struct {
	control *http.ResponseController
	buffer  *bufio.Writer
	encoder *json.Encoder
	n       int
}

func newLines(w http.ResponseWriter) *lines {
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Time{}) //nolint:errcheck // the request is read; its deadline would end a long answer
	w.Header().Set("Content-Type", "application/x-ndjson")
	buffer := bufio.NewWriterSize(w, 64<<10)
	return &lines{control: control, buffer: buffer, encoder: json.NewEncoder(buffer)}
}

// linesPerDeadline is how many objects may be written before the time for them starts anew.
const linesPerDeadline = 1024

func (l *lines) write(value any) error {
	if l.n%linesPerDeadline == 0 {
		if err := l.control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
	}
	l.n++
	return l.encoder.Encode(value)
}

// flush sends what was written.
func (l *lines) flush() error {
	if err := l.buffer.Flush(); err != nil {
		return err
	}
	return l.control.Flush()
}

// writeLines streams a list. An error of the list before the first object is an answer; later it can only cut the
// stream short, which the client takes for what it is.
func writeLines[T any](w http.ResponseWriter, list iter.Seq2[T, error]) error {
	out := newLines(w)
	for item, err := range list {
		switch {
		case err != nil && out.n == 0:
			return err
		case err != nil:
			panic(http.ErrAbortHandler)
		}
		if out.write(item) != nil {
			return nil // whoever asked is gone
		}
	}
	out.flush() //nolint:errcheck // as above
	return nil
}
