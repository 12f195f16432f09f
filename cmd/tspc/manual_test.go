// SPDX-License-Identifier: GPL-2.0-or-later

package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestManual: tspc(8) has every option and every kind of event, and no option that there is not.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("../../contrib/man/tspc.8")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(text), `\-`, "-")
	root := command(io.Discard, io.Discard, func(string) string { return "" })
	there := map[string]bool{}
	for _, c := range append([]*cobra.Command{root}, root.Commands()...) {
		for _, option := range regexp.MustCompile(`--[a-z][a-z-]*[a-z]`).FindAllString(c.UsageString(), -1) {
			there[option] = true
		}
	}
	delete(there, "--help") // cobra's, as everywhere
	said := map[string]bool{}
	for _, option := range regexp.MustCompile(`--[a-z][a-z-]*[a-z]`).FindAllString(page, -1) {
		said[option] = true
	}
	for option := range there {
		if !said[option] {
			t.Errorf("tspc.8 lacks %s", option)
		}
	}
	for option := range said {
		if !there[option] && option != "--now" { // systemctl's
			t.Errorf("tspc.8 has %s, which there is not", option)
		}
	}
	source, err := os.ReadFile("agent/event.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := regexp.MustCompile(`Kind = "([a-z]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(kinds) < 8 {
		t.Fatalf("%d kinds of event found", len(kinds))
	}
	for _, kind := range kinds {
		if !regexp.MustCompile(`(?m)^\.BR? .*\b` + kind[1] + `\b`).MatchString(page) {
			t.Errorf("tspc.8 lacks the event %s", kind[1])
		}
	}
}

// TestUnit: the unit grants what the program asks for, and starts what is installed.
func TestUnit(t *testing.T) {
	text, err := os.ReadFile("../../contrib/systemd/tspc.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"Type=notify", "ExecStart=/usr/local/sbin/tspc", "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW", "DeviceAllow=/dev/net/tun rw",
		"RestartPreventExitStatus=2", "RuntimeDirectory=tspc", "RuntimeDirectoryPreserve=yes",
	} {
		if !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("the unit lacks %s", line)
		}
	}
	if exitUsage != 2 {
		t.Errorf("the unit prevents a restart for exit code 2, the program uses %d", exitUsage)
	}
}
