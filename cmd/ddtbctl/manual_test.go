// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestManual: ddtbctl(8) has every command with every flag of it, and no others.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("../../contrib/man/ddtbctl.8")
	if err != nil {
		t.Fatal(err)
	}
	said := commandsOf(string(text))
	root := newRoot(&tool{terminal: terminal{getenv: func(string) string { return "" }}})
	there := map[string]*cobra.Command{}
	collect(root, "", there)
	for name, c := range there {
		flags, found := said[name]
		if !found {
			t.Errorf("ddtbctl.8 lacks the command %q", name)
			continue
		}
		for _, flag := range flagNames(c.LocalNonPersistentFlags().FlagUsages()) {
			if flag != "help" && !slices.Contains(flags, flag) {
				t.Errorf("ddtbctl.8 lacks --%s of %q", flag, name)
			}
		}
		for _, flag := range flags {
			if c.Flags().Lookup(flag) == nil && root.PersistentFlags().Lookup(flag) == nil {
				t.Errorf("ddtbctl.8 has --%s of %q, which there is not", flag, name)
			}
		}
	}
	for name := range said {
		if there[name] == nil {
			t.Errorf("ddtbctl.8 has the command %q, which there is not", name)
		}
	}
	for _, flag := range flagNames(root.PersistentFlags().FlagUsages()) {
		if !strings.Contains(string(text), ".It Fl -"+flag+"\n") && !strings.Contains(string(text), ".It Fl -"+flag+" Ar") {
			t.Errorf("ddtbctl.8 lacks --%s", flag)
		}
	}
}

// flagNames reads the names of flags out of their usages, one a line.
func flagNames(usages string) []string {
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^\s*(?:-[a-z], )?--([a-z-]+)`).FindAllStringSubmatch(usages, -1) {
		names = append(names, m[1])
	}
	return names
}

// collect finds all commands that do something, by their words without the program's. The completion scripts are one.
func collect(c *cobra.Command, words string, into map[string]*cobra.Command) {
	for _, child := range c.Commands() {
		name := strings.TrimSpace(words + " " + child.Name())
		switch {
		case child.Name() == "help":
		case child.Name() == "completion":
			into[name] = child.Commands()[0]
		case child.HasSubCommands():
			collect(child, name, into)
		default:
			into[name] = child
		}
	}
}

// commandsOf gives the commands of a page with the flags that stand with each.
func commandsOf(page string) map[string][]string {
	item := regexp.MustCompile(`(?m)^\.It Ic (.*)$`)
	flag := regexp.MustCompile(`Fl -([a-z-]+)`)
	out := map[string][]string{}
	at := item.FindAllStringSubmatchIndex(page, -1)
	for i, m := range at {
		end := len(page)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		if section := strings.Index(page[m[0]:end], "\n.S"); section >= 0 {
			end = m[0] + section
		}
		name := strings.TrimSpace(regexp.MustCompile(`^[a-z ]+`).FindString(page[m[2]:m[3]]))
		if strings.HasPrefix(name, "completion") {
			name = "completion"
		}
		var flags []string
		for _, f := range flag.FindAllStringSubmatch(page[m[0]:end], -1) {
			flags = append(flags, f[1])
		}
		out[name] = flags
	}
	return out
}
