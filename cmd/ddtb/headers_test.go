// SPDX-License-Identifier: GPL-2.0-or-later

package main_test

import (
	"bytes"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"
)

// longest is how many lines a file may have without a reason.
const longest = 400

// long are the files above that, each with the reason why it is one file.
var long = map[string]string{
	"kmod/tests/bench/benchnic.c": "a device driver: a module of one file, as such drivers are",
}

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// TestHeaders reads the head of every source: the licence stands in it, as SPDX writes it, within the first three lines.
func TestHeaders(t *testing.T) {
	checked := 0
	files(t, func(name string) {
		source, ok := source(t, name)
		if !ok {
			return
		}
		licence := "SPDX-License-Identifier: GPL-2.0-or-later"
		if strings.HasPrefix(name, "kmod/") {
			licence = "SPDX-License-Identifier: GPL-2.0-only"
		}
		head := bytes.SplitN(source, []byte("\n"), 4)
		if len(head) == 4 {
			head = head[:3]
		}
		if !bytes.Contains(bytes.Join(head, []byte("\n")), []byte(licence)) {
			t.Errorf("%s: no %q in its first three lines", name, licence)
		}
		checked++
	})
	if checked < 20 {
		t.Errorf("only %d sources found: this test no longer sees the tree", checked)
	}
}

// TestFileLength keeps files short enough to read, tests included.
func TestFileLength(t *testing.T) {
	seen := map[string]bool{}
	files(t, func(name string) {
		source, ok := source(t, name)
		if !ok {
			return
		}
		lines := bytes.Count(source, []byte("\n"))
		reason, excused := long[name]
		switch seen[name] = true; {
		case lines > longest && !excused:
			t.Errorf("%s: %d lines, more than %d: split it, or give the reason in headers_test.go", name, lines, longest)
		case lines <= longest && excused:
			t.Errorf("%s: only %d lines, the excuse in headers_test.go (%s) can go", name, lines, reason)
		}
	})
	for name := range long {
		if !seen[name] {
			t.Errorf("headers_test.go excuses %s, which is not there", name)
		}
	}
}

// source reads a file that people write and that bears a licence line: Go, C, Lua, and scripts by their first line.
func source(t *testing.T, name string) (text []byte, ok bool) {
	t.Helper()
	text, err := fs.ReadFile(tree, name)
	if err != nil {
		t.Fatal(err)
	}
	switch path.Ext(name) {
	case ".go", ".c", ".h", ".lua", ".sh":
		return text, !generated.Match(text)
	case "":
		return text, bytes.HasPrefix(text, []byte("#!/"))
	}
	return nil, false
}
