// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"ddtb/cmd/ddtb/config"
)

//go:generate go test -run ^TestManualOfConfiguration$ . -update

var update = flag.Bool("update", false, "write contrib/man/ddtb.toml.5 anew")

const (
	configPage = "../../contrib/man/ddtb.toml.5"
	daemonPage = "../../contrib/man/ddtb.8"
)

// TestManualOfConfiguration: ddtb.toml(5) is what the reference says.
func TestManualOfConfiguration(t *testing.T) {
	want := renderPage(config.Reference)
	if *update {
		if err := os.WriteFile(configPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(configPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what reference.toml says: run make generate", configPage)
	}
}

// TestManualOfCommands: ddtb(8) has every command and every flag of the command line, and no others.
func TestManualOfCommands(t *testing.T) {
	text, err := os.ReadFile(daemonPage)
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	known := map[string]bool{"help": true, "version": true}
	root := newRoot(program{})
	for _, c := range append(root.Commands(), root) {
		if c != root && !strings.Contains(page, "\n.It Cm "+c.Name()+"\n") {
			t.Errorf("ddtb.8 lacks the command %s", c.Name())
		}
		for _, m := range regexp.MustCompile(`(?m)^\s*(?:-[a-z], )?--([a-z-]+)`).FindAllStringSubmatch(c.LocalFlags().FlagUsages(), -1) {
			known[m[1]] = true
		}
	}
	said := map[string]bool{}
	for _, m := range regexp.MustCompile(`Fl (?:[a-z] \| )?-([a-z][a-z-]+)`).FindAllStringSubmatch(page, -1) {
		said[m[1]] = true
		if !known[m[1]] {
			t.Errorf("ddtb.8 has --%s, which there is not", m[1])
		}
	}
	for name := range known {
		if !said[name] {
			t.Errorf("ddtb.8 lacks --%s", name)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^\.It Cm (\S+)$`).FindAllStringSubmatch(page, -1) {
		if found, _, err := root.Find([]string{m[1]}); err != nil || found == root {
			t.Errorf("ddtb.8 has the command %s, which there is not", m[1])
		}
	}
}

const pageHead = `.\" SPDX-License-Identifier: GPL-2.0-or-later
.\" Made of cmd/ddtb/config/reference.toml by make generate.
.Dd November 22, 2026
.Dt DDTB.TOML 5
.Os
.Sh NAME
.Nm ddtb.toml
.Nd configuration of ddtb
.Sh DESCRIPTION
`

const pageFoot = `.Sh FILES
.Pa /etc/ddtb/ddtb.toml
.Sh SEE ALSO
.Xr ddtb 8 ,
.Xr ddtbctl 8
`

// setting is a line of the reference that sets a key: a "#" before it if there is no default, words behind it perhaps.
var setting = regexp.MustCompile(`^#?([a-z0-9_]+ = .*?)(?:\s+# (.*))?$`)

// renderPage makes mdoc(7) of the reference. Blocks of lines are apart by blank lines; each is words, then keys.
func renderPage(reference string) string {
	var page strings.Builder
	page.WriteString(pageHead)
	listing := false
	list := func(on bool) {
		if on != listing {
			page.WriteString(map[bool]string{true: ".Bl -tag -width Ds\n", false: ".El\n"}[on])
		}
		listing = on
	}
	for _, block := range regexp.MustCompile(`\n\n+`).Split(strings.TrimSpace(reference), -1) {
		var words []string
		for _, line := range strings.Split(block, "\n") {
			header := strings.TrimPrefix(line, "#")
			key := setting.FindStringSubmatch(line)
			switch {
			case strings.HasPrefix(header, "["):
				list(false)
				page.WriteString(".Ss " + escape(header) + "\n")
				flush(&page, &words)
			case key != nil:
				if key[2] != "" && len(words) > 0 { // they are about all keys of the block
					list(false)
					page.WriteString(".Pp\n")
					flush(&page, &words)
				}
				list(true)
				page.WriteString(".It Ic " + escape(key[1]) + "\n")
				if key[2] != "" {
					page.WriteString(escape(key[2]) + "\n")
				}
			case strings.HasPrefix(line, "# "):
				words = append(words, strings.TrimPrefix(line, "# "))
				continue
			}
			if key != nil && key[2] == "" && !followed(block, line) {
				flush(&page, &words)
			}
		}
		if len(words) > 0 {
			list(false)
			page.WriteString(".Pp\n")
			flush(&page, &words)
		}
	}
	list(false)
	page.WriteString(pageFoot)
	return regexp.MustCompile(`(?m)^(\.S[hs] .*\n)\.Pp\n`).ReplaceAllString(page.String(), "$1")
}

// followed reports whether another key stands right behind a line.
func followed(block, line string) bool {
	_, rest, _ := strings.Cut(block, line+"\n")
	next, _, _ := strings.Cut(rest, "\n")
	return setting.MatchString(next)
}

// sentence is the end of one, of which each gets a line of its own in mdoc(7).
var sentence = regexp.MustCompile(`([.:][)]?) +`)

func flush(page *strings.Builder, words *[]string) {
	if len(*words) > 0 {
		text := escape(strings.Join(*words, " "))
		page.WriteString(sentence.ReplaceAllString(text, "$1\n") + "\n")
	}
	*words = nil
}

// escape keeps roff from reading words as its own.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `"`, `\(dq`, "`", `\(ga`).Replace(text)
	return regexp.MustCompile(`(?m)^([.'])`).ReplaceAllString(text, `\&$1`)
}
