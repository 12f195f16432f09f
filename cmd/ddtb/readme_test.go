// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ddtb/cmd/ddtb/config"
)

const (
	readme  = "../../README.md"
	example = "../../contrib/ddtb/ddtb.toml"
)

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks gives what stands in fences of a language.
func blocks(text, language string) []string {
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	return out
}

// TestReadmeConfigurations: every configuration that is shown can be used as it stands.
func TestReadmeConfigurations(t *testing.T) {
	shown := append(blocks(readText(t, readme), "toml"), readText(t, example))
	if len(shown) < 3 {
		t.Fatalf("%d configurations found", len(shown))
	}
	for _, text := range shown {
		c, err := config.Parse("README.md", []byte(text))
		if err == nil {
			err = pretend().complete(&c)
		}
		if err == nil {
			err = c.Settings().Validate()
		}
		if err != nil {
			t.Errorf("%v in\n%s", err, text)
		}
	}
}

// TestReadmeLinks: what is linked to in this tree is there.
func TestReadmeLinks(t *testing.T) {
	for _, file := range []string{readme, "../../contrib/README.md"} {
		for _, m := range regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(readText(t, file), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

// TestReadmeCommands: every command of ours that is shown exists, with the flags shown, and every file and make target.
func TestReadmeCommands(t *testing.T) {
	programs := t.TempDir()
	build := exec.Command("go", "build", "-o", programs, "ddtb/cmd/ddtb", "ddtb/cmd/ddtbctl", "ddtb/cmd/tspc")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	makefile := readText(t, "../../Makefile")
	lines := strings.Split(strings.Join(blocks(readText(t, readme), "sh"), "\n"), "\n")
	for _, m := range regexp.MustCompile("(?m)\\| `([^`]+)` \\|$").FindAllStringSubmatch(readText(t, "../../contrib/README.md"), -1) {
		lines = append(lines, m[1])
	}
	checked := 0
	for _, line := range lines {
		line, _, _ = strings.Cut(line, " #")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		checked++
		for _, word := range words {
			if strings.HasPrefix(word, "contrib/") {
				if _, err := os.Stat("../../" + word); err != nil {
					t.Errorf("%s: %v", line, err)
				}
			}
		}
		switch words[0] {
		case "make":
			for _, target := range words[1:] {
				if !regexp.MustCompile(`(?m)^` + target + `:`).MatchString(makefile) {
					t.Errorf("%s: no such target", line)
				}
			}
		case "ddtb", "ddtbctl", "tspc":
			tryCommand(t, filepath.Join(programs, words[0]), words)
		case "cp", "sysctl", "nft", "systemctl", "systemd-analyze", "man", "promtool":
		default:
			t.Errorf("%s: a program that this test does not know", line)
		}
	}
	if checked < 20 {
		t.Errorf("%d commands found", checked)
	}
}

// tryCommand asks a program for the help of a command line: that reads all flags, and names the command it understood.
func tryCommand(t *testing.T, program string, words []string) {
	t.Helper()
	out, err := exec.Command(program, append(words[1:], "--help")...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v: %s", strings.Join(words, " "), err, out)
		return
	}
	deep := map[string]int{"ddtb": 2, "ddtbctl": 3, "tspc": 2}[words[0]] // words of a command
	usage := words[0]
	for _, word := range words[1:min(deep, len(words))] {
		if strings.HasPrefix(word, "-") {
			break
		}
		usage += " " + word
	}
	if !strings.Contains(string(out), "\n  "+usage) {
		t.Errorf("%s: no such command:\n%s", strings.Join(words, " "), out)
	}
}
