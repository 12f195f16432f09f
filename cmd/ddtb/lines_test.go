// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// writes hands on what is written, each call apart.
type writes chan string

func (w writes) Write(b []byte) (int, error) {
	w <- string(b)
	return len(b), nil
}

func TestLinesWaitForEachOther(t *testing.T) {
	out := make(writes, 100)
	log := zerolog.New(&lines{out: out})
	log.Info().Msg("one")
	log.Info().Msg("two")
	text := ""
	for strings.Count(text, "\n") < 2 { // on a busy machine the first may be gone before the second comes
		text += <-out
	}
	if want := `{"level":"info","message":"one"}` + "\n" + `{"level":"info","message":"two"}` + "\n"; text != want {
		t.Errorf("written was %q, want %q", text, want)
	}
}

// TestLinesOfWarnings: a warning is written when the call returns, and what came before it stands before it.
func TestLinesOfWarnings(t *testing.T) {
	out := make(writes, 100)
	log := zerolog.New(&lines{out: out})
	log.Info().Msg("one")
	log.Warn().Msg("two")
	text := ""
	for len(out) > 0 {
		text += <-out
	}
	if !strings.HasSuffix(text, `"two"}`+"\n") || !strings.HasPrefix(text, `{"level":"info","message":"one"}`+"\n") {
		t.Errorf("written was %q", text)
	}
}

// TestLinesAreBounded: many lines do not wait.
func TestLinesAreBounded(t *testing.T) {
	l := &lines{out: io.Discard}
	for i := range 10_000 {
		if _, err := l.WriteLevel(zerolog.InfoLevel, fmt.Appendf(nil, "line %d of some length\n", i)); err != nil {
			t.Fatal(err)
		}
		l.mu.Lock()
		if n := len(l.waiting); n > linesSize {
			t.Fatalf("%d octets wait", n)
		}
		l.mu.Unlock()
	}
}
